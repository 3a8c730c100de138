"""A video goes to its store while it arrives, is shown when it is whole, and is read there."""

import time
import uuid

import pytest
from fsspec.implementations.local import LocalFileSystem

from prefect_topaz.delivery import (
    Outgoing,
    check_delivered,
    publish,
    publish_bytes,
    read_receipt,
    sweep,
)
from prefect_topaz.errors import DeliveryFailed
from prefect_topaz.places import Folder, url_of
from tests.core.clips import make_clip
from tests.core.stores import ObjectStore, RemoteStore, WatchedMemory
from tests.core.test_delivery import NAME, names_in, receipt

MEBIBYTE = 2**20
DATA = b"".join(bytes([number]) * MEBIBYTE for number in range(20)) + b"the end"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "result.mp4"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=["local", "memory", "remote", "objects", "s3"])
def folder(request, tmp_path):
    """A folder that does not exist yet, on every kind of store."""
    if request.param == "local":
        return Folder(LocalFileSystem(), str(tmp_path / "new" / "place"))
    if request.param == "memory":
        request.getfixturevalue("memory")
        return Folder(WatchedMemory(), "/new/place")
    if request.param == "s3":
        return bucket_folder(request.getfixturevalue("s3"))
    kind = RemoteStore if request.param == "remote" else ObjectStore
    return Folder(kind(), "new/place")


def bucket_folder(bucket):
    return Folder(bucket.fs, f"{bucket.url.removeprefix('s3://')}/new/place")


SIZE = len(DATA)


def feed(outgoing, data=DATA, size=SIZE):
    outgoing.begin(size)
    memory = memoryview(bytearray(MEBIBYTE))
    for start in range(0, len(data), MEBIBYTE):
        piece = data[start : start + MEBIBYTE]
        memory[: len(piece)] = piece
        outgoing.feed(memory[: len(piece)])


def shown(folder):
    return [name for name in names_in(folder) if not name.endswith(".part")]


def uploads(folder):
    bucket, prefix, _ = folder.fs.split_path(f"{folder.path}/")
    found = folder.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
    return found.get("Uploads", [])


@pytest.mark.parametrize("size", [len(DATA), None])
def test_what_was_fed_is_shown_when_it_is_committed(size, folder, file):
    outgoing = Outgoing(folder, NAME)
    feed(outgoing, size=size)
    assert shown(folder) == []
    assert outgoing.commit(file) == url_of(folder.fs, folder.file(NAME))
    assert names_in(folder) == [NAME]
    assert folder.fs.cat_file(folder.file(NAME)) == DATA


def test_what_is_committed_replaces_what_was_there(folder, file):
    publish_bytes(b"old", folder, NAME)
    outgoing = Outgoing(folder, NAME)
    feed(outgoing)
    assert folder.fs.cat_file(folder.file(NAME)) == b"old"
    outgoing.commit(file)
    assert folder.fs.cat_file(folder.file(NAME)) == DATA


def test_a_file_that_was_not_fed_is_committed_too(folder, file):
    """One that was kept beside the journal, or copied from elsewhere."""
    Outgoing(folder, NAME).commit(file)
    assert folder.fs.cat_file(folder.file(NAME)) == DATA


def test_beginning_anew_forgets_what_was_fed_before(folder, file):
    outgoing = Outgoing(folder, NAME)
    feed(outgoing, b"\xff" * 12 * MEBIBYTE)
    feed(outgoing)
    outgoing.commit(file)
    assert names_in(folder) == [NAME]
    assert folder.fs.cat_file(folder.file(NAME)) == DATA


def test_discarding_leaves_nothing(folder):
    outgoing = Outgoing(folder, NAME)
    feed(outgoing)
    outgoing.discard()
    outgoing.feed(memoryview(b"from a thread that comes late"))
    outgoing.begin(5)
    assert names_in(folder) == []


def test_a_committed_file_is_not_discarded(folder, file):
    outgoing = Outgoing(folder, NAME)
    feed(outgoing)
    outgoing.commit(file)
    outgoing.discard()
    assert names_in(folder) == [NAME]


