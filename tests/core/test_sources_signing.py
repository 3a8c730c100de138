"""Links live long enough and really open, or nothing is ordered by them."""

import json
import os
import shlex
import sys
from datetime import datetime, timedelta, timezone

import pytest

from prefect_topaz.errors import UnusableSource
from prefect_topaz.models import MediaFacts, Place
from prefect_topaz.providers import load
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox import make_clip
from prefect_topaz.sources import lifetime, open_source
from prefect_topaz.sources.signing import check_given, expiry, sign
from prefect_topaz.sources.store import StoredFile
from tests.core.servers import ranged
from tests.core.stores import RemoteStore

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
Oxen, EvoLink = load("oxen"), load("evolink")
LOOPBACK, VENDOR = Oxen("http://127.0.0.1:1"), Oxen()
HOUR = NOW + timedelta(hours=1)

EXPIRIES = {
    "X-Amz-Date=20260301T120000Z&X-Amz-Expires=3600&X-Amz-Signature=x": HOUR,
    "x-goog-date=20260301T120000Z&x-goog-expires=3600": HOUR,
    f"AWSAccessKeyId=a&Signature=b&Expires={int(HOUR.timestamp())}": HOUR,
    "sv=2024-01-01&se=2026-03-01T13%3A00%3A00Z&sr=b&sig=x": HOUR,
    "se=2026-03-01T14:00:00%2B01:00&sig=x": HOUR,
    "se=2026-03-02&sig=x": NOW + timedelta(hours=12),
    "": None,
    "id=7": None,
    "se=2026-03-01T13%3A00%3A00Z": None,
    "Expires=never": None,
    "Expires=9e99": None,
    "Expires=99999999999999999999": None,
    "X-Amz-Expires=3600": None,
    "X-Amz-Date=soon&X-Amz-Expires=3600": None,
}


@pytest.mark.parametrize("query", EXPIRIES)
def test_an_expiry_is_read_as_each_vendor_writes_it(query):
    assert expiry(f"https://host.example/a.mp4?{query}") == EXPIRIES[query]


def until(seconds):
    end = int((NOW + timedelta(seconds=seconds)).timestamp())
    return SignedUrl(f"https://host.example/a.mp4?Expires={end}&Signature=CANARY")


@pytest.mark.parametrize(
    ("left", "asked", "said"),
    [
        (-5, None, "has expired"),
        (-5, 60.0, "has expired"),
        (599, None, "expires in 10 min"),
        (3599, 3600.0, "link_seconds asks for 3600 s"),
        (300, 60.0, "expires in 5 min"),
    ],
)
def test_a_link_that_ends_too_soon_is_refused(left, asked, said):
    with pytest.raises(UnusableSource, match=said) as caught:
        check_given(until(left), asked, NOW)
    assert "CANARY" not in str(caught.value)
    assert caught.value.billed == "no"


def test_a_link_that_lives_long_enough_is_taken():
    check_given(until(600), None, NOW)
    check_given(until(3600), 3600.0, NOW)
    check_given(SignedUrl("https://host.example/a.mp4"), 10.0**9, NOW)


async def test_an_open_source_says_that_its_link_ends_too_soon(serving, tmp_path):
    data = make_clip(tmp_path / "a.mp4", seconds=0.5, size=(64, 36)).read_bytes()
    server = serving(lambda visit: ranged(data, visit))
    query = until(300).reveal().partition("?")[2]
    source = await open_source(f"{server.url}/a.mp4?{query}", LOOPBACK)
    with pytest.raises(UnusableSource, match="expires in 5 min"):
        await source.link(LOOPBACK, None, NOW)


def media(duration):
    return MediaFacts(
        width=1, height=1, fps=None, duration=duration, has_audio=False, codec="", frames=None
    )


def test_a_link_lives_as_long_as_queue_and_work_may_take():
    assert lifetime(None, None) == lifetime(None, media(None)) == 6 * 3600
    assert lifetime(None, media(90.0)) == 6 * 3600 + 90 * 60
    assert lifetime(None, media(7 * 86400.0)) == 7 * 86400
    assert lifetime(60.0, media(90.0)) == 60


class Signing(RemoteStore):
    """A store that gives the same link whatever is asked for."""

    protocol = "signing"

    def __init__(self, link):
        super().__init__()
        self.given = link

    def sign(self, path, expiration=100, **_):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


async def signed(link, dialect=LOOPBACK, seconds=3600.0, now=NOW):
    told = []
    file = StoredFile(Signing(link), "/a.mp4", "signing://a.mp4")
    found = await sign(file, dialect, seconds, now, told.append)
    assert (found is None) == bool(told)
    assert "CANARY" not in "".join(told)
    return found or told[0]


