"""The blocks as Prefect sees them: standards, forms, storage, and what they refuse."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from importlib.metadata import entry_points
from io import BytesIO
from urllib.response import addinfourl

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr

import prefect_topaz
from prefect_topaz import (
    EvoLinkCredentials,
    EvoLinkUpscaler,
    OxenCredentials,
    OxenUpscaler,
    StorageLocation,
)
from prefect_topaz.errors import Unauthorized
from tests.prefect.support import ROOT, program

BLOCKS = (OxenCredentials, EvoLinkCredentials, OxenUpscaler, EvoLinkUpscaler, StorageLocation)
CANARY = "sk-canary-a3f91c"


class ShippedLogo(urllib.request.BaseHandler):
    """Serves the logo of this repository for its address on the web, and nothing else."""

    def https_open(self, request: urllib.request.Request) -> addinfourl:
        url = "https://github.com/prefect-topaz/prefect-topaz/raw/main/docs/logo.png"
        assert request.full_url == url
        shipped = ROOT / "docs" / "logo.png"
        assert url.endswith(shipped.relative_to(ROOT).as_posix())
        return addinfourl(BytesIO(shipped.read_bytes()), {}, url, 200)  # type: ignore[arg-type]  # no header matters


@pytest.mark.parametrize("block", BLOCKS)
class TestBlockStandards(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, block: type[Block]) -> type[Block]:
        return block

    @pytest.fixture(autouse=True)
    def _without_network(self) -> Iterator[None]:
        opener = urllib.request.OpenerDirector()
        opener.add_handler(ShippedLogo())
        urllib.request.install_opener(opener)
        yield
        urllib.request.install_opener(None)  # type: ignore[arg-type]  # the default again


def test_slugs_and_names_never_change() -> None:
    """Saved blocks are found by their slugs, for ever."""
    assert {(one._block_type_slug, one._block_type_name) for one in BLOCKS} == {
        ("oxen-credentials", "Oxen.ai Credentials"),
        ("evolink-credentials", "EvoLink Credentials"),
        ("oxen-topaz-upscaler", "Oxen.ai Topaz Upscaler"),
        ("evolink-topaz-upscaler", "EvoLink Topaz Upscaler"),
        ("storage-location", "Storage Location"),
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_has_a_required_field(block: type[Block]) -> None:
    """The server refuses a reference to a block whose fields all have defaults."""
    assert any(field.is_required() for field in block.model_fields.values())


def test_saving_and_loading_keeps_everything_and_hides_the_key(api) -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    credentials = OxenCredentials(api_key=SecretStr(CANARY))
    saved = OxenUpscaler(
        credentials=credentials,
        model="topazlabs-proteus-video",
        resolution="2k",
        target_fps=29.97,
        num_generations=3,
        model_params={"noise": 0.5, "grain": 0.1},
    )
    saved.save(name)
    loaded = OxenUpscaler.load(name)
    assert loaded.order() == saved.order()
    assert loaded.credentials.api_key.get_secret_value() == CANARY
    shown = api.post("block_documents/filter", block_documents={})
    assert name in json.dumps(shown)
    assert CANARY not in json.dumps(shown)
    assert CANARY not in repr(loaded) + str(loaded) + repr(loaded.get_client())


def test_a_preset_refers_to_saved_credentials(api) -> None:
    """A key that is changed in its block is changed for every preset."""
    name = f"shared-{uuid.uuid4().hex[:8]}"
    EvoLinkCredentials(api_key=SecretStr("old-key")).save(name)
    EvoLinkUpscaler(credentials=EvoLinkCredentials.load(name)).save(name)
    EvoLinkCredentials(api_key=SecretStr("new-key")).save(name, overwrite=True)
    assert EvoLinkUpscaler.load(name).credentials.api_key.get_secret_value() == "new-key"


async def test_blocks_are_saved_and_loaded_from_async_code() -> None:
    name = f"async-{uuid.uuid4().hex[:8]}"
    await OxenUpscaler(credentials=OxenCredentials(api_key=CANARY)).asave(name)
    loaded = await OxenUpscaler.aload(name)
    assert loaded.credentials.api_key.get_secret_value() == CANARY


def test_registering_the_package_registers_exactly_five_blocks(api) -> None:
    command = [program("prefect"), "block", "register", "-m", "prefect_topaz"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Successfully registered 5 blocks" in done.stdout
    assert not done.stderr
    known = {one["slug"] for one in api.post("block_types/filter")}
    assert {one._block_type_slug for one in BLOCKS} <= known


def test_a_fresh_process_loads_our_blocks_by_slug_alone() -> None:
    """The entry point does it: nothing of ours is imported there."""
    name = f"by-slug-{uuid.uuid4().hex[:8]}"
    OxenUpscaler(credentials=OxenCredentials(api_key=CANARY)).save(name)
    (declared,) = (one for one in entry_points(group="prefect.collections") if "topaz" in one.name)
    assert declared.value == "prefect_topaz.blocks"
    code = f"""
import sys
from prefect.blocks.core import Block
assert "prefect_topaz" not in sys.modules
block = Block.load("oxen-topaz-upscaler/{name}")
print(type(block).__module__, type(block).__name__, block.credentials.api_key.get_secret_value())
"""
    done = run_python(code)
    assert done.stdout.split() == ["prefect_topaz.blocks", "OxenUpscaler", CANARY]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("name", ["oxen", "evolink"])
def test_check_passes_with_a_good_key_and_raises_with_a_bad_one(name, sandbox, request) -> None:
    good = request.getfixturevalue(name).credentials
    good.check()
    bad = good.model_copy(update={"api_key": SecretStr(CANARY)})
    with pytest.raises(Unauthorized) as caught:
        bad.check()
    assert CANARY not in str(caught.value)
    assert not sandbox.purchases()


async def test_check_serves_async_callers(oxen, evolink) -> None:
    await oxen.credentials.acheck()
    await evolink.credentials.acheck()


def test_every_public_name_is_imported_on_first_use_and_listed() -> None:
    code = """
import sys
import prefect_topaz as package
assert "prefect" not in sys.modules, "the package must stay light"
assert set(package.__all__) <= set(dir(package))
values = {name: getattr(package, name) for name in package.__all__}
assert all(value is not None for value in values.values())
assert list(package.__all__) == sorted(package.__all__)
try:
    package.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise AssertionError
"""
    run_python(code)
    assert len(set(prefect_topaz.__all__)) == len(prefect_topaz.__all__)


def test_no_module_imports_prefects_internals() -> None:
    files = [*(ROOT / "prefect_topaz").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    assert len(files) > 20
    imported: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    assert "prefect.flow" in imported
    assert not [name for name in imported if name.startswith("prefect._")]