def test_an_upload_to_s3_is_on_its_way_before_the_end_and_leaves_no_parts(s3, file):
    folder = bucket_folder(s3)
    outgoing = Outgoing(folder, NAME)
    feed(outgoing)
    (upload,) = uploads(folder)
    target = {"Bucket": folder.path.partition("/")[0], "Key": upload["Key"]}
    deadline = time.monotonic() + 20
    while not (found := parts_of(folder, target, upload)) and time.monotonic() < deadline:
        pass
    assert {part["Size"] for part in found} == {8 * MEBIBYTE}
    outgoing.commit(file)
    assert uploads(folder) == []
    assert folder.fs.info(folder.file(NAME))["ContentType"] == "video/mp4"


def parts_of(folder, target, upload):
    found = folder.fs.call_s3("list_parts", **target, UploadId=upload["UploadId"])
    return found.get("Parts", [])


def test_an_upload_to_s3_that_is_discarded_leaves_no_parts(s3):
    folder = bucket_folder(s3)
    outgoing = Outgoing(folder, NAME)
    feed(outgoing)
    assert len(uploads(folder)) == 1
    outgoing.discard()
    assert uploads(folder) == []


def test_an_upload_to_s3_that_fails_leaves_no_parts_and_is_made_whole(s3, file):
    """Somebody aborts the upload in the middle: the file is here, and goes out once more."""
    folder = bucket_folder(s3)
    outgoing = Outgoing(folder, NAME)
    feed(outgoing, DATA[: 9 * MEBIBYTE])
    (upload,) = uploads(folder)
    folder.fs.abort_mpu(folder.path.partition("/")[0], upload["Key"], upload["UploadId"])
    for start in range(9 * MEBIBYTE, len(DATA), MEBIBYTE):
        outgoing.feed(memoryview(DATA[start : start + MEBIBYTE]))
    outgoing.commit(file)
    assert uploads(folder) == []
    assert folder.fs.cat_file(folder.file(NAME)) == DATA


def test_a_store_that_fails_in_the_middle_gets_the_file_at_the_end(file):
    store = RemoteStore()
    folder = Folder(store, "place")
    outgoing = Outgoing(folder, "clip.mp4")
    store.broken["write"] = OSError("a bad moment")
    feed(outgoing)
    store.broken.clear()
    outgoing.commit(file)
    assert store.files == {"place/clip.mp4": DATA}


@pytest.mark.parametrize("name", ["write", "cp_file", "info", "open wb"])
def test_a_store_that_goes_on_failing_is_reported_and_shows_nothing(name, file):
    store = RemoteStore()
    folder = Folder(store, "place")
    outgoing = Outgoing(folder, "clip.mp4")
    store.broken[name] = PermissionError("read-only: https://host/x?sig=CANARY")
    feed(outgoing)
    with pytest.raises(DeliveryFailed, match="mend the destination and run again") as caught:
        outgoing.commit(file)
    assert caught.value.billed == "yes"
    assert "CANARY" not in str(caught.value)
    outgoing.discard()
    assert not [path for path in store.files if path.endswith(".part")]
    assert "place/clip.mp4" not in store.shown


class Spoils(ObjectStore):
    """A store that spoils some of the videos that it is given, and says nothing.

    Attributes:
        spoils: How many.
    """

    spoils = 0

    def put(self, path, data):
        if path.endswith(".mp4") and self.spoils:
            self.spoils -= 1
            data = bytes(len(data))
        super().put(path, data)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.mp4"
    make_clip(path)
    return path


def test_what_was_delivered_is_read_there(folder, video):
    publish(video, folder, NAME)
    check_delivered(folder, NAME, video)
    other = video.with_name("other.mp4")
    make_clip(other, size=(128, 72))
    publish(other, folder, NAME)
    check_delivered(folder, NAME, video)
    assert folder.fs.cat_file(folder.file(NAME)) == video.read_bytes()


