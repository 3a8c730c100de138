"""Globs find videos on every store, with the store's settings, and never an earlier result."""

from datetime import datetime, timezone

import fsspec
import pytest

from prefect_topaz.listing import expand, label, same_names
from prefect_topaz.models import Order, Place, Receipt, Source
from tests.core.stores import RemoteStore

RECEIPT = Receipt(
    url="a-2x.mp4",
    receipt_url="a-2x.mp4.json",
    preview_url=None,
    bytes=1,
    sha256="",
    width=1,
    height=1,
    fps=None,
    duration=None,
    has_audio=False,
    provider="oxen",
    job_id=None,
    work_key="",
    source=Source(identity="a", label="a.mp4", name="a"),
    order=Order(provider="oxen", model="m", label="2x"),
    submitted_at=datetime(2026, 3, 1, tzinfo=timezone.utc),
    stored_at=datetime(2026, 3, 1, tzinfo=timezone.utc),
)
NAMES = ["a.mp4", "b #1.mp4", "ü/c.mp4", "notes.txt"]


def fill(fs, folder):
    for name in NAMES:
        fs.pipe_file(f"{folder}/{name}", b"x")
    fs.pipe_file(f"{folder}/a-2x.mp4", b"x")
    fs.pipe_file(f"{folder}/a-2x.mp4.json", RECEIPT.model_dump_json().encode())


def test_a_glob_on_s3_reads_with_the_settings_of_its_storage(s3):
    fill(s3.fs, f"{s3.url}/in")
    storage = Place(url=f"{s3.url}/in", options=s3.options)
    base = f"{s3.url}/in"
    assert expand("*.mp4", storage) == [f"{base}/a.mp4", f"{base}/b #1.mp4"]
    assert expand(f"{base}/**/c.mp4", storage) == [f"{base}/ü/c.mp4"]
    assert expand(["a.mp4", "[ab]*.mp4"], storage)[0] == "a.mp4"


def test_a_glob_on_any_store_gives_urls_of_that_store(memory):
    fill(memory, "/in/deep")
    found = ["memory://in/deep/a.mp4", "memory://in/deep/b #1.mp4"]
    assert expand("memory://in/deep/*.mp4") == found
    assert expand("memory://in/d*/*.mp4") == found
    assert expand(["memory://in/deep/a.mp4", "memory://in/*/a.mp4"]) == found[:1]


def test_a_glob_keeps_the_server_that_its_url_names():
    class Server(RemoteStore):
        protocol = "server"
        cachable = True

        @classmethod
        def _strip_protocol(cls, path):
            path = path.removeprefix("server://")
            return "/" + path.partition("/")[2] if "@" in path else path.rstrip("/")

        def __init__(self, **settings):
            super().__init__(**settings)
            self.files = {"/in/a.mp4": b"x", "/in/b.mp4": b"x"}

    fsspec.register_implementation("server", Server, clobber=True)
    address = "server://me@host:22"
    assert expand(f"{address}/in/*.mp4") == [f"{address}/in/a.mp4", f"{address}/in/b.mp4"]


def test_a_glob_of_local_paths_gives_paths(tmp_path):
    fill(fsspec.filesystem("file", auto_mkdir=True), str(tmp_path))
    found = [f"{tmp_path}/a.mp4", f"{tmp_path}/b #1.mp4"]
    assert expand(f"{tmp_path}/*.mp4") == found
    assert expand("*.mp4", Place(url=f"{tmp_path}/")) == found
    assert expand(f"file://{tmp_path}/*.mp4") == found


@pytest.mark.parametrize(
    "source",
    [
        "https://host.example/a*.mp4?sig=[x]",
        "https://[bad/*.mp4",
        "nowhere://host/*.mp4",
        "s3://bucket/a.mp4",
        "zip://*.mp4::memory://a.zip",
        "take [1].mp4",
    ],
)
def test_what_cannot_be_expanded_stays_for_its_own_item_to_fail(source):
    assert expand(source) == [source]


def test_a_glob_that_leads_out_of_the_storage_stays_for_its_own_item_to_fail(memory):
    fill(memory, "/in")
    assert expand("../*.mp4", Place(url="memory://in/deep")) == ["../*.mp4"]


def test_sources_whose_results_would_have_one_name_are_found():
    many = ["s3://b/x/a #1.mp4", "y/a #1.mov", "https://h.example/a%20%231.mp4?sig=1", "a #2.mp4"]
    assert same_names(many) == set(many[:3])


def test_a_label_shows_no_secret():
    assert label("ftp://me:CANARY@host/a #1.mp4") == "ftp://host/a #1.mp4"
    assert label("https://host.example/a.mp4?sig=CANARY#x") == "https://host.example/a.mp4"
    assert label("clips/what? #1.mp4") == "clips/what? #1.mp4"
