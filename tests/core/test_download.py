"""A result arrives whole, whatever happens on the way, and the key goes to nobody else."""

import hashlib
import itertools
import random
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_topaz.download import fetch
from prefect_topaz.errors import ResultUnavailable
from prefect_topaz.http import USER_AGENT, connections
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.transport import Transport
from tests.core.servers import Server, ranged

DATA = random.Random(7).randbytes(300_000)  # any bytes will do
OTHER = DATA[::-1]
KEY = "CANARY-KEY"
SIGNED = "/files/clip.mp4?X-Amz-Signature=CANARY-SIGNATURE"
MEBIBYTE = 2**20


@pytest.fixture
def get(tmp_path, naps):
    """Fetch a link of a server as the engine does; `fresh` are the links to refresh with."""

    async def run(url, *, fresh=(), origins=frozenset()):
        links = iter(fresh)
        get.refreshed = 0

        async def refresh():
            get.refreshed += 1
            return SignedUrl(next(links, url))

        key = Transport(SecretStr(KEY), frozenset(origins)).key_for
        return await fetch(
            SignedUrl(url), tmp_path / "result.mp4", refresh=refresh, headers_for=key, sleep=naps
        )

    get = run
    return run


def whole(fetched, data=DATA):
    assert fetched.path.read_bytes() == data
    assert fetched.size == len(data)
    assert fetched.sha256 == hashlib.sha256(data).hexdigest()
    return True


async def test_a_result_is_fetched_with_one_request(serving, get):
    server = serving(lambda visit: ranged(DATA, visit))
    assert whole(await get(server.url + SIGNED))
    (visit,) = server.visits
    assert visit.target == SIGNED
    assert visit.headers["user-agent"] == USER_AGENT
    assert visit.headers["accept-encoding"] == "identity"
    assert "range" not in visit.headers


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(1, 120_000), max_size=5))
async def test_a_cut_download_goes_on_where_it_ended(cuts, get):
    pending = iter(cuts)

    def serve(visit):
        cut = next(pending, None)
        ranged(DATA, visit, cut=cut)

    with Server(serve) as server:
        assert whole(await get(server.url + SIGNED))
        starts = [0, *itertools.accumulate(cuts)]
        for start, visit in zip(starts[1:], server.visits[1:], strict=False):
            assert visit.headers["range"] == f"bytes={start}-"
            assert visit.headers["if-range"] == '"1"'


async def test_every_try_that_brings_something_is_worth_another(serving, get, naps):
    """Thirty cuts are no reason to give up a download that goes on."""
    server = serving(lambda visit: ranged(DATA, visit, cut=10_000))
    assert whole(await get(server.url + SIGNED))
    assert len(server.visits) == 30
    assert set(naps.taken) == {2.0}


async def test_a_server_without_ranges_is_read_from_the_start_again(serving, get):
    def serve(visit):
        cut = 100_000 if visit.number < 3 else None
        visit.answer(200, DATA[:cut], announced=len(DATA), content_type="video/mp4")

    server = serving(serve)
    assert whole(await get(server.url + SIGNED))
    assert len(server.visits) == 3
    assert not [visit for visit in server.visits if "range" in visit.headers]


@pytest.mark.parametrize("etag", [None, 'W/"1"', "unquoted"])
async def test_without_a_strong_tag_nothing_is_joined(etag, serving, get):
    """Only a strong tag proves that the rest belongs to what is there."""
    server = serving(lambda visit: ranged(DATA, visit, etag=etag, cut=FIRST.get(visit.number)))
    assert whole(await get(server.url + SIGNED))
    assert [visit.headers.get("range") for visit in server.visits] == [None, None]


FIRST = {1: 100_000}


async def test_a_file_that_changed_in_between_is_fetched_anew(serving, get):
    def serve(visit):
        if visit.number == 1:
            ranged(DATA, visit, cut=100_000)
        else:
            ranged(OTHER, visit, etag='"2"')

    server = serving(serve)
    assert whole(await get(server.url + SIGNED), OTHER)
    assert len(server.visits) == 2


@pytest.mark.parametrize("tags", [{"ETag": '"2"'}, {"ETag": 'W/"1"'}])
async def test_a_server_that_ignores_the_tag_does_not_mix_two_files(tags, serving, get):
    def serve(visit):
        if visit.number == 1:
            ranged(DATA, visit, cut=100_000)
        elif "range" in visit.headers:
            told = f"bytes 100000-{len(OTHER) - 1}/{len(OTHER)}"
            visit.answer(206, OTHER[100_000:], Content_Range=told, **tags)
        else:
            ranged(OTHER, visit, etag='"2"')

    server = serving(serve)
    assert whole(await get(server.url + SIGNED), OTHER)
    assert len(server.visits) == 3


