"""Folders and files on three stores, and the create of which only one caller succeeds."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from prefect_topaz.errors import UnusableDestination
from prefect_topaz.models import Place
from prefect_topaz.places import (
    Folder,
    create,
    local_path,
    open_file,
    open_folder,
    read,
    sync_folder,
    url_of,
)
from tests.core.stores import Remembers, RemoteStore, SlowMemory


@pytest.mark.parametrize("url", ["nowhere://me:CANARY@a/b.mp4?CANARY", "nowhere://a/b?sig=CANARY"])
def test_an_unknown_store_is_one_clear_error_without_secrets(url):
    with pytest.raises(UnusableDestination, match="fsspec knows") as caught:
        open_folder(Place(url=url))
    assert "CANARY" not in str(caught.value)


def test_places_inside_a_folder(tmp_path):
    folder = open_folder(Place(url=f"{tmp_path}/"))
    assert folder.url == str(tmp_path)
    assert folder.file("a", "b.json") == f"{tmp_path}/a/b.json"
    assert folder.folder("a").url == f"{tmp_path}/a"
    assert open_folder(Place(url="memory://")).folder(".topaz").url == "memory:///.topaz"


def test_a_local_place_is_a_plain_path_and_others_have_urls(tmp_path, memory):
    local = fsspec.filesystem("file")
    assert url_of(local, str(tmp_path)) == str(tmp_path)
    assert local_path(local, str(tmp_path)) == tmp_path
    assert url_of(memory, "/a/b") == "memory:///a/b"
    assert local_path(memory, "/a/b") is None


def test_a_file_is_read_by_its_url_with_the_settings_of_its_place(s3):
    s3.fs.pipe_file(f"{s3.url}/a.json", b"{}")
    assert open_file(Place(url=s3.url, options=s3.options), f"{s3.url}/a.json") == b"{}"


STORES = ["local", "memory", "slow memory", "remote", "s3"]


@pytest.fixture(params=STORES)
def there(request, tmp_path):
    """A folder that does not exist yet, on every kind of store."""
    if request.param == "local":
        return Folder(LocalFileSystem(), str(tmp_path / "new" / "place"))
    if request.param == "memory":
        return Folder(request.getfixturevalue("memory"), "/new/place")
    if request.param == "slow memory":
        request.getfixturevalue("memory")
        return Folder(SlowMemory(), "/new/place")
    if request.param == "remote":
        return Folder(RemoteStore(), "/new/place")
    bucket = request.getfixturevalue("s3")
    return Folder(bucket.fs, f"{bucket.url.removeprefix('s3://')}/new/place")


def test_a_created_file_is_read_back_whole(there):
    create(there.fs, there.file("0001.json"), b"one")
    assert read(there.fs, there.file("0001.json")) == b"one"
    assert read(there.fs, there.file("0002.json")) is None


def test_a_second_create_changes_nothing(there):
    create(there.fs, there.file("0001.json"), b"one")
    with pytest.raises(FileExistsError):
        create(there.fs, there.file("0001.json"), b"two")
    assert read(there.fs, there.file("0001.json")) == b"one"


def test_a_listing_that_a_store_remembers_does_not_hide_what_another_process_wrote():
    store = Remembers()
    assert read(store, "place/0001.json") is None
    store.files["place/0001.json"] = b"one"
    assert read(store, "place/0001.json") == b"one"


def attempt(fs, path, data, gate=None):
    if gate is not None:
        gate.wait()
    try:
        create(fs, path, data)
    except FileExistsError:
        return None
    return data


def test_of_twenty_threads_one_creates(there):
    for number in range(3):
        path = there.file(f"{number:04d}.json")
        gate = threading.Barrier(20)
        with ThreadPoolExecutor(20) as pool:
            wins = list(
                pool.map(lambda n: attempt(there.fs, path, b"%d" % n * 5000, gate), range(20))  # noqa: B023  # used up within the turn
            )
        won = [one for one in wins if one]
        assert len(won) == 1
        assert read(there.fs, path) == won[0]


def race(path, count, results):
    fs = LocalFileSystem()
    name = str(os.getpid()).encode()
    won = [n for n in range(count) if attempt(fs, f"{path}/{n:04d}.json", name * 1000)]
    results.put((name.decode(), won))


def test_of_four_processes_one_creates_each_local_file(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.SimpleQueue()
    count = 50
    runs = [spawn.Process(target=race, args=(str(tmp_path), count, results)) for _ in range(4)]
    for run in runs:
        run.start()
    wins = dict(results.get() for _ in runs)
    for run in runs:
        run.join()
    assert sorted(n for won in wins.values() for n in won) == list(range(count))
    for name, won in wins.items():
        for number in won:
            assert (tmp_path / f"{number:04d}.json").read_text() == name * 1000
    assert len(list(tmp_path.iterdir())) == count


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_created_file_is_never_seen_in_part(kind, tmp_path, memory):
    fs, base = (LocalFileSystem(), str(tmp_path)) if kind == "local" else (memory, "/place")
    data = b"x" * 3_000_000
    seen, ended = set(), threading.Event()

    def watch():
        while not ended.is_set():
            seen.update(len(read(fs, f"{base}/{n}") or data) for n in range(20))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(20):
        create(fs, f"{base}/{number}", data)
    ended.set()
    watcher.join()
    assert seen == {len(data)}


def test_a_file_system_without_links_creates_exclusively_too(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "0001.json"
    create(LocalFileSystem(), str(path), b"one")
    with pytest.raises(FileExistsError):
        create(LocalFileSystem(), str(path), b"two")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("0001.json", b"one")]


def test_a_create_in_place_that_fails_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    """Without links a full disk could leave half an event, which nobody could read again."""
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")

    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        create(LocalFileSystem(), str(tmp_path / "0001.json"), b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_local_create_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        create(LocalFileSystem(), str(tmp_path / "0001.json"), b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_opened_is_not_synced(tmp_path):
    sync_folder(tmp_path / "missing")
    sync_folder(tmp_path)
    assert Path(tmp_path).is_dir()


@pytest.mark.parametrize(
    "answer",
    [
        OSError("An error occurred (PreconditionFailed) when calling PutObject"),
        RuntimeError("ConditionalRequestConflict: a conflicting operation is in progress"),
    ],
)
def test_a_store_that_says_in_its_own_words_that_the_file_exists_is_understood(answer):
    store = RemoteStore()
    store.broken["pipe_file"] = answer
    with pytest.raises(FileExistsError):
        create(store, "/a", b"x")


def test_any_other_failure_of_a_store_is_handed_on():
    store = RemoteStore()
    store.broken["pipe_file"] = OSError("SlowDown")
    with pytest.raises(OSError, match="SlowDown"):
        create(store, "/a", b"x")
