"""Stores for tests: one that nobody has a special case for, and ones that misbehave on purpose."""

import io
import threading
import time
from typing import Any

from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.spec import AbstractFileSystem


class RemoteStore(AbstractFileSystem):
    """A store that shows a file as it grows, and creates exclusively if asked to.

    Attributes:
        files: What it holds.
        shown: The sizes that each name ever showed.
        broken: Names of methods, and the error that each raises.
    """

    protocol = "remote"
    cachable = False

    def __init__(self, *options: Any, **named: Any) -> None:
        super().__init__(*options, **named)
        self.files: dict[str, bytes] = {}
        self.shown: dict[str, set[int]] = {}
        self.broken: dict[str, Exception] = {}
        self._lock = threading.Lock()

    def put(self, path: str, data: bytes) -> None:
        """Hold a file and note what it shows."""
        self.files[self._strip_protocol(path)] = data
        self.shown.setdefault(self._strip_protocol(path), set()).add(len(data))

    def fail(self, name: str) -> None:
        """Raise what is asked of a method."""
        if name in self.broken:
            raise self.broken[name]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self.fail("info")
        path = self._strip_protocol(path)
        if path in self.files:
            return {"name": path, "size": len(self.files[path]), "type": "file"}
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def isdir(self, path: str) -> bool:
        self.fail("isdir")
        return super().isdir(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self.fail("ls")
        path = self._strip_protocol(path)
        inside = [name.removeprefix(f"{path}/") for name in self.files if name.startswith(path)]
        if not inside:
            raise FileNotFoundError(path)
        names = sorted({f"{path}/{name.partition('/')[0]}" for name in inside})
        return [self.info(name) for name in names] if detail else names

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self.fail("pipe_file")
        with self._lock:
            if mode == "create" and self._strip_protocol(path) in self.files:
                raise FileExistsError(path)
            self.put(path, value)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        self.fail("cp_file")
        self.put(path2, self.files[self._strip_protocol(path1)])

    def _rm(self, path: str) -> None:
        if self.files.pop(self._strip_protocol(path), None) is None:
            raise FileNotFoundError(path)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        self.fail(f"open {mode}")
        if mode == "rb":
            self.info(path)
            return io.BytesIO(self.files[self._strip_protocol(path)])
        return _Growing(self, path)


class _Growing(io.BytesIO):
    def __init__(self, fs: RemoteStore, path: str) -> None:
        super().__init__()
        self._fs, self._path = fs, path
        fs.put(path, b"")

    def write(self, data: Any) -> int:
        written = super().write(data)
        self._fs.put(self._path, self.getvalue())
        self._fs.fail("write")
        return written


class Repeats(RemoteStore):
    """A store that repeats its own create, because the first answer got lost."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **named: Any) -> None:
        super().pipe_file(path, value, mode=mode, **named)
        if mode == "create":
            raise FileExistsError(path)


class Remembers(RemoteStore):
    """A store that believes its last listing, as several do."""

    def __init__(self, *options: Any, **named: Any) -> None:
        super().__init__(*options, **named)
        self.listing: set[str] | None = None

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listing = None

    def info(self, path: str, **named: Any) -> dict[str, Any]:
        if self.listing is None:
            self.listing = set(self.files)
        if self._strip_protocol(path) not in self.listing:
            raise FileNotFoundError(path)
        return super().info(path, **named)


class SlowMemory(MemoryFileSystem):
    """The memory store, with a pause between looking and writing."""

    cachable = False

    def exists(self, path: str, **named: Any) -> bool:
        found = super().exists(path, **named)
        time.sleep(0.002)
        return found


class ObjectStore(RemoteStore):
    """A store that shows an upload only when it is complete, as S3 does."""

    protocol = "s3"

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self.fail("put_file")
        with open(lpath, "rb") as file:  # noqa: PTH123  # fsspec speaks in strings
            self.put(rpath, file.read())

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise AssertionError("a folder is asked for, where there are none")


class WatchedMemory(MemoryFileSystem):
    """The memory store, noting the sizes that each name ever showed.

    Attributes:
        shown: The sizes by path.
    """

    cachable = False

    def __init__(self, *options: Any, **named: Any) -> None:
        super().__init__(*options, **named)
        self.shown: dict[str, set[int]] = {}

    def _open(self, path: str, mode: str = "rb", **named: Any) -> MemoryFile:
        file = super()._open(path, mode=mode, **named)
        write = file.write

        def noted(data: bytes) -> int:
            written = write(data)
            self.look()
            return written

        if mode != "rb":
            file.write = noted
        self.look()
        return file

    def cp_file(self, path1: str, path2: str, **named: Any) -> None:
        super().cp_file(path1, path2, **named)
        self.look()

    def look(self) -> None:
        """Note the size of every file."""
        for path, file in self.store.items():
            self.shown.setdefault(path, set()).add(file.getbuffer().nbytes)
