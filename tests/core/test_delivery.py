"""A file gets its final name whole or not at all, in its folder and no other."""

import os
import time
from datetime import datetime, timezone
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from prefect_topaz.delivery import (
    check_free,
    publish,
    publish_bytes,
    publishing,
    read_receipt,
    remove,
    retrieve,
    still_there,
    sweep,
    workspace,
)
from prefect_topaz.errors import DeliveryFailed, UnusableDestination
from prefect_topaz.models import Order, Receipt, Source
from prefect_topaz.places import Folder, url_of
from tests.core.stores import ObjectStore, RemoteStore, WatchedMemory

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
DATA = b"video" * 200_000
NAME = "clip [1]-4k.mp4"


@pytest.fixture
def file(tmp_path):
    """The file to deliver, on a disk of its own."""
    path = tmp_path / "work" / "result.mp4"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


STORES = ["local", "memory", "remote", "objects", "s3"]


@pytest.fixture(params=STORES)
def folder(request, tmp_path):
    """A folder that does not exist yet, on every kind of store."""
    if request.param == "local":
        return Folder(LocalFileSystem(), str(tmp_path / "new" / "place"))
    if request.param == "memory":
        request.getfixturevalue("memory")
        return Folder(WatchedMemory(), "/new/place")
    if request.param == "s3":
        bucket = request.getfixturevalue("s3")
        return Folder(bucket.fs, f"{bucket.url.removeprefix('s3://')}/new/place")
    kind = RemoteStore if request.param == "remote" else ObjectStore
    return Folder(kind(), "new/place")


def names_in(folder):
    folder.fs.invalidate_cache()
    try:
        found = folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError:
        return []
    return sorted(path.rpartition("/")[2] for path in found)


def receipt(folder, name, **fields):
    known = {
        "url": url_of(folder.fs, folder.file(name)),
        "receipt_url": url_of(folder.fs, folder.file(f"{name}.json")),
        "preview_url": None,
        "bytes": len(DATA),
        "sha256": "ab" * 32,
        "width": 640,
        "height": 360,
        "fps": 24.0,
        "duration": 2.0,
        "has_audio": True,
        "provider": "oxen",
        "job_id": "1",
        "work_key": "mine",
        "source": Source(identity="sha256:1", label="clip.mp4", name="clip"),
        "order": Order(provider="oxen", model="m", label="4k"),
        "submitted_at": NOON,
        "stored_at": NOON,
    }
    return Receipt(**{**known, **fields})


def test_a_name_that_is_free_is_free(folder):
    check_free(folder, NAME, "mine")


def test_a_name_taken_by_another_file_is_refused(folder, file):
    publish(file, folder, NAME)
    with pytest.raises(UnusableDestination, match="overwrite=True") as caught:
        check_free(folder, NAME, "mine")
    assert (caught.value.billed, caught.value.work_key) == ("no", "mine")


@pytest.mark.parametrize("text", [b"", b"{", b'{"other": "json"}', b"\xff"])
def test_a_name_taken_by_a_file_with_an_unreadable_receipt_is_refused(text, folder, file):
    publish(file, folder, NAME)
    publish_bytes(text, folder, f"{NAME}.json")
    assert read_receipt(folder, NAME) is None
    with pytest.raises(UnusableDestination):
        check_free(folder, NAME, "mine")


def test_a_name_taken_by_this_very_work_is_free(folder, file):
    publish(file, folder, NAME)
    text = receipt(folder, NAME).model_dump_json().encode()
    publish_bytes(text, folder, f"{NAME}.json")
    check_free(folder, NAME, "mine")
    with pytest.raises(UnusableDestination):
        check_free(folder, NAME, "other work")


