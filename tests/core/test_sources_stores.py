"""Sources on fsspec stores: known without reading them, and refused in one clear sentence."""

import logging
import shutil
import struct
from datetime import datetime, timezone

import fsspec
import pytest

from prefect_topaz.errors import UnusableSource
from prefect_topaz.media import probe
from prefect_topaz.models import Place
from prefect_topaz.providers import load
from prefect_topaz.sandbox import make_clip
from prefect_topaz.sources import open_source
from prefect_topaz.sources.address import inside, label_of
from prefect_topaz.sources.identity import by_store, place_on_store
from prefect_topaz.sources.store import StoredFile
from tests.core.servers import Server
from tests.core.stores import Remembers, RemoteStore
from tests.core.test_sources import sha256, shown

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
Oxen, EvoLink = load("oxen"), load("evolink")
VENDOR, LOOPBACK = Oxen(), Oxen("http://127.0.0.1:1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, seconds=0.5, size=(64, 36), fps=10)


@pytest.fixture(scope="module")
def other_clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, seconds=0.6, size=(64, 36), fps=10)


@pytest.fixture
def bucket(s3):
    """Give an empty bucket as a place."""
    return Place(url=s3.url, options=s3.options)


async def test_a_file_on_s3_is_known_by_its_tag_and_size(s3, bucket, clip):
    s3.fs.put_file(str(clip), f"{s3.url}/in/take #1 ü.MP4")
    source = await open_source("in/take #1 ü.MP4", VENDOR, storage=bucket)
    tag, size = s3.fs.info(f"{s3.url}/in/take #1 ü.MP4")["ETag"], clip.stat().st_size
    assert source.facts.identity == f"{s3.url}/in/take #1 ü.MP4#{tag}#{size}"
    assert source.facts.label == f"{s3.url}/in/take #1 ü.MP4"
    assert source.facts.name == "take #1 ü"
    assert source.facts.media == probe(clip)
    assert (source.size, source.suffix) == (size, ".mp4")
    with source.opened() as file:
        assert probe(file) == probe(clip)
    with source.stream() as file:
        assert file.read() == clip.read_bytes()


async def test_a_changed_object_is_another_source_and_the_same_bytes_are_not(
    s3, bucket, clip, other_clip
):
    async def put(file):
        s3.fs.put_file(str(file), f"{s3.url}/a.mp4")
        return (await open_source("a.mp4", VENDOR, storage=bucket)).facts.identity

    first = await put(clip)
    assert await put(clip) == first
    assert await put(other_clip) != first


async def test_every_machine_knows_an_object_by_one_name(s3, bucket, clip):
    """Whatever its settings are, and whether the folder or the whole address is given."""
    s3.fs.put_file(str(clip), f"{s3.url}/in/a.mp4")
    endpoint = s3.options["client_kwargs"]["endpoint_url"].replace("127.0.0.1", "localhost")
    elsewhere = {"key": "another", "secret": "key", "client_kwargs": {"endpoint_url": endpoint}}
    also_called = Place(url=s3.url.replace("s3:", "s3a:"), options=s3.options)
    places = [
        ("in/a.mp4", bucket),
        ("/in/a.mp4", bucket),
        (f"{s3.url}/in/a.mp4", bucket),
        ("in/a.mp4", also_called),
        ("a.mp4", Place(url=f"{s3.url}/in/", options=elsewhere)),
    ]
    found = [await open_source(path, VENDOR, storage=place) for path, place in places]
    assert len({one.facts.identity for one in found}) == 1


async def test_the_callers_word_counts_more_than_the_stores(s3, bucket, clip):
    s3.fs.put_file(str(clip), f"{s3.url}/a.mp4")
    for version, identity in (("v7", f"{s3.url}/a.mp4#v7"), ("sha256:abc", "sha256:abc")):
        source = await open_source("a.mp4", VENDOR, version, storage=bucket)
        assert source.facts.identity == identity


async def test_one_version_of_an_object_can_be_asked_for(s3, clip, other_clip):
    fs = fsspec.filesystem("s3", **s3.options, version_aware=True)
    fs.call_s3(
        "put_bucket_versioning",
        Bucket=s3.url.removeprefix("s3://"),
        VersioningConfiguration={"Status": "Enabled"},
    )
    fs.put_file(str(clip), f"{s3.url}/a.mp4")
    version = fs.info(f"{s3.url}/a.mp4")["VersionId"]
    fs.put_file(str(other_clip), f"{s3.url}/a.mp4")
    bucket = Place(url=s3.url, options={**s3.options, "version_aware": True})
    old = await open_source(f"a.mp4?versionId={version}", LOOPBACK, storage=bucket)
    new = await open_source("a.mp4", LOOPBACK, storage=bucket)
    assert (old.facts.media, new.facts.media) == (probe(clip), probe(other_clip))
    assert (old.suffix, old.facts.name) == (".mp4", "a")
    link = await old.link(LOOPBACK, None, datetime.now(timezone.utc))
    assert (await open_source(link.reveal(), LOOPBACK)).facts.media == probe(clip)


