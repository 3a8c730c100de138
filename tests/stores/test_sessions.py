"""SFTP and FTP for many threads and long waits: sessions of their own, renewed when dropped."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prefect_topaz.errors import UnusableDestination
from prefect_topaz.models import Place
from prefect_topaz.places import open_place
from prefect_topaz.stores import open_store
from tests.stores import servers
from tests.stores.stored import Stored

LARGE = os.urandom(3_000_000)
servers_of_files = pytest.mark.parametrize("kind", ["sftp", "ftp"])


def hang_up(place: Stored) -> None:
    """End every connection as a server does that has waited long enough."""
    fs = place.folder.fs
    if place.kind == "ftp":
        fs.ftp.sock.shutdown(2)
    for connection in getattr(fs, "_connections", ()):
        connection._client.get_transport().close()


@servers_of_files
def test_a_file_is_read_whole_and_in_parts(kind, stored, tmp_path):
    place = stored(kind)
    fs, path = place.folder.fs, place.folder.file("large")
    (tmp_path / "large").write_bytes(LARGE)
    fs.put_file(str(tmp_path / "large"), path)
    assert fs.cat_file(path) == LARGE
    for start, end in [(0, 10), (1_000_000, 2_000_000), (2_999_990, None), (5, 5), (0, 9**9)]:
        assert fs.cat_file(path, start, end) == LARGE[start:end]
    assert fs.cat_file(path, -7) == LARGE[-7:]
    assert fs.cat_file(path, 5, -7) == LARGE[5:-7]
    with fs.open(path, "rb", block_size=65_536) as file:
        file.seek(1_500_000)
        assert file.read(100_000) == LARGE[1_500_000:1_600_000]
        file.seek(-5, 2)
        assert file.read() == LARGE[-5:]
    for missing in ("none", "none/none", "large/none"):
        with pytest.raises(FileNotFoundError):
            fs.cat_file(place.folder.file(missing))
        assert not fs.exists(place.folder.file(missing))


@servers_of_files
def test_a_file_that_one_thread_opened_is_written_by_others_while_it_asks(kind, stored):
    place = stored(kind)
    fs, path = place.folder.fs, place.folder.file("large")
    fs.makedirs(place.folder.path, exist_ok=True)
    pieces = [LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)]
    with fs.open(path, "wb", block_size=200_000) as file:
        for piece in pieces:
            writer = threading.Thread(target=file.write, args=(piece,))
            writer.start()
            assert fs.isdir(place.folder.path)
            writer.join()
    assert fs.cat_file(path) == LARGE


@servers_of_files
def test_many_threads_ask_one_store_and_each_gets_its_own_answer(kind, stored, caplog):
    place = stored(kind)
    fs, count = place.folder.fs, 20
    fs.makedirs(place.folder.path, exist_ok=True)
    gate = threading.Barrier(count)

    def work(number: int) -> bool:
        gate.wait(30)
        path, data = place.folder.file(str(number)), b"%d" % number * 1000
        fs.pipe_file(path, data)
        return all(fs.cat_file(path) == data and fs.size(path) == len(data) for _ in range(5))

    with ThreadPoolExecutor(count) as pool:
        assert all(pool.map(work, range(count)))
    assert not [one for one in caplog.messages if "FAILED" in one], "the server said enough"


@servers_of_files
def test_a_dropped_connection_is_made_anew(kind, stored):
    place = stored(kind)
    fs = place.folder.fs
    fs.makedirs(place.folder.path, exist_ok=True)
    for ask in (
        lambda: fs.pipe_file(place.folder.file("a"), b"x"),
        lambda: fs.cat_file(place.folder.file("a")),
        lambda: fs.ls(place.folder.path),
        lambda: fs.mv(place.folder.file("a"), place.folder.file("a")),
    ):
        hang_up(place)
        ask()


@servers_of_files
def test_folders_are_made_by_many_at_once(kind, stored):
    place = stored(kind)
    fs, deep = place.folder.fs, place.folder.file("a", "b", "c")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: fs.makedirs(deep, exist_ok=True), range(8)))
    assert fs.isdir(deep)
    with pytest.raises(FileExistsError):
        fs.makedirs(deep)
    fs.pipe_file(place.folder.file("file"), b"x")
    with pytest.raises(Exception, match=r".+"):
        fs.makedirs(place.folder.file("file", "inside"), exist_ok=True)


@servers_of_files
def test_a_server_that_cannot_be_asked_is_not_taken_for_one_without_the_file(kind):
    fs, path = open_store(f"{kind}://127.0.0.1:9/there", {})
    for ask in (fs.exists, fs.isdir, fs.isfile, fs.cat_file, fs.ls):
        with pytest.raises(OSError, match=r".+"):
            ask(path)


@pytest.mark.parametrize(
    ("url", "path", "shown"),
    [
        ("sftp://me@host:2222/a/b c#d?e%20.mp4", "/a/b c#d?e%20.mp4", None),
        ("ssh://host/a", "/a", "sftp://host/a"),
        ("sftp://host", "/", "sftp://host/"),
        ("ftp://host:21/a/", "/a", "ftp://host:21/a"),
        ("ftp://me:secret@host/a?b", "/a?b", "ftp://me@host/a?b"),
    ],
)
def test_a_url_names_server_and_path_and_is_given_back_without_the_password(url, path, shown):
    fs, found = open_store(url, {})
    assert found == path
    assert fs.unstrip_protocol(found) == (shown or url)


def test_one_store_serves_all_threads_and_others_have_their_own():
    url = "sftp://me@host/a"
    first, _ = open_store(url, {})
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(open_store, url, {}).result()[0] is first
    assert open_store("sftp://you@host/a", {})[0] is not first
    assert open_store(url, {"port": 2222})[0] is not first


def test_a_server_that_allows_few_sessions_gets_more_connections(tmp_path):
    (tmp_path / "it").mkdir()
    (tmp_path / "at").mkdir()
    with servers.sftp_server(tmp_path / "it", tmp_path / "at", limit=2) as server:
        url = f"sftp://127.0.0.1:{server.port}{tmp_path}/at"
        fs, path = open_store(url, server.options)
        gate = threading.Barrier(6)

        def ask(_: int) -> bool:
            found = fs.isdir(path)
            gate.wait(30)  # nobody's session is free before all have one
            return bool(found)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(ask, range(6)))
        assert len(fs._connections) == 3


def test_a_small_file_on_sftp_is_never_seen_in_part_and_leaves_nothing(stored):
    place = stored("sftp")
    fs, path = place.folder.fs, place.folder.file("0001.json")
    fs.pipe_file(path, b"one", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(path, b"two", mode="create")
    assert place.names() == ["0001.json"]
    fs.pipe_file(path, b"three")
    assert place.read("0001.json") == b"three"
    fs.makedirs(place.folder.file("folder"))
    with pytest.raises(OSError, match="Failure"):
        fs.pipe_file(place.folder.file("folder"), b"x")
    assert place.names() == ["0001.json", "folder"]


def test_sftp_without_its_package_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "paramiko", None)
    monkeypatch.delitem(sys.modules, "prefect_topaz.stores.sftp", raising=False)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    with pytest.raises(UnusableDestination, match=r"pip install 'prefect-topaz\[sftp\]'"):
        open_place(Place(url="sftp://host/out/"))


def test_what_ftp_refuses_is_told_from_what_is_missing(stored):
    place = stored("ftp")
    fs = place.folder.fs
    fs.makedirs(place.folder.path)
    secret = place.root / "secret"
    secret.mkdir()
    with pytest.raises(PermissionError, match="550"):
        fs.cat_file(place.folder.file("secret"))  # a folder
    with pytest.raises(FileNotFoundError):
        fs.rm_file(place.folder.file("none"))


def test_a_failed_transfer_over_ftp_leaves_no_answer_for_the_next_question(stored, tmp_path):
    place = stored("ftp")
    fs = place.folder.fs

    class Breaks:
        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    fs.makedirs(place.folder.path)
    with pytest.raises(OSError, match="Input/output"):
        fs.send(place.folder.file("a"), Breaks())
    assert fs._mine.session is None, "its answer is still to come on that connection"
    (Path(tmp_path) / "b").write_bytes(b"b")
    fs.put_file(str(tmp_path / "b"), place.folder.file("b"))
    assert fs.cat_file(place.folder.file("b")) == b"b"