@pytest.mark.parametrize(
    "told", [None, f"bytes 0-{len(DATA) - 1}/{len(DATA)}", "bytes 100001-299999/300000", "nonsense"]
)
async def test_another_part_than_was_asked_for_is_not_taken(told, serving, get):
    def serve(visit):
        if visit.number == 2:
            tags = {} if told is None else {"Content_Range": told}
            visit.answer(206, DATA, ETag='"1"', **tags)
        else:
            ranged(DATA, visit, cut=FIRST.get(visit.number))

    server = serving(serve)
    assert whole(await get(server.url + SIGNED))
    assert len(server.visits) == 3


@pytest.mark.parametrize("total", [len(DATA), "*"])
async def test_a_server_that_sends_less_than_was_asked_for_is_asked_again(total, serving, get):
    """A part may be shorter than asked for, and is then no whole file."""

    def serve(visit):
        start = int(visit.headers.get("range", "bytes=0-")[6:-1])
        end = min(start + 100_000, len(DATA))
        told = f"bytes {start}-{end - 1}/{total}"
        visit.answer(206, DATA[start:end], ETag='"1"', Content_Range=told)

    server = serving(serve)
    fetched = await get(server.url + SIGNED)
    if total == "*":
        # Nobody says how long it is: the check of the video must find it.
        assert fetched.size == 100_000
    else:
        assert whole(fetched)
        assert len(server.visits) == 3


async def test_a_part_that_is_longer_than_the_file_is_thrown_away(serving, get):
    """The second answer says that nothing is there to go on with."""

    def serve(visit):
        if visit.number == 1:
            visit.answer(200, DATA + b"x", announced=len(DATA) + 2, ETag='"1"')
        else:
            ranged(DATA, visit)

    server = serving(serve)
    assert whole(await get(server.url + SIGNED))
    assert [visit.headers.get("range") for visit in server.visits] == [
        None,
        f"bytes={len(DATA) + 1}-",
        None,
    ]


async def test_the_server_of_the_sandbox_is_resumed_too(sandbox, get, tmp_path):
    file = tmp_path / "source.mp4"
    file.write_bytes(DATA)
    url = sandbox.host(file, "download.mp4")
    for fraction in (0.1, 0.5, 0.9):
        sandbox.fault("media", "truncate", fraction=fraction)
    assert whole(await get(url))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_link_that_has_expired_is_refreshed(status, serving, get, naps):
    def serve(visit):
        if "new" in visit.target:
            ranged(DATA, visit)
        else:
            visit.answer(status, b"<Error>expired</Error>")

    server = serving(serve)
    assert whole(await get(server.url + SIGNED, fresh=[f"{server.url}/new.mp4?sig=2"]))
    assert naps.taken == []


async def test_a_link_that_expires_on_the_way_is_refreshed_and_goes_on(serving, get):
    def serve(visit):
        if visit.number == 2:
            visit.answer(403)
        else:
            ranged(DATA, visit, cut=FIRST.get(visit.number))

    server = serving(serve)
    assert whole(await get(server.url + SIGNED, fresh=[f"{server.url}/new.mp4?sig=2"]))
    assert server.visits[2].target == "/new.mp4?sig=2"
    assert server.visits[2].headers["range"] == "bytes=100000-"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_link_that_stays_shut_is_refreshed_twice_at_most(status, serving, get):
    server = serving(lambda visit: visit.answer(status))
    with pytest.raises(ResultUnavailable, match=f"HTTP {status}") as caught:
        await get(server.url + SIGNED)
    assert len(server.visits) == 3
    assert caught.value.billed == "yes"
    assert "CANARY" not in str(caught.value)


async def test_what_refreshing_raises_is_handed_on(serving, tmp_path, naps):
    server = serving(lambda visit: visit.answer(403))

    async def refresh():
        raise ResultUnavailable("the job has no result any more")

    with pytest.raises(ResultUnavailable, match="no result any more"):
        await fetch(
            SignedUrl(server.url),
            tmp_path / "x",
            refresh=refresh,
            headers_for=lambda _: {},
            sleep=naps,
        )


def page(visit):
    visit.answer(200, b"<!doctype html>Just a moment...", content_type="text/html; charset=utf-8")


UNUSABLE = {
    "a web page": page,
    "503": lambda visit: visit.answer(503),
    "429": lambda visit: visit.answer(429),
    "nothing": lambda visit: visit.answer(204),
    "hang up": lambda visit: visit.hang_up(),
    "reset": lambda visit: visit.reset(),
    "no byte": lambda visit: visit.answer(200, announced=10),
    "304": lambda visit: visit.answer(304),
    "302 to nowhere": lambda visit: visit.answer(302),
}


@pytest.mark.parametrize("what", UNUSABLE)
async def test_what_brings_nothing_is_tried_six_times(what, serving, get, naps):
    server = serving(UNUSABLE[what])
    with pytest.raises(ResultUnavailable, match="run again") as caught:
        await get(server.url + SIGNED)
    assert len(server.visits) == 6
    assert naps.taken == [2.0, 4.0, 8.0, 16.0, 30.0]
    assert caught.value.billed == "yes"
    assert "CANARY" not in str(caught.value)
    assert "_Again" not in str(caught.value)