def sparse(clip, path, hole):
    """Write a clip with a hole of so many bytes before its index, as a long video has one."""
    data = clip.read_bytes()
    index = data.index(b"moov") - 4
    with path.open("wb") as file:
        file.write(data[:index])
        file.write(struct.pack(">I4sQ", 1, b"free", hole))
        file.seek(hole - 16, 1)
        file.write(data[index:])
    return path


async def test_of_two_gibibytes_on_s3_a_few_pieces_are_read(clip, tmp_path):
    large = sparse(clip, tmp_path / "large.mp4", 2 * 2**30)
    size, asked = large.stat().st_size, []

    def serve(visit):
        if visit.method == "HEAD":
            visit.answer(200, announced=size, ETag='"1"')
            return
        first, last = visit.headers["range"].removeprefix("bytes=").split("-")
        with large.open("rb") as file:
            file.seek(int(first))
            part = file.read(min(int(last) + 1, size) - int(first))
        asked.append(len(part))
        end = int(first) + len(part) - 1
        visit.answer(206, part, ETag='"1"', Content_Range=f"bytes {first}-{end}/{size}")

    with Server(serve) as server:
        options = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": server.url}}
        bucket = Place(url="s3://bucket", options=options)
        source = await open_source("large.mp4", VENDOR, storage=bucket)
        assert source.facts.media == probe(clip)
        assert source.size == size
        assert len(server.visits) <= 6
        assert sum(asked) < 4 * 2**20


async def test_a_file_in_memory_is_known_by_its_content(memory, clip):
    memory.pipe_file("/clips/a.mp4", clip.read_bytes())
    source = await open_source("memory://clips/a.mp4", VENDOR)
    assert source.facts.identity == sha256(clip)
    assert (source.facts.label, source.facts.name) == ("memory://clips/a.mp4", "a")
    with source.opened() as one, source.opened() as other:
        one.seek(0, 2)
        assert other.read() == clip.read_bytes()
    with source.stream() as file:
        assert file.read() == clip.read_bytes()
    told = []
    assert await source.link(VENDOR, None, NOW, told.append) is None
    assert told == ["oxen cannot read memory://clips/a.mp4 by a link: its store signs no links"]


async def test_a_store_on_the_local_disk_is_the_local_disk(clip):
    for storage in (Place(url=f"file://{clip.parent}"), Place(url=str(clip.parent))):
        source = await open_source(clip.name, VENDOR, storage=storage)
        assert source.path == clip
        assert source.facts.identity == sha256(clip)


async def test_a_file_inside_an_archive_will_do(clip, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in" / "a.mp4")
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "in")
    source = await open_source(f"zip://a.mp4::{archive}", VENDOR)
    assert (source.facts.identity, source.facts.name) == (sha256(clip), "a")


@pytest.fixture
def remote(clip):
    """Give a store that says nothing of its files but their size."""
    fs = RemoteStore()
    fs.put("in/a.mp4", clip.read_bytes())

    class TheSame(RemoteStore):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.files, self.broken = fs.files, fs.broken

    fsspec.register_implementation("remote", TheSame, clobber=True)
    return fs


INFOS = [
    ({"ETag": '"t"', "size": 5, "mtime": 1}, 'p#"t"#5'),
    ({"etag": '"t"', "generation": "17", "size": 5}, "p#17#5"),
    ({"etag": '"0x8D"', "last_modified": NOW, "size": 5}, 'p#"0x8D"#5'),
    ({"mtime": NOW, "size": 5}, f"p#{NOW.timestamp()}#5"),
    ({"mtime": 17.5, "size": 5}, "p#17.5#5"),
    ({"modify": "20260301120000", "size": 5}, "p#20260301120000#5"),
    ({"modify": "20260301120000.123", "size": 5}, "p#20260301120000.123#5"),
    ({"modify": "Mar 01 12:00", "size": 5}, None),
    ({"ETag": '"t"'}, None),
    ({"size": 5}, None),
    ({}, None),
]


@pytest.mark.parametrize(("info", "identity"), INFOS)
def test_what_a_store_says_names_the_content_if_it_is_enough(info, identity):
    """The date of a plain FTP listing says more of its age than of the file."""
    assert by_store("p", info) == identity