def test_a_file_that_another_process_wrote_is_seen(s3, file):
    """A listing that s3fs remembers must not hide a file that would then be replaced."""
    folder = Folder(s3.fs, f"{s3.url.removeprefix('s3://')}/place")
    publish(file, folder, "first.mp4")
    assert names_in(folder) == ["first.mp4"]
    other = fsspec.filesystem("s3", **s3.options, skip_instance_cache=True)
    other.pipe_file(folder.file(NAME), b"x")
    with pytest.raises(UnusableDestination):
        check_free(folder, NAME, "mine")


def test_a_published_file_is_there_and_nothing_else(folder, file):
    url = publish(file, folder, NAME)
    assert url == url_of(folder.fs, folder.file(NAME))
    assert names_in(folder) == [NAME]
    assert folder.fs.cat_file(folder.file(NAME)) == DATA


def test_publishing_again_replaces(folder, file):
    publish_bytes(b"old", folder, NAME)
    publish(file, folder, NAME)
    assert folder.fs.cat_file(folder.file(NAME)) == DATA
    assert names_in(folder) == [NAME]


@pytest.mark.parametrize("kind", ["memory", "remote"])
def test_a_final_name_never_shows_a_part(kind, memory, file):
    store = WatchedMemory() if kind == "memory" else RemoteStore()
    folder = Folder(store, "/place")
    publish(file, folder, "clip.mp4")
    shown = {path.strip("/"): sizes for path, sizes in store.shown.items()}
    assert shown["place/clip.mp4"] == {len(DATA)}
    assert any(0 in sizes for sizes in shown.values()), "this store shows files as they grow"


def broken_stores():
    remote = ["write", "cp_file", "info", "open wb"]
    return [(RemoteStore, name) for name in remote] + [(ObjectStore, "put_file")]


@pytest.mark.parametrize(("kind", "name"), broken_stores())
def test_a_store_that_fails_in_the_middle_never_shows_a_part(kind, name, file):
    store = kind()
    folder = Folder(store, "place")
    store.broken[name] = PermissionError("read-only: https://host/x?sig=CANARY")
    with pytest.raises(DeliveryFailed, match="mend the destination and run again") as caught:
        publish(file, folder, "clip.mp4")
    assert caught.value.billed == "yes"
    assert "CANARY" not in str(caught.value)
    assert "place/clip.mp4" not in store.shown
    store.broken.clear()
    assert not [path for path in store.files if path.endswith(".part")]
    publish(file, folder, "clip.mp4")
    assert store.shown["place/clip.mp4"] == {len(DATA)}


def test_a_store_that_fails_keeps_what_was_there(file):
    store = RemoteStore()
    folder = Folder(store, "place")
    publish_bytes(b"old", folder, "clip.mp4")
    store.broken["cp_file"] = OSError("no")
    with pytest.raises(DeliveryFailed):
        publish(file, folder, "clip.mp4")
    assert store.files == {"place/clip.mp4": b"old"}


def test_a_store_that_lost_bytes_is_noticed(file):
    class Lossy(ObjectStore):
        def put(self, path, data):
            super().put(path, data[:-1])

    with pytest.raises(DeliveryFailed, match="another number of bytes"):
        publish(file, Folder(Lossy(), "place"), "clip.mp4")


def test_a_bucket_that_is_not_there_is_not_made(s3, file):
    """A bucket by a mistyped name would take the video where nobody looks for it."""
    missing = f"{s3.url}-missing"
    with pytest.raises(DeliveryFailed):
        publish(file, Folder(s3.fs, f"{missing.removeprefix('s3://')}/place"), NAME)
    assert not s3.fs.exists(missing)


def test_a_destination_that_cannot_be_written_is_said_so(file, tmp_path):
    (tmp_path / "taken").write_text("a file")
    folder = Folder(LocalFileSystem(), str(tmp_path / "taken"))
    with pytest.raises(DeliveryFailed, match="cannot be written") as caught:
        publish(file, folder, NAME)
    assert caught.value.__cause__ is None
    assert file.read_bytes() == DATA


