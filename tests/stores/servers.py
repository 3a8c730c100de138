"""Real stores on loopback, each started for the session by the first test that asks for it."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
AZURITE = os.environ.get("TOPAZ_AZURITE") or shutil.which("azurite-blob")
ACCOUNT, KEY = "topaz", base64.b64encode(b"a key for nobody but this test").decode()
_PATIENCE = 30.0


def missing(tool: str) -> None:
    """Skip where a tool is missing; in CI these stores are part of the promise."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(tool)


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        port: Where it listens on loopback.
        root: The folder that it serves, on the local disk.
        options: What fsspec needs to log in.
        log: What it wrote.
    """

    port: int
    root: Path
    options: dict[str, Any]
    log: Path


@contextmanager
def sftp_server(folder: Path, root: Path, flags: str = "", limit: int = 10) -> Iterator[Server]:
    """Run OpenSSH's server with keys of its own; it needs no root."""
    if SSHD is None:
        missing("OpenSSH's server is not installed: apt-get install openssh-server")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    port, log = _free_port(), folder / "log"
    settings = f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp {flags}
MaxSessions {limit}
"""
    (folder / "config").write_text(settings)
    if os.getuid() == 0:  # where it gives up its rights; only a running system makes it
        Path("/run/sshd").mkdir(exist_ok=True)
    options = {"key_filename": str(folder / "user"), "allow_agent": False, "look_for_keys": False}
    command = [str(SSHD), "-D", "-e", "-f", str(folder / "config")]
    with _running(command, log, port):
        yield Server(port, root, options, log)


@contextmanager
def ftp_server(folder: Path, root: Path) -> Iterator[Server]:
    """Run pyftpdlib's server."""
    script, port, log = Path(__file__).with_name("ftp_server.py"), _free_port(), folder / "log"
    command = [sys.executable, "-W", "ignore", str(script), str(port), str(root)]
    with _running(command, log, port):
        yield Server(port, root, {"username": "me", "password": "secret"}, log)


@contextmanager
def azure_server(folder: Path) -> Iterator[Server]:
    """Run Azurite."""
    if AZURITE is None:
        missing(
            "Azurite is not installed: npm install azurite, and name azurite-blob in TOPAZ_AZURITE"
        )
    port, log = _free_port(), folder / "log"
    command = [str(AZURITE), "--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    command += ["--blobPort", str(port), "--disableTelemetry"]
    address = f"http://127.0.0.1:{port}/{ACCOUNT}"
    words = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": ACCOUNT,
        "AccountKey": KEY,
        "BlobEndpoint": address,
    }
    text = ";".join(f"{name}={value}" for name, value in words.items())
    with _running(command, log, port, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}):
        yield Server(port, folder, {"connection_string": text}, log)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _running(
    command: list[str], log: Path, port: int, environment: dict[str, str] | None = None
) -> Iterator[None]:
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | (environment or {}),
        ) as server,
    ):
        try:
            _wait(lambda: _answers(port) or server.poll() is not None)
            assert server.poll() is None, f"{command[0]} did not start: {log.read_text()}"
            yield
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)
