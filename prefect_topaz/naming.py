"""Where results go and what they are called there, from a destination that may hold placeholders."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from string import Formatter
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

from prefect_topaz.errors import UnusableDestination
from prefect_topaz.models import Order, Place, Source, UpscaleJob
from prefect_topaz.places import Folder, is_object_store, open_place, url_of
from prefect_topaz.redaction import redact, redact_url

FIELDS: Final = ("stem", "label", "provider", "work_key", "date")
_ENDINGS: Final = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_LONGEST_STEM: Final = 120  # bytes of a source's name in the result's
_LONGEST_NAME: Final = 250  # bytes; file systems end at 255, and the receipt's name is longer by 5
_LONGEST_KEY: Final = 1024  # bytes, the bucket's name left out
_LONGEST_PATH: Final = 4096  # bytes
_SHOWN: Final = 80  # characters of a long name in a message
_INSIDE: Final = 128  # bytes that a journal in the folder adds to its path


@dataclass(frozen=True)
class Values:
    """What the placeholders of a destination stand for.

    Args:
        stem: The source's name without its ending.
        label: What was ordered, such as `4k`.
        provider: The provider's name.
        work_key: The journal's name of the work.
        date: The day of the purchase in UTC, as `2026-01-31`.
    """

    stem: str
    label: str
    provider: str
    work_key: str
    date: str


def values_of(source: Source, order: Order, work_key: str, bought: datetime) -> Values:
    """Give the values for an order.

    Args:
        source: What it is for.
        order: The order.
        work_key: The journal's name of the work.
        bought: When it was bought; before the purchase, now.
    """
    date = bought.astimezone(timezone.utc).date().isoformat()
    return Values(source.name, order.label, order.provider, work_key, date)


def values_of_job(job: UpscaleJob) -> Values:
    """Give the values for a job: those of its purchase, on whatever day it is stored."""
    return values_of(job.source, job.order, job.work_key, job.submitted_at)


def target_names(place: Place, values: Values, count: int) -> tuple[Folder, list[str]]:
    """Name the results of an order at a destination.

    Args:
        place: A folder, or the name of the first result; either may hold placeholders.
        values: What the placeholders stand for; a folder's files are named by stem and label.
        count: How many results there are.

    Returns:
        The folder and the file names: `clip-4k.mp4`, then `clip-4k-2.mp4` and so on.

    Raises:
        UnusableDestination: If the place, or a name in it, is refused. Nothing is billed by that.
    """
    url = "".join(
        literal + (safe_name(getattr(values, field)) if field else "")
        for literal, field in _parts(place)
    )
    folder, chosen = split_destination(place.model_copy(update={"url": url}))
    first = Path(chosen or f"{safe_name(values.stem)}-{values.label}.mp4")
    names = [f"{first.stem}-{number}{first.suffix}" for number in range(2, count + 1)]
    for name in (first.name, *names):
        _check_name(name)
        _check_path(folder.fs, folder.file(f"{name}.json"))
    return folder, [first.name, *names]


def home_of(place: Place) -> Folder:
    """Give the folder of a destination that is the same for every source and on every day.

    It is the one before the first placeholder; without any, the folder of the results.

    Raises:
        UnusableDestination: If the placeholders are wrong, or one stands for a server or bucket.
    """
    parts = _parts(place)
    fields = [field for _, field in parts]
    first = next((number for number, field in enumerate(fields) if field), None)
    fixed = "".join(literal for literal, _ in parts[: None if first is None else first + 1])
    if first is None:
        return split_destination(place.model_copy(update={"url": fixed}))[0]
    _, is_url, inside = fixed.partition("://")
    if is_url and "/" not in inside:
        raise UnusableDestination(
            f"the destination {_shown(place)} has a placeholder for its server or bucket: they may"
            " be in the names of folders and of the file"
        )
    home = fixed.rpartition("/")[0] + "/" if "/" in fixed else "./"
    return split_destination(place.model_copy(update={"url": home}))[0]


def tells_apart(place: Place) -> frozenset[str]:
    """Say by which of a source's values its result's name differs from others'.

    Returns:
        Of `stem` and `work_key` those that are in the names at this destination.
    """
    fields = {field for _, field in _parts(place) if field}
    is_file = place.url.lower().endswith(_ENDINGS)
    return frozenset((fields if is_file else fields | {"stem"}) & {"stem", "work_key"})


def split_destination(place: Place) -> tuple[Folder, str | None]:
    """Tell folder and file name apart, of a destination without placeholders.

    A destination is a folder if it ends in `/` or exists as one, or if its name has no ending of a
    video file: `upscaled/v1.2` is a folder, `upscaled/clip.mp4` is a file.

    Returns:
        The folder, and the file's name or None.

    Raises:
        UnusableDestination: If the place is empty, unknown to fsspec, or no store takes its name.
    """
    if not place.url.strip():
        raise UnusableDestination("the destination is empty: give a folder or a file name")
    if any(_is_control(char) for char in place.url):  # some stores drop them without a word
        raise UnusableDestination(
            f"the destination {_shown(place)} has control characters: choose plain names"
        )
    fs, path = open_place(place)
    _check_path(fs, path, room=_INSIDE)
    is_folder = place.url.endswith(("/", os.sep)) or _is_folder(fs, path)
    parent, _, name = path.rstrip("/").rpartition("/")
    if is_folder or not name.lower().endswith(_ENDINGS):
        return Folder(fs, path.rstrip("/") or "/"), None
    return Folder(fs, parent), name


def safe_name(name: str) -> str:
    """Make a text a file name that stays in its folder."""
    # Found only after the purchase, a name that the store refuses would come too late.
    short = name.encode(errors="replace")[:_LONGEST_STEM].decode(errors="ignore")
    kept = "".join("_" if char in '/\\:*?"<>|' or _is_control(char) else char for char in short)
    return kept.lstrip(".") or "video"


def _parts(place: Place) -> list[tuple[str, str | None]]:
    """Take a destination apart: a literal text, and the placeholder behind it."""
    try:
        parsed = list(Formatter().parse(place.url))
    except ValueError as error:
        raise _misplaced(place, str(error)) from None
    for _, field, spec, conversion in parsed:
        if field is not None and (field not in FIELDS or spec or conversion):
            raise _misplaced(place, f"{field or 'nothing'!r} is between its braces")
    return [(literal, field) for literal, field, _, _ in parsed]


def _misplaced(place: Place, reason: str) -> UnusableDestination:
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    return UnusableDestination(
        f"the destination {_shown(place)} has braces that are no placeholder ({reason}): the"
        f" placeholders are {known}; double the braces of a name: {{{{ and }}}}"
    )


def _shown(place: Place) -> str:
    text = redact_url(place.url) if "://" in place.url else place.url
    return repr(_shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 20]}...{text[-17:]}"


def _is_folder(fs: Any, path: str) -> bool:
    try:
        return bool(fs.isdir(path))
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        reason = f"{type(error).__name__}: {redact(str(error))}"
        raise UnusableDestination(
            f"the destination {url_of(fs, path)} cannot be looked at ({reason}): check the address"
            " and the store's settings"
        ) from None


def _check_name(name: str) -> None:
    if (size := _size(name)) > _LONGEST_NAME:
        raise UnusableDestination(
            f"the file name {_shortened(name)!r} has {size} bytes, and stores take no more than"
            f" {_LONGEST_NAME}: choose a shorter one"
        )


def _check_path(fs: Any, path: str, room: int = 0) -> None:
    """Refuse a path that the store would refuse, when the video is there and paid for."""
    is_object = is_object_store(fs)
    longest = (_LONGEST_KEY if is_object else _LONGEST_PATH) - room
    size = _size(path.strip("/").partition("/")[2] if is_object else path)
    if size > longest:
        raise UnusableDestination(
            f"the destination {_shortened(path)!r} has {size} bytes, and this store takes no more"
            f" than {longest}, with room for the journal: choose a shorter one"
        )
    if isinstance(fs, LocalFileSystem):  # the system takes two slashes for one
        return
    if "//" in path.strip("/"):
        raise UnusableDestination(
            f"the destination {_shortened(path)!r} has a folder without a name: remove the second"
            " slash"
        )


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))


def _is_control(char: str) -> bool:
    return unicodedata.category(char) == "Cc"
