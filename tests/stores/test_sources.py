"""A source is known, read and refused alike on every kind of store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from prefect_topaz.errors import UnusableSource
from prefect_topaz.media import probe
from prefect_topaz.providers import load
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox import make_clip
from prefect_topaz.sources import open_source
from prefect_topaz.sources.signing import expiry
from tests.core.test_sources import shown
from tests.stores.stored import Stored

NAME = "take #1 ü.mp4"
SIGNING = ("s3", "azure")
LOOPBACK = load("evolink")("http://127.0.0.1:1")


@pytest.fixture
def other_clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "other.mp4", seconds=0.7, size=(64, 36), fps=10)


def put(place: Stored, data: bytes, name: str = NAME) -> None:
    folder = place.folder
    path = folder.file(name)
    folder.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    folder.fs.pipe_file(path, data)


async def test_a_source_is_known_until_it_changes(place: Stored, clip, other_clip):
    put(place, clip.read_bytes())
    source = await open_source(NAME, LOOPBACK, storage=place.place())
    assert source.facts.media == probe(clip)
    assert (source.facts.name, source.suffix) == ("take #1 ü", ".mp4")
    assert source.size == clip.stat().st_size
    with source.opened() as file:
        assert probe(file) == probe(clip)
    with source.stream() as file:
        assert file.read() == clip.read_bytes()
    again = await open_source(NAME, LOOPBACK, storage=place.place())
    assert again.facts == source.facts
    put(place, other_clip.read_bytes())
    changed = await open_source(NAME, LOOPBACK, storage=place.place())
    assert changed.facts.identity != source.facts.identity
    assert changed.facts.label == source.facts.label


async def test_a_link_is_signed_where_the_store_can_and_is_none_elsewhere(place: Stored, clip):
    put(place, clip.read_bytes())
    source = await open_source(NAME, LOOPBACK, storage=place.place())
    now = datetime.now(timezone.utc)
    link = await source.link(LOOPBACK, None, now)
    assert isinstance(link, SignedUrl) == (place.kind in SIGNING)
    if link is not None:
        assert expiry(link.reveal()) > now + timedelta(hours=6)
        assert (await open_source(link.reveal(), LOOPBACK)).facts.media == probe(clip)


async def test_what_is_no_video_is_one_clear_error(place: Stored):
    put(place, b"not a video " * 100, "text.mp4")
    put(place, b"", "empty.mp4")
    put(place, b"x", "folder.mp4/a.txt")
    said = {
        "text.mp4": "is not a video: it is text",
        "empty.mp4": "is not a video: it is empty",
        "missing.mp4": "does not exist",
        "nowhere/missing.mp4": "does not exist",
        "folder.mp4": "is a folder",
    }
    for name, reason in said.items():
        with pytest.raises(UnusableSource, match=reason) as caught:
            await open_source(name, LOOPBACK, storage=place.place())
        assert caught.value.__context__ is None
        for secret in _secrets(place.options):
            assert secret not in shown(caught.value)


def _secrets(options):
    return [
        value
        for name, value in options.items()
        if name in ("password", "account_key", "connection_string", "secret")
    ]
