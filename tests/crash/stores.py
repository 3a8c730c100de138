"""An S3 server for the matrix, with an empty folder for every row."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

_SERVER = Path(__file__).parents[1] / "s3_server.py"
_NAMES = itertools.count(1)


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server of the tests, and give its address."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(_SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"},
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError("the S3 server did not start")
        yield f"http://127.0.0.1:{port}"
        server.stdin.close()


def s3_folder(address: str) -> tuple[str, dict[str, Any]]:
    """Make a bucket, and give the URL of a folder in it and the settings that open it."""
    options = {"key": "moto", "secret": "moto", "client_kwargs": {"endpoint_url": address}}
    name = f"bucket-{next(_NAMES)}"
    fsspec.filesystem("s3", **options).mkdir(name)
    return f"s3://{name}/upscaled/", options
