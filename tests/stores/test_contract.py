"""What every store must do with a paid result: whole or not at all, and never over another's."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prefect_topaz.delivery import (
    check_free,
    publish,
    publish_bytes,
    read_receipt,
    remove,
    retrieve,
    sweep,
)
from prefect_topaz.errors import DeliveryFailed, UnusableDestination
from prefect_topaz.naming import Values, target_names
from prefect_topaz.places import check_exclusive, create, open_file, read
from tests.stores.conftest import JOURNALS, KINDS
from tests.stores.stored import Stored

DATA = b"a video " * 40_000
NAME = "clip-4k.mp4"
NAMES = [
    "plain.mp4",
    "two  words .mp4",
    "épée 漢字 🎬.mp4",
    "clip [1] {a} (b).mp4",
    "100% #1 & 50%25.mp4",
    "what? why!.mp4",
    " led by a blank.mp4",
    "é" * 123 + ".mp4",
]
VALUES = Values("clip", "4k", "oxen", "ab" * 32, "2026-03-01")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "result.mp4"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:12])
def test_what_is_published_is_found_again_by_its_url(place: Stored, file, name, tmp_path):
    folder, (found,) = target_names(
        place.place(name.replace("{", "{{").replace("}", "}}")), VALUES, 1
    )
    assert found == name
    url = publish(file, folder, name)
    assert place.names() == [name]
    assert open_file(place.place(), url) == DATA
    retrieve(folder, name, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == DATA
    remove(folder, name)
    remove(folder, name)
    assert place.read(name) is None


def test_an_empty_file_is_a_file_too(place: Stored):
    publish_bytes(b"", place.folder, NAME)
    assert read(place.folder.fs, place.folder.file(NAME)) == b""


def test_a_name_that_is_taken_is_refused_and_a_free_one_is_not(place: Stored, file):
    check_free(place.folder, NAME, "mine")
    publish_bytes(b"somebody's", place.folder, NAME)
    with pytest.raises(UnusableDestination, match="overwrite=True") as caught:
        check_free(place.folder, NAME, "mine")
    assert caught.value.billed == "no"
    assert place.read(NAME) == b"somebody's"
    assert read_receipt(place.folder, NAME) is None


def test_publishing_over_a_file_replaces_it(place: Stored, file):
    publish_bytes(b"old", place.folder, NAME)
    publish(file, place.folder, NAME)
    assert place.read(NAME) == DATA
    assert place.names() == [NAME]


def test_of_publishers_of_one_name_one_leaves_a_whole_file(place: Stored, tmp_path):
    texts = [bytes([65 + number]) * (300_000 + number) for number in range(6)]

    def sent(text: bytes) -> bool:
        path = tmp_path / f"{text[:1].decode()}.mp4"
        path.write_bytes(text)
        try:
            publish(path, place.folder, NAME)
        except DeliveryFailed:  # somebody else's file is there, and is said so
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert any(pool.map(sent, texts))
    assert place.read(NAME) in texts
    assert place.names() == [NAME]


DYING = """
import os, sys
from pathlib import Path
from prefect_topaz.delivery import publish
from prefect_topaz.models import Place
from prefect_topaz.places import open_folder

url, options, file, name = sys.argv[1], eval(sys.argv[2]), sys.argv[3], sys.argv[4]
folder = open_folder(Place(url=url, options=options))
folder.fs.exists(folder.path)
print("ready", flush=True)
publish(Path(file), folder, name)
print("done", flush=True)
"""


def killed_while_writing(place: Stored, file: Path) -> None:
    """Let another process publish, and kill it once the first bytes are under way."""
    command = [sys.executable, "-c", DYING, place.url, repr(place.options), str(file), NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        end = time.monotonic() + (10 if place.root else 0.05)
        while time.monotonic() < end and not (place.root and list(place.root.rglob("*.part"))):
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        assert child.stdout.read() == "", "it was done before it was killed: take a larger file"


@pytest.mark.parametrize("kind", ["s3", "sftp", "azure", "ftp"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_writer_that_is_killed_leaves_nothing_under_the_name(kind, before, stored, tmp_path):
    place = stored(kind)
    if before is not None:
        publish_bytes(before, place.folder, NAME)
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    killed_while_writing(place, large)
    time.sleep(0.2)  # what is on its way arrives
    assert place.read(NAME) == before
    sweep(place.folder, time.time() + 7200)
    assert place.names() == ([] if before is None else [NAME])


@pytest.mark.parametrize("kind", JOURNALS)
def test_of_eight_writers_one_creates(kind, stored):
    place = stored(kind)
    folder = place.folder
    check_exclusive(folder)

    def wins(number: int) -> bool:
        try:
            create(folder.fs, folder.file(name), b"%d" % number * 5000)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for turn in range(4):
            name = f"{turn:04d}.json"
            assert sum(pool.map(wins, range(8))) == 1
            data = read(folder.fs, folder.file(name))
            assert data == data[:1] * 5000
    assert place.names() == [f"{turn:04d}.json" for turn in range(4)]


def test_ftp_is_refused_as_a_journal_with_the_way_out(stored):
    place = stored("ftp")
    with pytest.raises(UnusableDestination, match="Pass journal= with a folder on") as caught:
        check_exclusive(place.folder.folder(".topaz"))
    assert "ftp://127.0.0.1" in str(caught.value)
    assert place.names() == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_store_does_not_take_is_refused_before_it_is_asked(kind, stored):
    place = stored(kind)
    long = "/".join(["x" * 99] * 50) + "/clip.mp4"
    with pytest.raises(UnusableDestination, match="choose a shorter one"):
        target_names(place.place(long), VALUES, 1)
    with pytest.raises(UnusableDestination, match="no more than 250"):
        target_names(place.place("x" * 247 + ".mp4"), VALUES, 1)
    with pytest.raises(UnusableDestination, match="control characters"):
        target_names(place.place("a\nb/clip.mp4"), VALUES, 1)


@pytest.mark.parametrize("kind", ["sftp", "ftp"])
def test_what_killed_writers_left_is_swept_away_after_an_hour(kind, stored):
    place = stored(kind)
    place.folder.fs.makedirs(place.folder.path, exist_ok=True)
    left, theirs = f".{'a' * 32}.part", ["clip.mp4", "part-of.mp4"]
    for name in (left, *theirs):
        folder = place.folder
        folder.fs.pipe_file(folder.file(name), b"x")
    sweep(place.folder, time.time() + 1800)
    assert place.names() == [left, *theirs]
    sweep(place.folder, time.time() + 7200)
    assert place.names() == theirs


def test_sweeping_what_is_not_there_is_no_trouble(place: Stored):
    sweep(place.folder, time.time())
    assert place.names() == []
