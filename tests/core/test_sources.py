"""Who a source is, found out without showing how it is signed, and before any money is spent."""

import hashlib
import logging
import os
import pickle
import traceback
from datetime import datetime, timezone
from pathlib import Path

import pytest

from prefect_topaz.errors import UnusableSource
from prefect_topaz.http import USER_AGENT
from prefect_topaz.media import probe
from prefect_topaz.providers import load
from prefect_topaz.sandbox import make_clip
from prefect_topaz.sources import open_source
from tests.core.servers import ranged

Oxen, EvoLink = load("oxen"), load("evolink")
LOOPBACK = Oxen("http://127.0.0.1:1")
VENDOR = Oxen()
NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
SIGNATURE = "?X-Amz-Signature=CANARY&sig=%2F%3D#CANARY"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny clip with sound."""
    path = tmp_path_factory.mktemp("clips") / "my clip.mp4"
    return make_clip(path, seconds=0.5, size=(64, 36), fps=10)


@pytest.fixture(scope="module")
def other_clip(tmp_path_factory):
    """Another tiny clip."""
    path = tmp_path_factory.mktemp("clips") / "other.mp4"
    return make_clip(path, seconds=0.6, size=(64, 36), fps=10)


def sha256(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def tagged(data, **tags):
    """Serve some bytes with ranges and such validators."""

    def serve(visit):
        ranged(data, visit, etag=tags.get("ETag"))

    return serve


async def test_a_local_file_is_known_by_its_content(clip, tmp_path):
    source = await open_source(str(clip), VENDOR)
    assert source.facts.identity == sha256(clip)
    assert source.facts.label == str(clip)
    assert source.facts.name == "my clip"
    assert source.facts.media == probe(clip)
    copy = tmp_path / "take: 2#1 100%.mp4"
    copy.write_bytes(clip.read_bytes())
    assert (await open_source(str(copy), VENDOR)).facts.identity == sha256(clip)


async def test_a_local_file_may_be_given_as_a_url_or_from_home(clip, monkeypatch):
    monkeypatch.setenv("HOME", str(clip.parent))
    monkeypatch.chdir(clip.parent)
    for given in (clip.as_uri(), "~/my clip.mp4", "my clip.mp4", "./my clip.mp4"):
        assert (await open_source(given, VENDOR)).facts.identity == sha256(clip)


async def test_evolink_takes_a_local_file_whose_name_looks_like_an_address(clip, tmp_path):
    copy = tmp_path / "take #1?.mp4"
    copy.write_bytes(clip.read_bytes())
    assert (await open_source(str(copy), EvoLink())).facts.name == "take #1?"


async def test_a_url_is_known_by_what_its_server_says(clip, serving):
    server = serving(tagged(clip.read_bytes(), ETag='"v1"'))
    source = await open_source(f"{server.url}/a/my%20clip.mp4{SIGNATURE}", LOOPBACK)
    host = server.url.removeprefix("http://")
    size = clip.stat().st_size
    assert source.facts.identity == f'{host}/a/my%20clip.mp4#"v1"#{size}'
    assert source.facts.label == f"{server.url}/a/my%20clip.mp4"
    assert source.facts.name == "my clip"
    assert source.facts.media == probe(clip)
    assert {visit.headers["user-agent"] for visit in server.visits} == {USER_AGENT}
    assert {visit.target for visit in server.visits} == {
        "/a/my%20clip.mp4?X-Amz-Signature=CANARY&sig=%2F%3D"
    }


async def test_two_signatures_of_one_object_are_one_source(clip, serving):
    server = serving(tagged(clip.read_bytes(), ETag='"v1"'))
    found = [
        await open_source(f"{server.url}/a.mp4?X-Amz-Signature={one}", LOOPBACK)
        for one in ("first", "second")
    ]
    assert found[0].facts == found[1].facts
    assert found[0].url != found[1].url


async def test_a_changed_object_is_another_source(clip, other_clip, sandbox):
    url = sandbox.host(clip, "changing.mp4")
    first = await open_source(url, LOOPBACK)
    assert sandbox.host(other_clip, "changing.mp4") == url
    second = await open_source(url, LOOPBACK)
    assert first.facts.identity != second.facts.identity


async def test_without_validators_the_content_counts(clip, serving):
    server = serving(tagged(clip.read_bytes()))
    source = await open_source(f"{server.url}/a.mp4?sig=1", LOOPBACK)
    assert source.facts.identity == sha256(clip)


async def test_the_callers_word_counts_more_than_the_servers(clip, serving):
    server = serving(tagged(clip.read_bytes(), ETag='"v1"'))
    url = f"{server.url}/a.mp4"
    named = [
        (await open_source(f"{url}?sig={one}", LOOPBACK, version)).facts.identity
        for one, version in ((1, "v7"), (2, "v7"), (1, "v8"), (1, "sha256:abc"))
    ]
    place = url.removeprefix("http://")
    assert named == [f"{place}#v7", f"{place}#v7", f"{place}#v8", "sha256:abc"]


async def test_the_callers_word_for_a_local_file_is_bound_to_its_path(clip):
    source = await open_source(str(clip), VENDOR, "v7")
    assert source.facts.identity == f"{clip}#v7"
    source = await open_source(str(clip), VENDOR, "sha256:abc")
    assert source.facts.identity == "sha256:abc"


def head_refused(data):
    def serve(visit):
        if visit.method == "HEAD":
            visit.answer(403)
        else:
            ranged(data, visit)

    return serve


def no_ranges(data):
    """As Python's own file server: no ranges, and no word about them."""
    return lambda visit: visit.answer(200, data, last_modified="Thu, 01 Jan 2026 00:00:00 GMT")