def test_a_folder_of_that_name_is_not_replaced(file, tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(DeliveryFailed):
        publish(file, Folder(LocalFileSystem(), str(tmp_path)), NAME)
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "work"]


@pytest.mark.parametrize("step", ["copyfile", "fsync", "replace"])
def test_a_disk_that_fails_in_the_middle_never_shows_a_part(step, file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    def other_disk(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    target = {"copyfile": publishing.shutil, "fsync": os, "replace": Path}[step]
    monkeypatch.setattr(target, step, full)
    place = tmp_path / "place"
    with pytest.raises(DeliveryFailed, match="No space left"):
        publish(file, Folder(LocalFileSystem(), str(place)), NAME)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_local_file_is_published_with_and_without_links(links, file, tmp_path, monkeypatch):
    def other_disk(*_):
        raise OSError(18, "Invalid cross-device link")

    if not links:
        monkeypatch.setattr(os, "link", other_disk)
    place = tmp_path / "place"
    publish(file, Folder(LocalFileSystem(), str(place)), NAME)
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [(NAME, DATA)]
    file.unlink()
    assert (place / NAME).read_bytes() == DATA


def test_a_stored_video_is_found_again(folder, file):
    publish(file, folder, NAME)
    video = receipt(folder, NAME)
    assert still_there(folder, NAME, video)
    assert not still_there(folder, NAME, receipt(folder, NAME, bytes=len(DATA) - 1))
    assert not still_there(folder, NAME, receipt(folder, NAME, url="s3://elsewhere/x.mp4"))
    assert not still_there(folder, "other.mp4", receipt(folder, "other.mp4"))
    remove(folder, NAME)
    assert not still_there(folder, NAME, video)


def test_a_receipt_is_read_back(folder):
    assert read_receipt(folder, NAME) is None
    written = receipt(folder, NAME)
    publish_bytes(written.model_dump_json(indent=2).encode(), folder, f"{NAME}.json")
    assert read_receipt(folder, NAME) == written


def test_a_file_is_copied_back_and_removed(folder, file, tmp_path):
    publish(file, folder, NAME)
    retrieve(folder, NAME, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == DATA
    remove(folder, NAME)
    remove(folder, NAME)
    assert names_in(folder) == []


def test_a_workspace_lies_beside_a_local_journal_and_goes_away(tmp_path):
    journal = Folder(LocalFileSystem(), str(tmp_path / ".topaz" / "key"))
    with workspace(journal) as space:
        assert space.parent == tmp_path / ".topaz" / "key"
        (space / "result.mp4").write_bytes(DATA)
    assert not space.exists()


def test_a_workspace_for_another_store_lies_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with workspace(Folder(RemoteStore(), "place")) as space:
        assert space.parent == tmp_path
    assert not space.exists()


UNFINISHED = (f".0001.json.{'a' * 32}", f".clip.mp4.{'b' * 32}.part")


def litter(place: Path) -> None:
    (place / "part-x1_y2z3a").mkdir(parents=True)
    for name in (*UNFINISHED, "0001.json", "clip.mp4", ".hidden", "part-x1_y2z3a/result.mp4"):
        (place / name).write_bytes(DATA)


def test_what_a_killed_process_left_is_swept_away_and_nothing_else(tmp_path):
    litter(tmp_path)
    folder, later = Folder(LocalFileSystem(), str(tmp_path)), time.time() + 3700
    sweep(folder, later)
    kept = [".hidden", "0001.json", "clip.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*kept, "part-x1_y2z3a"]
    sweep(folder, later, workspaces=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_a_file_that_somebody_may_be_working_on_is_not_swept_away(tmp_path):
    litter(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    sweep(Folder(LocalFileSystem(), str(tmp_path)), time.time() + 3500, workspaces=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_sweeping_a_folder_that_is_not_there_is_no_trouble(folder):
    sweep(folder, time.time(), workspaces=True)
    assert names_in(folder) == []