def test_a_file_that_is_no_video_was_taken_all_the_same(folder, file):
    """Who asked for no verification gets what there is."""
    publish(file, folder, NAME)
    check_delivered(folder, NAME, file)


def test_a_store_that_spoils_a_video_is_given_it_once_more(video):
    store = Spoils()
    folder = Folder(store, "place")
    store.spoils = 1
    publish(video, folder, NAME)
    check_delivered(folder, NAME, video)
    assert store.files[folder.file(NAME)] == video.read_bytes()


def test_a_store_that_spoils_a_video_twice_is_reported(video):
    store = Spoils()
    folder = Folder(store, "place")
    text = receipt(folder, NAME).model_dump_json().encode()
    publish_bytes(text, folder, f"{NAME}.json")
    store.spoils = 2
    publish(video, folder, NAME)
    with pytest.raises(DeliveryFailed, match="overwrite=True, which buys nothing") as caught:
        check_delivered(folder, NAME, video)
    assert caught.value.billed == "yes"
    assert read_receipt(folder, NAME) is None, "nothing may take it for whole"


def test_a_store_that_cannot_be_read_back_is_reported(video):
    store = RemoteStore()
    folder = Folder(store, "place")
    publish(video, folder, NAME)
    store.broken["open rb"] = PermissionError("https://host/x?sig=CANARY")
    with pytest.raises(DeliveryFailed, match="cannot be read back") as caught:
        check_delivered(folder, NAME, video)
    assert "CANARY" not in str(caught.value)


def start_upload(folder, name):
    bucket, key, _ = folder.fs.split_path(folder.file(name))
    target = {"Bucket": bucket, "Key": key}
    upload = folder.fs.call_s3("create_multipart_upload", **target)["UploadId"]
    folder.fs.call_s3("upload_part", **target, UploadId=upload, PartNumber=1, Body=b"x" * 100)


def keys(folder):
    return sorted(upload["Key"].rpartition("/")[2] for upload in uploads(folder))


def test_an_upload_that_a_killed_process_left_on_s3_is_removed_and_no_others(s3):
    folder = bucket_folder(s3)
    for name in ("mine.mp4", "stored.mp4", "somebody's.mp4", "deeper/mine.mp4"):
        start_upload(folder, name)
    text = receipt(folder, "stored.mp4").model_dump_json().encode()
    publish_bytes(text, folder, "stored.mp4.json")
    sweep(folder, time.time() + 3500, names=["mine.mp4"])
    assert len(keys(folder)) == 4
    sweep(folder, time.time() + 3700, names=["mine.mp4"])
    kept = {one["Key"].removeprefix("new/place/") for one in uploads(folder)}
    assert kept == {"deeper/mine.mp4", "somebody's.mp4"}
    sweep(folder, time.time() + 3700, workspaces=True)
    assert keys(folder) == ["mine.mp4"]


def test_a_part_that_a_killed_process_left_on_a_store_is_removed(memory):
    folder = Folder(WatchedMemory(), "/place")
    parts = [f".{uuid.uuid4().hex}.part", f".{uuid.uuid4().hex}"]
    for name in (*parts, "clip.mp4", ".part"):
        folder.fs.pipe_file(folder.file(name), b"x")
    sweep(folder, time.time() + 3500)
    assert len(names_in(folder)) == 4
    sweep(folder, time.time() + 3700)
    assert names_in(folder) == sorted([parts[1], "clip.mp4", ".part"])


def test_a_store_that_tells_no_time_keeps_its_parts():
    """RemoteStore has no `modified`: what may be in use is not removed."""
    folder = Folder(RemoteStore(), "place")
    name = f".{uuid.uuid4().hex}.part"
    folder.fs.pipe_file(folder.file(name), b"x")
    sweep(folder, time.time() + 10**9)
    assert names_in(folder) == [name]


def test_a_store_that_cannot_be_swept_costs_no_video(s3):
    sweep(Folder(s3.fs, f"{s3.url.removeprefix('s3://')}-missing/place"), time.time())