def ranges_denied(data):
    return lambda visit: visit.answer(200, data, accept_ranges="none", ETag='"1"')


def ranges_feigned(data):
    return lambda visit: visit.answer(200, data, accept_ranges="bytes", ETag='"1"')


def unknown_length(data):
    return lambda visit: visit.answer(200, data, length=False, ETag='"1"')


SERVERS = [head_refused, no_ranges, ranges_denied, ranges_feigned, unknown_length]


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_simple_server_will_do(kind, clip, serving):
    server = serving(kind(clip.read_bytes()))
    source = await open_source(f"{server.url}/a.mp4?sig=1", LOOPBACK)
    assert source.facts.media == probe(clip)
    if kind is unknown_length:
        assert source.facts.identity == sha256(clip)
    with source.opened() as file:
        assert probe(file) == probe(clip)


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_simple_server_will_do_for_a_large_file(kind, clip, serving):
    """Larger than one read: its end is read too, where only the content tells who it is."""
    padding = 3 * 2**20
    large = clip.read_bytes() + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8)

    def untagged(visit):
        kind(large)(_Untagged(visit))

    source = await open_source(f"{serving(untagged).url}/a.mp4", LOOPBACK)
    assert source.facts.media == probe(clip)
    assert source.facts.identity == "sha256:" + hashlib.sha256(large).hexdigest()


class _Untagged:
    """A visit that is answered without validators."""

    def __init__(self, visit):
        self.visit = visit

    def __getattr__(self, name):
        return getattr(self.visit, name)

    def answer(self, status, body=b"", **headers):
        for name in ("ETag", "last_modified"):
            headers.pop(name, None)
        self.visit.answer(status, body, **headers)


async def test_a_server_without_ranges_that_cuts_leaves_nothing_open(clip, serving):
    data = clip.read_bytes()

    def serve(visit):
        visit.answer(200, data[:-1000], announced=len(data))

    server = serving(serve)
    with pytest.raises(UnusableSource):
        await open_source(f"{server.url}/a.mp4", LOOPBACK)


async def test_the_frames_of_a_local_source_can_be_read(clip):
    source = await open_source(str(clip), VENDOR)
    with source.opened() as file:
        assert probe(file) == probe(clip)


def shown(error):
    """All that a log could show of an error."""
    trace = "".join(traceback.format_exception(error))
    return f"{error} {error!r} {error.args} {trace} {pickle.dumps(error)!r}"


async def refused(source, dialect=LOOPBACK):
    with pytest.raises(UnusableSource) as caught:
        await open_source(str(source), dialect)
    assert caught.value.__context__ is None
    text = shown(caught.value)
    assert "CANARY" not in text
    assert caught.value.billed == "no"
    return caught.value.message


def closed_port(serving):
    server = serving()
    server.__exit__()
    return server.url


FAULTS = {
    "HTTP 403": lambda visit: visit.answer(403, b"<Error>expired</Error>"),
    "HTTP 404": lambda visit: visit.answer(404),
    "HTTP 500": lambda visit: visit.answer(500),
    "cannot be read": lambda visit: visit.hang_up(),
    "is not a video": lambda visit: visit.answer(200, b"<html>" + b"text " * 500),
    "is not a video: it is empty": lambda visit: visit.answer(200, b""),
}


@pytest.mark.parametrize("message", FAULTS)
async def test_a_url_that_gives_no_video_is_one_clear_error_without_its_signature(
    message, serving, caplog
):
    caplog.set_level(logging.DEBUG)
    server = serving(FAULTS[message])
    text = await refused(f"{server.url}/a.mp4{SIGNATURE}")
    assert message in text
    assert f"{server.url}/a.mp4" in text
    assert "CANARY" not in caplog.text


async def test_a_good_source_leaves_no_signature_in_the_logs(clip, serving, caplog):
    caplog.set_level(logging.DEBUG)
    server = serving(head_refused(clip.read_bytes()))
    source = await open_source(f"{server.url}/a.mp4{SIGNATURE}", LOOPBACK)
    with source.opened() as file:
        probe(file)
    assert "CANARY" not in caplog.text
    assert f"{server.url}/a.mp4" in caplog.text


