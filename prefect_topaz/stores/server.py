"""What SFTP and FTP have in common: one server, named by the URL, and sessions on it."""

from __future__ import annotations

from typing import Any, ClassVar

from fsspec import AbstractFileSystem
from fsspec.utils import infer_storage_options


class ServerStore(AbstractFileSystem):  # type: ignore[misc]  # fsspec publishes no types
    """Folders and files on a server that a URL names by user, host and port.

    fsspec's own versions forget the server in the URLs that they give, take a server that does not
    answer for a missing file, and lose what a name has behind a question mark.
    """

    protocol: ClassVar[tuple[str, ...]]
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        scheme, found, rest = str(path).partition("://")
        inside = rest.partition("/")[2] if found and scheme in cls.protocol else str(path)
        return "/" + inside.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        scheme, _, rest = path.partition("://")
        server = infer_storage_options(f"{scheme}://{rest.partition('/')[0]}/")
        return {
            name: server[name]
            for name in ("host", "port", "username", "password")
            if name in server
        }

    def unstrip_protocol(self, name: str) -> str:
        """Give the URL of a path, without the password."""
        known = self.storage_options
        user = f"{known['username']}@" if known.get("username") else ""
        port = f":{known['port']}" if known.get("port") else ""
        path = self._strip_protocol(name).lstrip("/")
        return f"{self.protocol[0]}://{user}{known['host']}{port}/{path}"

    def _kind(self, path: str) -> str | None:
        """Say what is there, if anything; not knowing is an error, and not nothing."""
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError:
            return None

    def exists(self, path: str, **_: Any) -> bool:
        """Whether something is there."""
        return self._kind(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether a folder is there."""
        return self._kind(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Whether a file is there."""
        return self._kind(path) == "file"

    def makedirs(self, path: str, exist_ok: bool = False, **_: Any) -> None:
        """Make a folder and those above it, though others make them at the same moment."""
        path = self._strip_protocol(path)
        if self.isdir(path):
            if not exist_ok:
                raise FileExistsError(path)
            return
        parent = path.rpartition("/")[0]
        if parent:
            self.makedirs(parent, exist_ok=True)
        try:
            self._make_folder(path)
        except Exception:
            self.invalidate_cache()
            if not self.isdir(path):
                raise

    def _make_folder(self, path: str) -> None:
        raise NotImplementedError
