"""Count every effect of this process on the outside world, and die right before a chosen one.

Nothing of ours is patched: Python announces each effect on local files, and each connection, to an
audit hook; a store that Python cannot see is wrapped by a subclass of its own file system.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import s3fs

_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FILLING = os.O_CREAT | os.O_TRUNC
_NAMES = {
    "os.link": "link",
    "os.symlink": "symlink",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
    "os.truncate": "truncate",
    "os.chmod": "chmod",
}
# Where the audit event has the path that changes: a link and a rename end at their second one.
_SECOND = ("os.link", "os.symlink", "os.rename")
# What differs between two runs of the same work.
_RANDOM = re.compile(r"(?<=/)[0-9a-f]{64}|[0-9a-f]{32}|(?<=part-|opaz-)\w{8}|(?<=temporary/)\w{8}$")
_TORN_BYTES = 16


class Effects:
    """The effects so far, each told before it happens.

    Args:
        tell: Takes the name of an effect.
        fatal: The effect that shall not happen, by its number from 1 or its name; None to live.
        torn: Whether the fatal effect, opening a file, happens, and the first write dies half-way.
    """

    def __init__(self, tell: Callable[[str], None], fatal: int | str | None, *, torn: bool) -> None:
        self._tell, self._fatal, self._torn = tell, fatal, torn
        self._lock = threading.Lock()
        self._count = 0
        if torn:
            # By default Python ignores the signal that ends a process at its file size limit.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def step(self, label: str) -> None:
        """Count the effect that comes next, and die if it is the fatal one."""
        with self._lock:
            self._count += 1
            name = _RANDOM.sub("*", label)
            self._tell(name)
            if self._fatal not in (self._count, name):
                return
            if self._torn:
                resource.setrlimit(resource.RLIMIT_FSIZE, (_TORN_BYTES, _TORN_BYTES))
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, roots: Sequence[str]) -> Callable[[str, tuple[Any, ...]], None]:
        """Give a hook for `sys.addaudithook` that counts what changes files below the roots.

        Args:
            roots: Folders; their names are cut down to their last part.
        """

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event == "socket.connect" and isinstance(args[1], tuple):
                self.step("connect")
            elif label := _file_effect(event, args):
                verb, path = label
                for root in roots:
                    if path.startswith(root):
                        self.step(f"{verb} {Path(root).name}{path[len(root) :]}")
                        return

        return hook


def _file_effect(event: str, args: tuple[Any, ...]) -> tuple[str, str] | None:
    """Give the verb and the absolute path of an audit event that changes a file."""
    if event == "open":
        path, _, flags = args
        if not isinstance(path, str | bytes | os.PathLike) or not flags & _CHANGING:
            return None
        return ("write" if flags & _FILLING else "open"), str(Path(os.fsdecode(path)).absolute())
    if (verb := _NAMES.get(event)) is None:
        return None
    changed = Path(os.fsdecode(args[1] if event in _SECOND else args[0]))
    # `shutil.rmtree` names a file by its folder's descriptor, the last argument.
    if event in ("os.remove", "os.rmdir") and args[-1] != -1:
        changed = Path(f"/proc/self/fd/{args[-1]}").readlink() / changed
    return verb, str(changed.absolute())


_UPLOADING = {
    "put_object",
    "create_multipart_upload",
    "upload_part",
    "complete_multipart_upload",
}
_RESULTS = (".mp4", ".mp4.json", ".mp4.jpg")


def dying_store(effects: Effects) -> type[s3fs.S3FileSystem]:
    """Make an S3 file system that counts every call which changes the store."""

    class DyingS3(s3fs.S3FileSystem):  # type: ignore[misc]  # s3fs publishes no types
        async def _pipe_file(self, path: str, data: Any, *args: Any, **kwargs: Any) -> Any:
            effects.step(f"create {path.partition('/')[2]}")
            return await super()._pipe_file(path, data, *args, **kwargs)

        async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
            # A file goes out by S3's own calls, in one or in parts.
            if method in _UPLOADING and kwargs["Key"].endswith(_RESULTS):
                effects.step(f"{method} {kwargs['Key']}")
            return await super()._call_s3(method, *args, **kwargs)

        async def _rm_file(self, path: str, **kwargs: Any) -> Any:
            effects.step(f"remove {path.partition('/')[2]}")
            return await super()._rm_file(path, **kwargs)

        async def _cp_file(self, path1: str, path2: str, *args: Any, **kwargs: Any) -> Any:
            effects.step(f"copy {path2.partition('/')[2]}")
            return await super()._cp_file(path1, path2, *args, **kwargs)

    return DyingS3
