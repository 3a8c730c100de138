"""Connections for bulk bytes: kept, exact in what they ask, and through the proxies of the system."""

import base64
import socket
import threading

import pytest

from prefect_topaz.download.bulk import Broken, Connections
from tests.core.servers import ranged

DATA = b"v" * 100_000


@pytest.fixture
def connections(monkeypatch):
    """Connections of a machine that has no proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Connections()
    yield made
    made.end()


def read(connections, url, **headers):
    with connections.get(url, headers) as answer:
        pieces = []
        while piece := answer.read():
            pieces.append(piece)
        return b"".join(pieces)


def test_a_connection_is_kept_for_the_next_part(serving, connections):
    server = serving(lambda visit: ranged(DATA, visit))
    for _ in range(5):
        assert read(connections, server.url) == DATA
    assert server.connections == 1


def test_a_connection_with_unread_bytes_is_not_kept(serving, connections):
    server = serving(lambda visit: ranged(DATA, visit))
    with connections.get(server.url, {}) as answer:
        assert answer.status == 200
    assert read(connections, server.url) == DATA
    assert server.connections == 2


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(serving, connections):
    """A server closes what was idle for long, and says nothing."""
    server = serving(lambda visit: (ranged(DATA, visit), visit.hang_up()))
    for _ in range(3):
        assert read(connections, server.url) == DATA
    assert server.connections == 3


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/a%2fb/%C3%A9?X-Sig=a%2fb+c%3d%3D&x=~(1)", "/a%2fb/%C3%A9?X-Sig=a%2fb+c%3d%3D&x=~(1)"),
        ("/a//./b?", "/a//./b"),
        ("?sig=1", "/?sig=1"),
        ("/é x", "/%C3%A9%20x"),
    ],
)
def test_a_signed_url_is_asked_for_by_its_very_characters(asked, sent, serving, connections):
    """Some signatures cover the text of the URL: `%2f` and `%2F` are two then."""
    server = serving(lambda visit: ranged(DATA, visit))
    read(connections, f"{server.url}{asked}")
    assert server.visits[0].target == sent


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 70_000]
)
def test_what_is_no_http_is_broken(answer, connections):
    with one_answer(answer) as (port, _), pytest.raises(Broken) as caught:
        read(connections, f"http://127.0.0.1:{port}/?sig=CANARY")
    assert "CANARY" not in str(caught.value)
    assert "nonsense" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/", f"https://{'a' * 64}.example/", "http://"])
def test_a_host_that_cannot_be_reached_is_broken(url, connections):
    with pytest.raises(Broken):
        read(connections, url)


def test_a_server_whose_certificate_nobody_trusts_is_not_read(connections):
    with one_answer(b"not TLS at all") as (port, _), pytest.raises(Broken, match="SSL"):
        read(connections, f"https://127.0.0.1:{port}/")


def test_ending_wakes_who_reads_and_lets_nobody_ask(serving, connections):
    server = serving(lambda visit: visit.wait())
    failed = []

    def reads():
        try:
            failed.append(read(connections, server.url))
        except Broken as error:
            failed.append(error)

    reader = threading.Thread(target=reads)
    reader.start()
    while not server.visits:
        pass
    connections.end()
    reader.join(10)
    assert not reader.is_alive()
    assert failed
    with pytest.raises(Broken, match="ended"):
        read(connections, server.url)


def test_a_proxy_of_the_environment_is_asked_for_the_host(connections, monkeypatch):
    with one_answer(b"HTTP/1.1 502 no\r\n\r\n") as (port, heard):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{port}")
        with pytest.raises(Broken, match="502"):
            read(connections, "https://results.example.com/a?sig=CANARY", Authorization="KEY")
    asked = heard[0].decode()
    assert asked.startswith("CONNECT results.example.com:443 ")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:p@ss').decode()}" in asked
    assert "CANARY" not in asked
    assert "KEY" not in asked


def test_a_host_that_is_excepted_is_asked_without_the_proxy(connections, monkeypatch):
    with one_answer(b"not TLS") as (port, heard):
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(Broken, match="SSL"):
            read(connections, f"https://127.0.0.1:{port}/")
    assert heard


def test_loopback_is_never_asked_of_a_proxy(serving, connections, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server = serving(lambda visit: ranged(DATA, visit))
    assert read(connections, server.url) == DATA


def test_a_proxy_that_downloads_do_not_know_is_named(connections, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(Broken, match="know no socks5 proxies: name an http:// one"):
        read(connections, "https://results.example.com/a")


class one_answer:  # noqa: N801  # reads as a verb
    """Listen for one connection, note what it says first, and answer so."""

    def __init__(self, answer):
        self.answer, self.heard = answer, []

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self.socket.getsockname()[1], self.heard

    def serve(self):
        connection, _ = self.socket.accept()
        with connection:
            self.heard.append(connection.recv(65536))
            connection.sendall(self.answer)

    def __exit__(self, *_):
        self.thread.join(10)
        self.socket.close()