@pytest.mark.parametrize(
    ("attributes", "path", "place"),
    [
        ({"protocol": ("s3", "s3a")}, "bucket/a.mp4", "s3://bucket/a.mp4"),
        ({"protocol": ("s3", "s3a")}, "bucket/a.mp4?versionId=7", "s3://bucket/a.mp4"),
        ({"protocol": ("s3", "s3a")}, "bucket/why?.mp4", "s3://bucket/why?.mp4"),
        ({"protocol": ("sftp", "ssh"), "host": "nas"}, "/a.mp4", "sftp://nas/a.mp4"),
        ({"protocol": "ftp", "host": "nas", "port": 21}, "/a.mp4", "ftp://nas:21/a.mp4"),
        ({"protocol": "memory"}, "/a.mp4", "memory://a.mp4"),
    ],
)
def test_a_file_has_one_name_wherever_it_is_asked_for(attributes, path, place):
    assert place_on_store(type("Store", (), attributes), path) == place


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("sftp://me:CANARY@host:22/a #1.mp4", "sftp://host:22/a #1.mp4"),
        ("s3://bucket/a.mp4?versionId=7", "s3://bucket/a.mp4"),
        ("s3://bucket/a.mp4?sig=CANARY#x", "s3://bucket/a.mp4"),
        ("s3://bucket/a#1.mp4?sig=CANARY", "s3://bucket/a#1.mp4"),
        ("zip://a.mp4::ftp://me:CANARY@host/a.zip", "zip://a.mp4::ftp://host/a.zip"),
        ("https://[bad/a.mp4?sig=CANARY", "<unreadable URL>"),
    ],
)
def test_a_label_shows_no_secret(url, label):
    assert label_of(url) == label


