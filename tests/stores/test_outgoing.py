"""A video that goes out while it arrives, on every real store."""

import shutil
from pathlib import Path

import pytest

from prefect_topaz.delivery import Outgoing, check_delivered
from prefect_topaz.errors import DeliveryFailed
from tests.core.clips import make_clip
from tests.stores.stored import Stored

MEBIBYTE = 2**20
NAME = "ünï [1] & 2.mp4"


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A video of several parts and blocks: what follows its last box is skipped by players."""
    path = make_clip(tmp_path_factory.mktemp("video") / "clip.mp4")
    size = 21 * MEBIBYTE + 5
    path.write_bytes(path.read_bytes() + size.to_bytes(4, "big") + b"free" + bytes(size - 8))
    return path


def feed(outgoing: Outgoing, file: Path, count: int | None = None) -> None:
    outgoing.begin(file.stat().st_size)
    memory = memoryview(bytearray(MEBIBYTE))
    with file.open("rb") as opened:
        while (read := opened.readinto(memory)) and (count is None or count > 0):
            outgoing.feed(memory[:read])
            count = None if count is None else count - 1


def visible(place: Stored) -> list[str]:
    return [name for name in place.names() if not name.endswith(".part")]


def test_what_was_fed_is_shown_whole_when_it_is_committed(place: Stored, video):
    outgoing = Outgoing(place.folder, NAME)
    feed(outgoing, video, 15)
    assert visible(place) == []
    feed(outgoing, video)
    assert visible(place) == []
    outgoing.commit(video)
    outgoing.discard()
    assert place.names() == [NAME]
    check_delivered(place.folder, NAME, video)
    assert place.read(NAME) == video.read_bytes()


def test_what_is_discarded_leaves_nothing_and_what_was_there(place: Stored, video):
    outgoing = Outgoing(place.folder, NAME)
    outgoing.commit(video)
    feed(second := Outgoing(place.folder, NAME), video, 12)
    second.discard()
    del second  # adlfs commits a file that is let go
    assert place.names() == [NAME]
    assert place.read(NAME) == video.read_bytes()


def test_a_file_of_another_size_than_was_sent_is_never_shown(place: Stored, video):
    """A store that lost bytes on the way: the local copy goes out once more, whole."""
    outgoing = Outgoing(place.folder, NAME)
    feed(outgoing, video, 12)
    outgoing.commit(video)
    assert place.names() == [NAME]
    assert place.read(NAME) == video.read_bytes()


def test_a_server_that_is_gone_is_reported_and_the_video_is_kept(stored, video):
    place = stored("sftp")
    outgoing = Outgoing(place.folder, NAME)
    feed(outgoing, video, 3)
    shutil.rmtree(place.root)
    place.root.write_bytes(b"a file where the folder was")
    with pytest.raises(DeliveryFailed, match="run again, which buys nothing"):
        outgoing.commit(video)
    outgoing.discard()
    place.root.unlink()
    outgoing = Outgoing(place.folder, NAME)
    feed(outgoing, video)
    outgoing.commit(video)
    assert place.read(NAME) == video.read_bytes()