@pytest.mark.parametrize("what", UNUSABLE)
async def test_a_bad_moment_does_not_throw_away_what_has_arrived(what, serving, get):
    def serve(visit):
        if visit.number in (2, 3):
            UNUSABLE[what](visit)
        else:
            ranged(DATA, visit, cut=FIRST.get(visit.number))

    server = serving(serve)
    assert whole(await get(server.url + SIGNED))
    if what != "no byte":  # which is a whole file's answer, and starts it anew
        assert server.visits[3].headers["range"] == "bytes=100000-"


async def test_a_server_that_always_starts_anew_and_cuts_comes_to_an_end(serving, get):
    """Sizes that go up and down are no progress: without an end this would run for ever."""
    cuts = itertools.cycle([200_000, 100_000])

    def serve(visit):
        visit.answer(200, DATA[: next(cuts)], announced=len(DATA))

    server = serving(serve)
    with pytest.raises(ResultUnavailable):
        await get(server.url + SIGNED)
    assert len(server.visits) <= 8


async def test_redirects_are_followed_and_the_key_stays_at_home(serving, get):
    store = serving(lambda visit: ranged(DATA, visit, cut=FIRST.get(visit.number)))

    def lead(visit):
        where = {"/api/1": "/api/2", "/api/2": f"{store.other_url}{SIGNED}"}
        visit.answer(302, location=where[visit.target])

    api = serving(lead)
    assert whole(await get(f"{api.url}/api/1", origins=[api.url]))
    assert {visit.headers["authorization"] for visit in api.visits} == {f"Bearer {KEY}"}
    assert len(api.visits) == 4  # a cut download asks the API again: its links are short-lived
    assert len(store.visits) == 2
    assert not [visit for visit in store.visits if KEY in str(visit.headers)]
    assert not [visit for visit in store.visits if "referer" in visit.headers]


@pytest.mark.parametrize(("hops", "arrives"), [(5, True), (6, False)])
async def test_five_redirects_are_followed_and_no_more(hops, arrives, serving, get):
    def serve(visit):
        hop = int(visit.target[1:])
        if hop == hops:
            ranged(DATA, visit)
        else:
            visit.answer(307, location=f"/{hop + 1}")

    server = serving(serve)
    if arrives:
        assert whole(await get(f"{server.url}/0"))
    else:
        with pytest.raises(ResultUnavailable, match="too many redirects"):
            await get(f"{server.url}/0")


UNFIT = [
    "http://results.example.com/a.mp4?sig=CANARY",
    "//results.example.com/a.mp4?sig=CANARY",
    "ftp://127.0.0.1/a.mp4?sig=CANARY",
    "file:///etc/passwd?sig=CANARY",
    "http://127.0.0.1.example.com/?sig=CANARY",
    "http://[bad/a.mp4?sig=CANARY",
    "http://exa mple/?sig=CANARY",
    "https://127.0.0.1:99999/?sig=CANARY",
]


@pytest.mark.parametrize("location", UNFIT)
async def test_a_redirect_leads_to_https_or_nowhere(location, serving, get):
    server = serving(lambda visit: visit.answer(302, location=location))
    with pytest.raises(ResultUnavailable, match=r"not https|not a URL") as caught:
        await get(server.url + SIGNED)
    assert len(server.visits) == 3
    assert "sig" not in str(caught.value)


@pytest.mark.parametrize(
    "link", [*UNFIT, "", "/files/a.mp4?sig=CANARY", "http:///a.mp4?sig=CANARY"]
)
async def test_a_link_itself_is_https_or_on_loopback(link, get, naps):
    with pytest.raises(ResultUnavailable, match=r"not https|not a URL") as caught:
        await get(link)
    assert "sig" not in str(caught.value)
    assert naps.taken == []


async def test_a_bad_link_is_refreshed(serving, get):
    server = serving(lambda visit: ranged(DATA, visit))
    assert whole(await get("https://[bad/a.mp4", fresh=[server.url + SIGNED]))


async def test_a_disk_that_is_full_is_not_taken_for_a_bad_link(serving, tmp_path, naps):
    server = serving(lambda visit: ranged(DATA, visit))

    async def refresh():
        raise AssertionError("the link is good")

    with pytest.raises(OSError, match="No such file"):
        await fetch(
            SignedUrl(server.url),
            tmp_path / "missing" / "result.mp4",
            refresh=refresh,
            headers_for=lambda _: {},
            sleep=naps,
        )
    assert len(server.visits) == 1


async def test_256_mebibytes_take_little_memory(serving, get):
    piece = b"v" * MEBIBYTE

    def serve(visit):
        visit.handler.send_response(200)
        visit.handler.send_header("Content-Length", str(256 * MEBIBYTE))
        visit.handler.end_headers()
        for _ in range(256):
            visit.handler.wfile.write(piece)

    server = serving(serve)
    async with connections():
        tracemalloc.start()
        try:
            fetched = await get(server.url + SIGNED)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert fetched.size == 256 * MEBIBYTE
    assert peak < 8 * MEBIBYTE
    fetched.path.unlink()