async def refused(source, dialect=VENDOR, storage=None):
    with pytest.raises(UnusableSource) as caught:
        await open_source(source, dialect, storage=storage)
    assert "CANARY" not in shown(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.billed == "no"
    return caught.value.message


async def test_what_is_no_video_on_s3_is_one_clear_error(s3, bucket):
    s3.fs.pipe_file(f"{s3.url}/text.mp4", b"not a video " * 100)
    s3.fs.pipe_file(f"{s3.url}/empty.mp4", b"")
    assert "'not a video'" not in await refused("text.mp4", storage=bucket)
    assert "is not a video: it is text" in await refused("text.mp4", storage=bucket)
    assert "is not a video: it is empty" in await refused("empty.mp4", storage=bucket)


async def test_what_is_not_there_on_s3_is_one_clear_error(s3, bucket):
    s3.fs.pipe_file(f"{s3.url}/folder/a.txt", b"x")
    assert "does not exist" in await refused("missing.mp4", storage=bucket)
    assert "is a folder" in await refused("folder", storage=bucket)
    assert "is a folder" in await refused("folder/", storage=bucket)
    gone = Place(url="s3://no-such-bucket", options=s3.options)
    assert "does not exist" in await refused("a.mp4", storage=gone)


@pytest.mark.parametrize("forbidden", ["HEAD", "GET"])
async def test_what_may_not_be_read_on_s3_is_one_clear_error(serving, forbidden):
    """A key may be allowed to see a file, and not to read it."""

    def serve(visit):
        status = 403 if visit.method in ("GET", forbidden) else 200
        visit.answer(status, announced=None if status == 403 else 1000, ETag='"1"')

    options = {
        "key": "access-CANARY",
        "secret": "CANARY-secret",
        "client_kwargs": {"endpoint_url": serving(serve).url},
    }
    bucket = Place(url="s3://bucket", options=options)
    message = await refused("a.mp4?X-Amz-Signature=CANARY", storage=bucket)
    assert "'s3://bucket/a.mp4' may not be read" in message


async def test_a_store_that_is_not_there_is_one_clear_error(serving):
    server = serving()
    server.__exit__()
    options = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": server.url}}
    settings = {**options, "config_kwargs": {"retries": {"max_attempts": 0}}}
    bucket = Place(url="s3://bucket", options=settings)
    assert "EndpointConnectionError" in await refused("a.mp4", storage=bucket)


async def test_what_is_no_video_on_another_store_is_one_clear_error(memory, remote):
    memory.pipe_file("/text.mp4", b"not a video " * 100)
    memory.pipe_file("/empty.mp4", b"")
    memory.pipe_file("/folder/a.txt", b"x")
    assert "is not a video: it is text" in await refused("memory://text.mp4")
    assert "is not a video: it is empty" in await refused("memory://empty.mp4")
    assert "does not exist" in await refused("memory://missing.mp4")
    assert "is a folder" in await refused("memory://folder")
    remote.broken["open rb"] = OSError(5, "the disk of CANARY failed")
    message = await refused("in/a.mp4", storage=Place(url="remote://", options={"key": "CANARY"}))
    assert "cannot be read (OSError: [Errno 5] the disk of ... failed)" in message


async def test_a_store_that_tells_little_is_known_by_the_content(remote, clip):
    source = await open_source("remote://in/a.mp4", VENDOR)
    assert source.facts.identity == sha256(clip)


async def test_no_store_is_believed_what_it_said_before(clip):
    fs = Remembers()

    class TheSame(Remembers):
        def __new__(cls, **_):
            return fs

        def __init__(self, **_):
            """Leave what it remembers."""

    fsspec.register_implementation("remote", TheSame, clobber=True)
    with pytest.raises(FileNotFoundError):
        fs.info("new.mp4")
    fs.put("new.mp4", clip.read_bytes())
    assert (await open_source("remote://new.mp4", VENDOR)).facts.identity == sha256(clip)


async def test_a_missing_package_is_named():
    needs = "Please install nowhere-fs to reach nowhere"
    fsspec.register_implementation("nowhere", "nowhere_fs.Nowhere", errtxt=needs, clobber=True)
    message = await refused("nowhere://me:CANARY@host/a.mp4")
    assert needs in message
    assert "pip" in message


async def test_evolink_refuses_what_is_not_mp4_on_any_store(memory, clip):
    memory.pipe_file("/a.mov", clip.read_bytes())
    memory.pipe_file("/a.MP4", clip.read_bytes())
    assert "EvoLink reads .mp4 only" in await refused("memory://a.mov", EvoLink())
    assert (await open_source("memory://a.MP4", EvoLink())).suffix == ".mp4"


OUTSIDE = [
    "../a.mp4",
    "in/../../a.mp4",
    "..\\a.mp4",
    "%2e%2e/a.mp4",
    "s3://other/a.mp4",
    "s3://bucket/in/../../a.mp4",
    "s3://bucket/inside.mp4",
    "https://host.example/a.mp4?sig=CANARY",
    "memory://me:CANARY@host/a.mp4",
    "zip://a.mp4::s3://bucket/in/a.zip",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_no_path_leads_out_of_the_storage(path):
    storage = Place(url="s3://bucket/in", options={"key": "CANARY", "secret": "CANARY"})
    assert "is not inside source_storage" in await refused(path, storage=storage)


def test_a_path_inside_may_be_given_in_many_ways():
    for path in ("a/b.mp4", "/a/b.mp4", "s3://bucket/in/a/b.mp4"):
        assert inside("s3://bucket/in", path) == "s3://bucket/in/a/b.mp4"
        assert inside("s3://bucket/in/", path) == "s3://bucket/in/a/b.mp4"
    assert inside("/clips", "a..b/c.mp4") == "/clips/a..b/c.mp4"
    assert (
        inside("https://h.example/x", "ü 1.mp4?sig=%2F")
        == "https://h.example/x/%C3%BC%201.mp4?sig=%2F"
    )


async def test_a_web_server_that_wants_a_header_has_no_link_without_it(serving, clip):
    def serve(visit):
        if visit.headers.get("x-key") != "CANARY":
            visit.answer(403)
        else:
            visit.answer(200, clip.read_bytes(), ETag='"1"')

    server = serving(serve)
    storage = Place(url=server.url, options={"headers": {"x-key": "CANARY"}})
    source = await open_source("a.mp4", LOOPBACK, storage=storage)
    assert source.facts.media == probe(clip)
    assert await source.link(LOOPBACK, None, NOW) is None
    assert "HTTP 403" in await refused(f"{server.url}/a.mp4", LOOPBACK)


async def test_the_logs_show_no_signature_and_no_key(s3, bucket, clip, caplog):
    caplog.set_level(logging.DEBUG)
    s3.fs.put_file(str(clip), f"{s3.url}/a.mp4")
    caplog.clear()
    source = await open_source("a.mp4", LOOPBACK, storage=bucket)
    link = (await source.link(LOOPBACK, None, datetime.now(timezone.utc))).reveal()
    signature = link.partition("X-Amz-Signature=")[2]
    assert len(signature) == 64
    assert caplog.text
    assert signature not in caplog.text


def test_a_stored_file_shows_no_settings():
    file = StoredFile(None, "a.mp4", "s3://a.mp4", {"secret": "CANARY"})
    assert "CANARY" not in repr(file)
