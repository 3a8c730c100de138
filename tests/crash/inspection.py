"""Look at a destination as a stranger would: is everything whole, and is it all there?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping

from tests.crash.world import Case, is_event, is_whole

_PROBE = re.compile(r"\.topaz/\.[0-9a-f]{32}")


def broken_files(files: Mapping[str, bytes]) -> Iterator[str]:
    """Find what must never be there, however a process died: half of something under a final name.

    Args:
        files: What is at the destination, by path.

    Yields:
        What is wrong with each file.
    """
    for path, data in files.items():
        name = path.rpartition("/")[2]
        if name.startswith(".") or "/part-" in path:
            continue  # nobody takes these for a result
        if name.endswith(".mp4"):
            yield from _video_problems(path, data, files)
        elif name.endswith(".json"):
            try:
                json.loads(data)
            except ValueError:
                yield f"{path} is half written"
        elif name.endswith(".jpg") and not data.endswith(b"\xff\xd9"):
            yield f"{path} is half written"


def _video_problems(path: str, data: bytes, files: Mapping[str, bytes]) -> Iterator[str]:
    if not is_whole(data):
        yield f"{path} is half written"
    if path.startswith(".topaz/"):
        return  # a blocking call's answer, kept beside the journal
    if (receipt := files.get(f"{path}.json")) is None:
        yield f"{path} has no receipt"
        return
    try:
        told = json.loads(receipt)
    except ValueError:
        return  # told with the receipt
    if (told["bytes"], told["sha256"]) != (len(data), hashlib.sha256(data).hexdigest()):
        yield f"{path} is not what its receipt says"


def missing_files(case: Case, files: Mapping[str, bytes]) -> Iterator[str]:
    """Find what a delivered purchase lacks, and what it has twice.

    Args:
        case: What was bought.
        files: What is at the destination, by path.

    Yields:
        What is wrong.
    """
    results = sorted(path for path in files if "/" not in path and not path.startswith("."))
    videos = [path for path in results if path.endswith(".mp4")]
    expected = sorted(f"{video}{more}" for video in videos for more in ("", ".json", ".jpg"))
    if len(videos) != case.generations:
        yield f"{len(videos)} videos instead of {case.generations}"
    if results != expected:
        yield f"the destination has {results}"
    events = sorted(path.rpartition("/")[2] for path in files if is_event(path))
    if events != [f"{number:04d}.json" for number in range(1, len(events) + 1)]:
        yield f"the journal has {events}"


def leftovers(files: Mapping[str, bytes]) -> list[str]:
    """List what a dead process left lying about and nobody claims."""
    return [
        path
        for path in files
        if not is_event(path) and (path.startswith(".topaz/") or path.rpartition("/")[2][0] == ".")
    ]


def is_probe(path: str, data: bytes) -> bool:
    """Tell whether a leftover is the few bytes by which a remote store was tried out.

    A death within that moment leaves it, and finding it would cost each run a listing of the whole
    journal: a settling that comes an hour later removes it, and none comes here.
    """
    return _PROBE.fullmatch(path) is not None and len(data) <= len(b"one")
