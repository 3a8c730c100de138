"""A local file is read once for its digest, and again only if it has changed."""

import hashlib
import json
import os
import time

import pytest

from prefect_topaz.sources.local import digest


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def later():
    return time.time() + 10


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """Give the folder of what is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefect-topaz" / "digests"


@pytest.fixture
def video(tmp_path):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"one")
    return file


def plant(memory):
    """Change what is remembered, so that it shows whether that or the file was read."""
    (kept,) = memory.iterdir()
    known = json.loads(kept.read_text())
    kept.write_text(json.dumps(known | {"identity": "remembered"}))
    return kept


def test_an_unchanged_file_is_not_read_again(memory, video):
    assert digest(video, later) == sha256(b"one")
    plant(memory)
    assert digest(video, later) == "remembered"


def test_one_file_by_two_names_is_remembered_once(memory, video):
    link = video.with_name("link.mp4")
    link.symlink_to(video)
    digest(video, later)
    plant(memory)
    assert digest(link, later) == "remembered"


@pytest.mark.parametrize("kind", ["longer", "same size", "dated back", "replaced"])
def test_a_changed_file_is_read_again(memory, video, kind):
    date = video.stat().st_mtime_ns
    digest(video, later)
    plant(memory)
    other = b"three" if kind == "longer" else b"two"
    if kind == "replaced":
        new = video.with_name("new")
        new.write_bytes(other)
        new.replace(video)
    else:
        video.write_bytes(other)
    if kind in ("dated back", "replaced"):
        os.utime(video, ns=(date, date))
    assert digest(video, later) == sha256(other)


def test_a_file_that_has_just_changed_is_not_remembered(memory, video):
    """Another change within the clock's coarseness would not show."""
    digest(video)
    assert not memory.exists()


def test_a_date_that_was_set_back_makes_no_fresh_file_old(memory, video):
    os.utime(video, ns=(0, 0))
    digest(video)
    assert not memory.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"state": 1}', "\0\xff"])
def test_a_broken_memory_is_ignored_and_mended(memory, video, text):
    digest(video, later)
    plant(memory).write_text(text)
    assert digest(video, later) == sha256(b"one")
    plant(memory)
    assert digest(video, later) == "remembered"


def test_without_a_place_to_remember_it_the_file_is_read(tmp_path, video, monkeypatch):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert digest(video, later) == sha256(b"one")
    assert digest(video, later) == sha256(b"one")


def test_nothing_half_written_is_left(memory, video):
    digest(video, later)
    assert [one.suffix for one in memory.iterdir()] == [".json"]
