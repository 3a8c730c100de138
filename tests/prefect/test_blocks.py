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
from typing import Any
from urllib.response import addinfourl

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, TypeAdapter, ValidationError

import prefect_topaz
from prefect_topaz import EvoLinkCredentials, EvoLinkUpscaler, OxenCredentials, OxenUpscaler
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.errors import InvalidRequest, Unauthorized
from tests.prefect.support import ROOT, program

BLOCKS = (OxenCredentials, EvoLinkCredentials, OxenUpscaler, EvoLinkUpscaler)
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


OXEN_REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"target_fps": 0}, ("target_fps", "1")),
    ({"target_fps": 61}, ("target_fps", "60")),
    ({"target_fps": float("nan")}, ("target_fps",)),
    ({"resolution": "8k"}, ("resolution", "720p", "1080p", "2k", "4k")),
    ({"resolution": "720p"}, ("resolution", "1080p, 2k, 4k")),
    ({"num_generations": 0}, ("num_generations", "1")),
    ({"num_generations": 5}, ("num_generations", "4")),
    ({"num_generations": 2, "mode": "sync"}, ("num_generations", "1 with mode='sync'")),
    ({"mode": "later"}, ("mode", "queue", "sync")),
    ({"response_format": "b64_json"}, ("response_format", "'url' with mode='queue'")),
    ({"model": "topaz"}, ("model", "topazlabs-upscale-starlight-2-5-video")),
    ({"model_params": {"noise": 0.1}}, ("model_params", "noise", "none")),
    (
        {"model": "topazlabs-proteus-video", "model_params": {"grain": 2}},
        ("grain", "0 to 0.1"),
    ),
    ({"model": "topazlabs-hyperion-2-video", "target_fps": 30}, ("target_fps", "none")),
]
EVOLINK_REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"upscale_factor": 3}, ("upscale_factor", "1, 2, 4")),
    ({"upscale_factor": 2.5}, ("upscale_factor", "1, 2, 4")),
    ({"upscale_factor": True}, ("upscale_factor",)),
    ({"upscale_factor": "3"}, ("upscale_factor", "1", "2", "4")),
    ({"upscale_factor": [2]}, ("upscale_factor",)),
    ({"callback_url": "http://example.com/done"}, ("callback_url", "https")),
    ({"callback_url": "https://10.0.0.1/done"}, ("callback_url", "internal")),
    ({"callback_url": "https://localhost/done"}, ("callback_url", "internal")),
    ({"callback_url": "https://example.com/" + "a" * 2048}, ("callback_url", "2048")),
]


@pytest.mark.parametrize(("options", "said"), OXEN_REFUSED)
def test_oxen_says_what_is_wrong_and_what_is_allowed(options, said) -> None:
    with pytest.raises(ValidationError) as caught:
        OxenUpscaler(credentials=OxenCredentials(api_key=CANARY), **options)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(("options", "said"), EVOLINK_REFUSED)
def test_evolink_says_what_is_wrong_and_what_is_allowed(options, said) -> None:
    with pytest.raises(ValidationError) as caught:
        EvoLinkUpscaler(credentials=EvoLinkCredentials(api_key=CANARY), **options)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "needed"),
    [
        (OxenCredentials, {"api_key": CANARY}),
        (EvoLinkCredentials, {"api_key": CANARY}),
        (OxenUpscaler, {"credentials": {"api_key": CANARY}}),
        (EvoLinkUpscaler, {"credentials": {"api_key": CANARY}}),
    ],
)
def test_a_misspelt_option_is_refused_and_not_ignored(block: Any, needed: dict[str, Any]) -> None:
    """Prefect's blocks take any name: `resolutoin="1080p"` would order 4k."""
    block(**needed)
    with pytest.raises(ValidationError) as caught:
        block(**needed, resolutoin=f"{CANARY}-1080p")
    said = str(caught.value)
    assert all(name in said for name in ("resolutoin", block.__name__, *block.model_fields)), said
    assert CANARY not in said


def test_values_of_one_provider_never_pass_for_the_other() -> None:
    """A key would go to the wrong vendor: unions of blocks try every member."""
    either = TypeAdapter(AnyUpscaler)
    for block, value in (
        (OxenUpscaler, {"resolution": "1080p"}),
        (EvoLinkUpscaler, {"upscale_factor": "4"}),
    ):
        given = {"credentials": {"api_key": CANARY}, **value}
        assert type(either.validate_python(given)) is block
        whole = block(**given).model_dump(context={"include_secrets": True})
        assert type(either.validate_python(whole)) is block
    with pytest.raises(ValidationError) as caught:
        either.validate_python({"credentials": {"api_key": CANARY}, "resolution": "8k"})
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("factor", ["2", 2, 2.0])
def test_the_factor_is_taken_as_text_and_as_a_number(factor: Any) -> None:
    block = EvoLinkUpscaler(credentials=EvoLinkCredentials(api_key="k"), upscale_factor=factor)
    assert block.order().options == {"upscale_factor": "2"}


@pytest.mark.parametrize("block", [OxenCredentials, EvoLinkCredentials])
@pytest.mark.parametrize(
    "address",
    [
        "http://example.com",
        f"http://user:{CANARY}@example.com",
        f"https://user:{CANARY}@example.com",
        f"https://example.com/?key={CANARY}",
        "https://example.com/v1",
        "ftp://example.com",
        "https://[bad",
    ],
)
def test_an_address_that_would_expose_the_key_is_refused(block: Any, address: str) -> None:
    with pytest.raises(ValidationError) as caught:
        block(api_key=SecretStr(CANARY), base_url=address)
    assert "https" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_wrong_value_never_shows_the_key_beside_it() -> None:
    wrong = {"api_key": CANARY, "base_url": "http://example.com"}
    for make in (
        lambda: OxenUpscaler(credentials=wrong),
        lambda: OxenUpscaler(credentials=CANARY),
        lambda: OxenCredentials(api_key=[CANARY]),
        lambda: EvoLinkCredentials(api_key=CANARY, files_url=f"http://me:{CANARY}@x"),
        lambda: EvoLinkUpscaler(
            credentials=EvoLinkCredentials(api_key=CANARY),
            callback_url=f"http://x/?token={CANARY}",
        ),
    ):
        with pytest.raises(ValidationError) as caught:
            make()
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "variable"),
    [(OxenCredentials, "OXEN_API_KEY"), (EvoLinkCredentials, "EVOLINK_API_KEY")],
)
def test_from_env_reads_the_key_or_names_the_variable(block: Any, variable, monkeypatch) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InvalidRequest, match=variable):
        block.from_env()
    monkeypatch.setenv(variable, "  ")
    with pytest.raises(InvalidRequest, match=variable):
        block.from_env()
    monkeypatch.setenv(variable, f"{CANARY}\n")
    assert block.from_env().api_key.get_secret_value() == CANARY


def test_registering_the_package_registers_exactly_four_blocks(api) -> None:
    command = [program("prefect"), "block", "register", "-m", "prefect_topaz"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Successfully registered 4 blocks" in done.stdout
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
