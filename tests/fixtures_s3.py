"""The fixture `s3`: a fresh bucket on a real S3 server on loopback."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest

_numbers = itertools.count(1)


class Bucket(NamedTuple):
    """An empty bucket.

    Attributes:
        url: Its fsspec URL, without a slash at the end.
        options: What fsspec needs to open it.
    """

    url: str
    options: dict[str, Any]

    @property
    def fs(self) -> Any:
        """The store."""
        return fsspec.filesystem("s3", **self.options)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Start the server, once a session and only if a test asks for it."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("s3_server.py"))]
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"},
        text=True,
    )
    with server:
        port = server.stdout.readline().strip()
        assert port, "the S3 server did not start"
        yield f"http://127.0.0.1:{port}"
        server.stdin.close()


@pytest.fixture
def s3(s3_endpoint: str) -> Bucket:
    """Give an empty bucket."""
    options = {"key": "moto", "secret": "moto", "client_kwargs": {"endpoint_url": s3_endpoint}}
    bucket = Bucket(f"s3://bucket-{next(_numbers)}", options)
    bucket.fs.mkdir(bucket.url)
    return bucket