async def test_a_server_that_is_not_there_is_one_clear_error(serving):
    assert "cannot be read" in await refused(f"{closed_port(serving)}/a.mp4{SIGNATURE}")
    assert "cannot be read" in await refused(f"http://nonexistent.invalid/a.mp4{SIGNATURE}")


async def test_local_files_that_are_no_video_are_one_clear_error(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video " * 100)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "is not a video" in await refused(text)
    assert "is not a video: it is empty" in await refused(empty)
    assert "does not exist" in await refused(tmp_path / "missing.mp4")
    assert "is a folder" in await refused(tmp_path)
    assert "does not exist" in await refused("~nobody-of-that-name/clip.mp4")
    assert "does not exist" in await refused("null\0byte.mp4")


async def test_a_file_that_may_not_be_read_is_one_clear_error(tmp_path):
    closed = tmp_path / "closed.mp4"
    closed.write_bytes(b"x")
    closed.chmod(0)
    # Nothing is closed to root, but for what the system itself refuses to read.
    unreadable = closed if os.geteuid() else Path("/proc/self/mem")
    assert "cannot be read: " in await refused(unreadable)


@pytest.mark.parametrize("source", ["https://[bad/a.mp4?sig=CANARY", "nonsense://CANARY@host"])
@pytest.mark.parametrize("dialect", [VENDOR, LOOPBACK])
async def test_what_nothing_can_read_is_refused(source, dialect):
    message = await refused(source, dialect)
    assert "give an http(s) URL, the path of a local file, or a URL such as s3://" in message


INTERNAL = [
    "http://127.0.0.1:8000/a.mp4",
    "http://localhost/a.mp4",
    "http://localhost./a.mp4",
    "http://files.localhost/a.mp4",
    "https://10.0.0.1/a.mp4",
    "https://192.168.1.1/a.mp4",
    "https://169.254.169.254/latest/meta-data.mp4",
    "https://[::1]/a.mp4",
    "https://[fd00::1]/a.mp4",
    "https://[::ffff:10.0.0.1]/a.mp4",
    "https://0.0.0.0/a.mp4",
    "http://minio:9000/bucket/a.mp4",
    "https://nas.local/a.mp4",
    "https://files.corp.internal/a.mp4",
    "https:///a.mp4",
]


@pytest.mark.parametrize("url", INTERNAL)
async def test_an_internal_address_is_refused_for_a_real_provider(url):
    message = await refused(url + SIGNATURE, VENDOR)
    assert "its host is internal" in message


async def test_evolink_refuses_what_is_not_mp4(tmp_path):
    for source in (tmp_path / "a.mov", "https://host.example/a.mov?x=.mp4", "https://h.example/a"):
        assert "EvoLink reads .mp4 only" in await refused(source, EvoLink())


@pytest.mark.parametrize("source", ["", "  ", "\n"])
@pytest.mark.parametrize("dialect", [VENDOR, EvoLink()])
async def test_an_empty_source_is_refused(source, dialect):
    assert "empty" in await refused(source, dialect)


async def test_a_url_is_its_own_link_and_a_local_file_has_none(clip, serving):
    server = serving(tagged(clip.read_bytes()))
    url = f"{server.url}/a.mp4{SIGNATURE}"
    hosted = await open_source(url, LOOPBACK)
    assert (await hosted.link(LOOPBACK, None, NOW)).reveal() == url
    local = await open_source(str(clip), VENDOR)
    assert await local.link(VENDOR, None, NOW) is None


async def test_a_source_tells_its_size_and_ending_and_can_be_copied(clip, serving, tmp_path):
    capital = tmp_path / "my clip.MP4"
    capital.write_bytes(clip.read_bytes())
    server = serving(tagged(clip.read_bytes()))
    for given in (str(capital), f"{server.url}/my%20clip.MP4?x=.mov"):
        source = await open_source(given, LOOPBACK)
        assert (source.size, source.suffix) == (clip.stat().st_size, ".mp4")
        with source.stream() as file:
            assert file.read() == clip.read_bytes()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("?X-Amz-Signature=a&X-Amz-Date=1", "?X-Amz-Signature=b&X-Amz-Date=2", True),
        ("?sig=a&se=1", "?se=2&sig=b", True),
        ("?id=1", "?id=2", False),
        ("?id=1&Expires=1&Signature=x", "?Expires=2&Signature=y&id=1", True),
        ("", "?id=1", False),
    ],
)
async def test_a_signature_makes_no_new_work_and_another_object_does(
    serving, clip, first, second, same
):
    url = f"{serving(tagged(clip.read_bytes())).url}/clip.mp4"
    identities = [
        (await open_source(url + query, LOOPBACK, "v1")).facts.identity for query in (first, second)
    ]
    assert (identities[0] == identities[1]) is same
