"""fsspec's stores by URL, with SFTP and FTP made fit for many threads and long waits."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Mapping
from typing import Any, Final

import fsspec
from fsspec.utils import tokenize

# Imported when a URL asks for them: paramiko is an extra.
_KINDS: Final = {
    "sftp": ("prefect_topaz.stores.sftp", "SFTPStore"),
    "ssh": ("prefect_topaz.stores.sftp", "SFTPStore"),
    "ftp": ("prefect_topaz.stores.ftp", "FTPStore"),
}
_opened: dict[str, Any] = {}
_opening = threading.Lock()


def open_store(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Open the store of an fsspec URL.

    SFTP and FTP are opened once a process for all threads, and connect at the first use.

    Args:
        url: An fsspec URL or a path.
        options: The store's settings; they go before what the URL says.

    Returns:
        The store, and the path as the store knows it.

    Raises:
        ImportError: If the store's package is not installed.
        ValueError: If fsspec does not know the store.
    """
    scheme, found, _ = url.partition("://")
    if not found or scheme not in _KINDS:
        fs, path = fsspec.core.url_to_fs(url, **options)
        return fs, str(path)
    kind = _kind(scheme)
    settings = {**kind._get_kwargs_from_urls(url), **options}  # noqa: SLF001  # fsspec's protocol
    # A connection does not outlive a fork.
    name = tokenize(kind, os.getpid(), settings)
    with _opening:
        if name not in _opened:
            _opened[name] = kind(**settings)
        return _opened[name], kind._strip_protocol(url)  # noqa: SLF001  # as above


def _kind(scheme: str) -> Any:
    module, name = _KINDS[scheme]
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != "paramiko":
            raise
        raise ImportError("SFTP needs paramiko: pip install 'prefect-topaz[sftp]'") from None
