"""Only a store where of two writers one wins may hold a journal; the others are told apart."""

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.local import LocalFileSystem

from prefect_topaz import places
from prefect_topaz.errors import JournalUnavailable, UnusableDestination
from prefect_topaz.journal import Journal
from prefect_topaz.places import Folder, check_exclusive
from tests.core.stores import RemoteStore, Repeats


@pytest.fixture(autouse=True)
def nothing_proven(monkeypatch):
    """Every test is a process that has not asked yet."""
    monkeypatch.setattr(places, "_exclusive", set())


class Overwrites(RemoteStore):
    """A store that takes `mode` and does not look at it, as an old S3 server does."""

    def pipe_file(self, path, value, mode="overwrite", **named):
        super().pipe_file(path, value, **named)


class TooOld(RemoteStore):
    """A store from before there was a `mode`."""

    def pipe_file(self, path, value):  # the missing argument is the point
        self.put(path, value)


class Declines(RemoteStore):
    """A store that knows `mode`, and says that it cannot."""

    def pipe_file(self, path, value, mode="overwrite", **named):
        raise NotImplementedError


class NoCondition(RemoteStore):
    """An S3 server that answers 501 to a conditional write."""

    def pipe_file(self, path, value, mode="overwrite", **named):
        raise OSError(errno.ENOSYS, "A header you provided implies functionality")


class LooksFirst(RemoteStore):
    """A store with a pipe of its own that looks, and then writes; both writers meet between."""

    def __init__(self, *options, **named):
        super().__init__(*options, **named)
        self.meeting = threading.Barrier(2)

    def pipe_file(self, path, value, mode="overwrite", **named):
        if self.exists(path):
            raise FileExistsError(path)
        self.meeting.wait(10)
        super().pipe_file(path, value, **named)


class Inherits(RemoteStore):
    """A store with nothing but fsspec's own pipe."""

    pipe_file = AbstractFileSystem.pipe_file


@pytest.mark.parametrize("kind", [Overwrites, TooOld, Declines, NoCondition, LooksFirst, Inherits])
def test_a_store_where_two_writers_may_win_is_refused_with_the_way_out(kind):
    store = kind()
    with pytest.raises(UnusableDestination, match="two runs at once could both buy") as caught:
        check_exclusive(Folder(store, "/out/.topaz"))
    assert "Pass journal= with a folder on the local disk, S3" in str(caught.value)
    assert caught.value.billed == "no"
    assert store.files == {}


def test_a_refused_store_is_asked_again():
    """Nothing says that the next answer is the same: a server may have been mended."""
    folder = Folder(Overwrites(), "/out")
    for _ in range(2):
        with pytest.raises(UnusableDestination):
            check_exclusive(folder)


def test_a_password_in_the_address_is_not_in_the_refusal():
    class Names(Inherits):
        def unstrip_protocol(self, name):
            return f"ftp://me:CANARY@host{name}"

    with pytest.raises(UnusableDestination, match="host") as caught:
        check_exclusive(Folder(Names(), "/out"))
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("kind", [RemoteStore, Repeats])
def test_a_store_that_lets_one_writer_win_is_accepted_once_and_left_clean(kind):
    store = kind()
    folder = Folder(store, "/out/.topaz")
    check_exclusive(folder)
    assert store.files == {}
    assert len(store.shown) == 1
    check_exclusive(folder)
    assert len(store.shown) == 1
    check_exclusive(Folder(store, "/elsewhere"))
    assert len(store.shown) == 2


def test_a_store_that_forbids_to_delete_is_accepted_all_the_same():
    class Keeps(RemoteStore):
        def _rm(self, path):
            raise PermissionError(path)

    check_exclusive(Folder(Keeps(), "/out"))


def test_s3_is_accepted_and_left_clean(s3):
    folder = Folder(s3.fs, f"{s3.url.removeprefix('s3://')}/out/.topaz")
    check_exclusive(folder)
    s3.fs.invalidate_cache()
    assert s3.fs.find(s3.url) == []


def test_the_local_disk_and_memory_are_known_and_not_asked(tmp_path, memory):
    check_exclusive(Folder(LocalFileSystem(), str(tmp_path / "new")))
    check_exclusive(Folder(memory, "/new"))
    assert list(tmp_path.iterdir()) == []
    assert memory.find("/") == []


def test_a_folder_as_a_store_is_what_is_below_it(tmp_path):
    """`dir::file://` hands the create on to the local store of fsspec, which looks and writes."""
    with pytest.raises(UnusableDestination, match="only looks"):
        check_exclusive(Folder(DirFileSystem(str(tmp_path), LocalFileSystem()), "out"))


def test_of_local_writers_who_all_have_written_one_wins(tmp_path, monkeypatch):
    """A look before the rename would take microseconds: all meet right before it, many times."""
    writers, rounds = 4, 150
    meeting = threading.Barrier(writers)

    def meet(handle):
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            meeting.wait(10)

    def wins(name):
        try:
            places.create(LocalFileSystem(), str(tmp_path / name), b"x")
        except FileExistsError:
            return False
        return True

    monkeypatch.setattr(os, "fsync", meet)
    with ThreadPoolExecutor(writers) as pool:
        for number in range(rounds):
            assert sum(pool.map(wins, [str(number)] * writers)) == 1


def test_ftp_still_inherits_the_look_and_write():
    """Once it has a create of its own, the comment in `places` is to be changed."""
    assert FTPFileSystem.pipe_file is AbstractFileSystem.pipe_file


async def test_a_journal_that_cannot_be_tried_is_unavailable_and_not_refused():
    store = RemoteStore()
    store.broken["pipe_file"] = PermissionError("no access to https://host/x?sig=CANARY")
    with pytest.raises(JournalUnavailable, match="nothing is bought without it") as caught:
        await Journal(Folder(store, "/out")).check()
    assert "CANARY" not in str(caught.value)


async def test_a_journal_refuses_what_its_folder_refuses(tmp_path):
    with pytest.raises(UnusableDestination):
        await Journal(Folder(Overwrites(), "/out")).check()
    await Journal(Folder(fsspec.filesystem("file"), str(tmp_path))).check()