async def test_a_link_is_tried_as_the_provider_will(serving):
    server = serving(lambda visit: ranged(b"video", visit))
    link = f"{server.url}/a.mp4?sig=CANARY%2F"
    assert (await signed(link)).reveal() == link
    (visit,) = server.visits
    assert (visit.method, visit.target) == ("GET", "/a.mp4?sig=CANARY%2F")
    assert visit.headers["range"] == "bytes=0-0"
    assert not {"authorization", "cookie"} & set(visit.headers)


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 416, 500])
async def test_a_link_that_does_not_open_is_none(serving, status):
    server = serving(lambda visit: visit.answer(status, location="/b.mp4"))
    assert f"HTTP {status}" in await signed(f"{server.url}/a.mp4?sig=CANARY")


async def test_a_server_without_ranges_will_do_and_is_not_read(serving):
    """The rest of a large file stays where it is."""
    server = serving(lambda visit: visit.answer(200, b"v", announced=2**40))
    assert isinstance(await signed(f"{server.url}/a.mp4"), SignedUrl)


async def test_a_link_that_is_none_says_why(serving):
    server = serving()
    server.__exit__()
    assert "ConnectError" in await signed(f"{server.url}/a.mp4?sig=CANARY")
    assert "signs no links" in await signed(NotImplementedError())
    assert "cannot sign a link (ValueError)" in await signed(ValueError("CANARY"))
    assert "no http(s) URL" in await signed("s3://bucket/a.mp4?sig=CANARY")
    assert "lives until" in await signed(until(3000).reveal())
    for host in ("127.0.0.1:9000", "minio:9000", "10.0.0.1"):
        assert "internal" in await signed(f"https://{host}/a.mp4?sig=CANARY", VENDOR)
    reads_mp4 = await signed("http://127.0.0.1/download?name=a.mp4", EvoLink("http://127.0.0.1:1"))
    assert "reads .mp4 only" in reads_mp4


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "take #1 ü.mp4", seconds=0.5, size=(64, 36))


@pytest.fixture
def in_bucket(s3, clip):
    """Give the place of a bucket that holds the clip."""
    s3.fs.put_file(str(clip), f"{s3.url}/{clip.name}")
    return Place(url=s3.url, options=s3.options)


async def test_s3_signs_as_all_of_s3_demands_today(in_bucket, clip):
    source = await open_source(clip.name, LOOPBACK, storage=in_bucket)
    now = datetime.now(timezone.utc)
    link = (await source.link(LOOPBACK, 1234.0, now)).reveal()
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link
    assert "X-Amz-Expires=1234&" in link
    assert abs((expiry(link) - now).total_seconds() - 1234) < 60
    (again,) = [await open_source(link, LOOPBACK)]
    assert again.facts.media == source.facts.media
    other = await source.link(LOOPBACK, 4321.0, now)
    assert (await open_source(other.reveal(), LOOPBACK)).facts == again.facts


async def test_the_users_own_way_to_sign_is_kept(in_bucket, clip):
    options = {**in_bucket.options, "config_kwargs": {"signature_version": "s3"}}
    place = Place(url=in_bucket.url, options=options)
    source = await open_source(clip.name, LOOPBACK, storage=place)
    link = await source.link(LOOPBACK, None, datetime.now(timezone.utc))
    assert "AWSAccessKeyId=" in link.reveal()


@pytest.fixture
def role(tmp_path, monkeypatch):
    """Give credentials as a role has them, for an hour, where the store looks for its own."""
    ends = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    answer = {"Version": 1, "AccessKeyId": "moto", "SecretAccessKey": "moto"}
    text = json.dumps({**answer, "SessionToken": "CANARY", "Expiration": ends})
    script = tmp_path / "credentials.py"
    script.write_text(f"print({text!r})")
    config = tmp_path / "config"
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"
    config.write_text(f"[default]\ncredential_process = {command}\n")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def test_a_roles_credentials_sign_no_link_that_outlives_them(in_bucket, clip, role):
    """Such a link ends with them, whatever it says of itself."""
    options = {"client_kwargs": in_bucket.options["client_kwargs"]}
    place = Place(url=in_bucket.url, options=options)
    source = await open_source(clip.name, LOOPBACK, storage=place)
    told, now = [], datetime.now(timezone.utc)
    assert await source.link(LOOPBACK, None, now, told.append) is None
    assert "temporary credentials" in told[0]
    assert "link_seconds" in told[0]
    link = await source.link(LOOPBACK, 1800.0, now, told.append)
    assert "X-Amz-Security-Token=CANARY" in link.reveal()
    assert len(told) == 1
