"""An empty folder on every kind of store; the servers are started once, by the first who asks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import pytest
from s3fs import S3FileSystem

from prefect_topaz import places
from prefect_topaz.stores import open_store
from tests.engine.conftest import bench, clip, clock, sandbox  # noqa: F401  # fixtures
from tests.fixtures_s3 import Bucket
from tests.stores import servers
from tests.stores.servers import Server
from tests.stores.stored import Stored

KINDS = ("local", "memory", "s3", "sftp", "azure", "ftp")
JOURNALS = ("local", "memory", "s3", "sftp", "azure")  # which can create exclusively
_numbers = itertools.count(1)

Serve = Callable[[str], Server]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Give a running server by its kind."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def server(kind: str) -> Server:
            if kind not in running:
                folder, root = (
                    tmp_path_factory.mktemp(f"{kind[:4]}-{what}") for what in ("it", "at")
                )
                start = {
                    "sftp": lambda: servers.sftp_server(folder, root),
                    "read-only sftp": lambda: servers.sftp_server(folder, root, "-R"),
                    "ftp": lambda: servers.ftp_server(folder, root),
                    "azure": lambda: servers.azure_server(folder),
                }[kind]
                running[kind] = stack.enter_context(start())
            return running[kind]

        yield server


@pytest.fixture
def stored(request: pytest.FixtureRequest, tmp_path: Path, serve: Serve) -> Callable[..., Stored]:
    """Give an empty folder on a store by its kind."""

    def give(kind: str) -> Stored:
        name = f"place-{next(_numbers)}"
        if kind == "local":
            return Stored(kind, str(tmp_path / name))
        if kind == "memory":
            return Stored(kind, f"memory://{tmp_path.name}-{name}")
        if kind == "s3":
            bucket = request.getfixturevalue("s3")
            return Stored(kind, f"{bucket.url}/{name}", bucket.options)
        server = serve(kind)
        if kind == "azure":
            open_store("abfs://", server.options)[0].mkdir(name)
            return Stored(kind, f"abfs://{name}/in", server.options)
        path = f"{server.root}/{name}" if kind == "sftp" else f"/{name}"
        url = f"{kind}://127.0.0.1:{server.port}{path}"
        return Stored(kind, url, server.options, server.root / name)

    return give


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, stored: Callable[..., Stored]) -> Stored:
    """Give an empty folder on each kind of store in turn."""
    return stored(request.param)


@pytest.fixture
def ssh_home(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose user the SFTP server knows, as ssh-keygen leaves it, and no agent."""
    server = serve("sftp")
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "id_ed25519").write_bytes(Path(server.options["key_filename"]).read_bytes())
    (home / "id_ed25519").chmod(0o600)
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture
def s3_environment(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every S3 client of this process find the server by itself."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.options["secret"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.options["client_kwargs"]["endpoint_url"])
    S3FileSystem.clear_instance_cache()  # one made without these would still be handed out


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test is a process that has asked no store whether its create is exclusive."""
    monkeypatch.setattr(places, "_exclusive", set())
    yield
    fsspec.filesystem("memory").store.clear()
