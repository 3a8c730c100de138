"""A result arrives whole, whatever happens on the way, and the key goes to nobody else."""

import asyncio
import hashlib
import itertools
import random
import threading
import time
import tracemalloc
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_topaz.download import fetch
from prefect_topaz.download.arrival import PART
from prefect_topaz.errors import ResultUnavailable
from prefect_topaz.http import USER_AGENT
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
    assert visit.headers["range"] == f"bytes=0-{PART - 1}"
    assert "if-range" not in visit.headers


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
            assert visit.headers["range"] == f"bytes={start}-{len(DATA) - 1}"
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
    assert not [visit for visit in server.visits if "if-range" in visit.headers]


@pytest.mark.parametrize("etag", [None, 'W/"1"', "unquoted"])
async def test_without_a_strong_tag_nothing_is_joined(etag, serving, get):
    """Only a strong tag proves that the rest belongs to what is there."""
    server = serving(lambda visit: ranged(DATA, visit, etag=etag, cut=FIRST.get(visit.number)))
    assert whole(await get(server.url + SIGNED))
    assert [visit.headers.get("range") for visit in server.visits] == [f"bytes=0-{PART - 1}"] * 2


FIRST = {1: 100_000}


async def test_a_file_that_changed_in_between_is_fetched_anew(serving, get):
    def serve(visit):
        if visit.number == 1:
            ranged(DATA, visit, cut=100_000)
        else:
            ranged(OTHER, visit, etag='"2"')

    server = serving(serve)
    assert whole(await get(server.url + SIGNED), OTHER)
    assert len(server.visits) == 3


@pytest.mark.parametrize("tags", [{"ETag": '"2"'}, {"ETag": 'W/"1"'}])
async def test_a_server_that_ignores_the_tag_does_not_mix_two_files(tags, serving, get):
    def serve(visit):
        if visit.number == 1:
            ranged(DATA, visit, cut=100_000)
        elif "if-range" in visit.headers:
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
        start = int(visit.headers.get("range", "bytes=0-")[6:].partition("-")[0])
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
    asked = [visit.headers.get("range") for visit in server.visits]
    assert asked[1] == f"bytes={len(DATA) + 1}-{len(DATA) + 1}"
    assert asked[2] == asked[0]


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
    assert server.visits[2].headers["range"] == f"bytes=100000-{len(DATA) - 1}"


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
        assert server.visits[3].headers["range"] == f"bytes=100000-{len(DATA) - 1}"


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
    assert len(api.visits) == 2  # the provider is asked once, and not for every part
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
    assert server.visits == []


LARGE = random.Random(8).randbytes(2 * PART + 1_000_000)  # three parts
BORDERS = [(0, PART), (PART, 2 * PART), (2 * PART, len(LARGE))]
RANGES = [f"bytes={start}-{stop - 1}" for start, stop in BORDERS]
FIRST_RANGE = f"bytes=0-{PART - 1}"


async def test_a_large_file_comes_in_parts_side_by_side(serving, get):
    together = threading.Barrier(2, timeout=20)

    def serve(visit):
        if visit.headers["range"] != FIRST_RANGE:
            together.wait()
        ranged(LARGE, visit)

    server = serving(serve)
    assert whole(await get(server.url + SIGNED), LARGE)
    asked = {visit.headers["range"]: visit.headers.get("if-range") for visit in server.visits}
    assert len(server.visits) == len(asked)
    assert asked == dict(zip(RANGES, [None, '"1"', '"1"'], strict=True))


async def test_each_part_is_retried_on_its_own(serving, get, naps):
    cuts = {RANGES[0]: 10_000, RANGES[2]: 500_000}

    def serve(visit):
        ranged(LARGE, visit, cut=cuts.pop(visit.headers["range"], None))

    server = serving(serve)
    assert whole(await get(server.url + SIGNED), LARGE)
    again = [f"bytes=10000-{PART - 1}", f"bytes={2 * PART + 500_000}-{len(LARGE) - 1}"]
    asked = [visit.headers["range"] for visit in server.visits]
    assert sorted(asked) == sorted([*RANGES, *again])
    assert naps.taken == [2.0, 2.0]


TROUBLE = ["cut", "503", "403", "reset", "no byte", "page", "changed", "other part", "no ranges"]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(fates=st.lists(st.sampled_from(TROUBLE), max_size=12), gaps=st.integers(1, 4))
async def test_whatever_happens_on_the_way_no_byte_is_wrong(fates, gaps, get):
    """The file comes whole, in one version of it, or it is reported as not to be had."""
    pending, changed = iter(fates), threading.Event()

    def serve(visit):
        fate = next(pending, None) if visit.number % gaps == 0 else None
        data, etag = (LARGE[::-1], '"2"') if changed.is_set() else (LARGE, '"1"')
        if fate == "changed":
            changed.set()
        if fate == "other part":
            told = f"bytes 5-{len(data) - 1}/{len(data)}"
            visit.answer(206, data[5:], ETag=etag, Content_Range=told)
        elif fate == "no ranges":
            visit.answer(200, data, ETag=etag)
        elif fate in ("503", "403"):
            visit.answer(int(fate))
        elif fate in UNUSABLE or fate == "page":
            UNUSABLE.get(fate, page)(visit)
        else:
            ranged(data, visit, etag=etag, cut=1_234_567 if fate == "cut" else None)

    with Server(serve) as server:
        try:
            fetched = await get(server.url + SIGNED)
        except ResultUnavailable:
            return
        assert fetched.path.read_bytes() in (LARGE, LARGE[::-1])
        assert fetched.sha256 == hashlib.sha256(fetched.path.read_bytes()).hexdigest()


async def test_one_fresh_link_serves_all_parts(serving, get):
    """Seven parts find the link shut at once: the provider is asked once."""
    data = LARGE[:PART] * 8
    shut = threading.Barrier(7, timeout=20)

    def serve(visit):
        if visit.headers["range"] == FIRST_RANGE or "new" in visit.target:
            ranged(data, visit)
        else:
            shut.wait()
            visit.answer(403)

    server = serving(serve)
    assert whole(await get(server.url + SIGNED, fresh=[f"{server.url}/new.mp4?sig=2"]), data)
    assert get.refreshed == 1
    assert len(server.visits) == 8 + 7


async def test_a_link_may_expire_as_often_as_it_brings_something(serving, get):
    """A slow download of short-lived links goes on; only links that bring nothing are counted."""

    def serve(visit):
        number = int(visit.target.rpartition("=")[2])
        start = int(visit.headers["range"][6:].partition("-")[0])
        if start < number * 50_000:
            ranged(DATA, visit, cut=50_000)
        else:
            visit.answer(403)

    server = serving(serve)
    links = [f"{server.url}/clip.mp4?sig={number}" for number in range(2, 8)]
    assert whole(await get(f"{server.url}/clip.mp4?sig=1", fresh=links))
    assert get.refreshed == 5


async def test_a_redirect_that_has_expired_is_asked_for_again(serving, get):
    """The provider's link stays good; where it led to does not."""

    def serve(visit):
        if visit.headers["range"] == FIRST_RANGE or visit.target != "/1":
            ranged(LARGE, visit)
        else:
            visit.answer(403)

    store = serving(serve)
    api = serving(lambda visit: visit.answer(302, location=f"{store.url}/{visit.number}"))
    assert whole(await get(f"{api.url}/api"), LARGE)
    assert len(api.visits) <= 3
    assert get.refreshed == 0


async def test_a_file_that_changes_amid_its_parts_is_fetched_anew(serving, get):
    new = LARGE[::-1]

    def serve(visit):
        old = visit.number == 1
        ranged(LARGE if old else new, visit, etag='"1"' if old else '"2"')

    assert whole(await get(serving(serve).url + SIGNED), new)


async def test_servers_that_tag_one_file_differently_are_read_as_one_stream(serving, get):
    """Replicas behind one name may each have a tag of their own: no reason to lose the file."""
    server = serving(lambda visit: ranged(LARGE, visit, etag=f'"{visit.number}"'))
    assert whole(await get(server.url + SIGNED), LARGE)
    assert "range" not in server.visits[-1].headers


def dated(visit, *, age, **headers):
    """Answer as a server without strong tags does, whose file is so many seconds old."""
    now = time.time()
    visit.handler.date_time_string = lambda *_: formatdate(now, usegmt=True)
    stamp = formatdate(now // 1000 * 1000 - age if age > 1000 else now - age, usegmt=True)
    asked = visit.headers.get("range")
    start, stop = BORDERS[RANGES.index(asked)] if asked else (0, len(LARGE))
    told = {"Content_Range": f"bytes {start}-{stop - 1}/{len(LARGE)}"} if asked else {}
    part = LARGE[start:stop]
    visit.answer(206 if asked else 200, part, Last_Modified=stamp, **told, **headers)


async def test_a_date_of_long_ago_joins_parts_as_a_tag_does(serving, get):
    server = serving(lambda visit: dated(visit, age=3600))
    assert whole(await get(server.url + SIGNED), LARGE)
    assert {visit.headers.get("range") for visit in server.visits} == set(RANGES)
    dates = {visit.headers.get("if-range") for visit in server.visits} - {None}
    assert len(dates) == 1
    assert "GMT" in dates.pop()


@pytest.mark.parametrize("how", ["a date of just now", "a date and a weak tag", "nothing"])
async def test_a_file_that_nothing_proves_is_read_as_one_stream(how, serving, get):
    def serve(visit):
        if how == "nothing":
            ranged(LARGE, visit, etag=None)
        elif how == "a date of just now":
            dated(visit, age=1)
        else:
            dated(visit, age=3600, ETag='W/"1"')

    server = serving(serve)
    assert whole(await get(server.url + SIGNED), LARGE)
    assert [visit.headers.get("range") for visit in server.visits] == [FIRST_RANGE, None]


async def test_a_server_that_is_busy_with_one_connection_is_borne_with(serving, tmp_path):
    """Some serve one connection a client: while that one brings something, the others wait."""
    one, refused = threading.Semaphore(), threading.Event()

    def serve(visit):
        if not one.acquire(blocking=False):
            refused.set()
            visit.answer(503)
            return
        try:
            assert visit.headers["range"] != RANGES[1] or refused.wait(20)
            ranged(LARGE, visit)
        finally:
            one.release()

    async def until_it_is_free(_):
        await asyncio.to_thread(one.acquire)
        one.release()

    await follow(serving(serve).url, tmp_path, until_it_is_free, listener := Listener())
    assert listener.data == LARGE
    assert refused.is_set()


async def test_a_part_whose_length_and_range_disagree_is_not_taken(serving, get):
    def serve(visit):
        if visit.number == 1:
            told = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
            visit.answer(206, DATA + b"x", ETag='"1"', Content_Range=told)
        else:
            ranged(DATA, visit)

    server = serving(serve)
    assert whole(await get(server.url + SIGNED))
    assert len(server.visits) == 2


async def test_an_empty_file_is_an_empty_file(serving, get):
    """It has no first range; that it is no video is found later, and it is kept as evidence."""
    server = serving(lambda visit: ranged(b"", visit))
    assert whole(await get(server.url + SIGNED), b"")


async def test_an_answer_without_a_length_is_read_to_its_end(serving, get):
    def serve(visit):
        visit.handler.send_response(200)
        visit.handler.send_header("Transfer-Encoding", "chunked")
        visit.handler.end_headers()
        for start in range(0, len(DATA), 70_000):
            piece = DATA[start : start + 70_000]
            visit.handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if visit.number == 1:
            visit.hang_up()
        else:
            visit.handler.wfile.write(b"0\r\n\r\n")

    server = serving(serve)
    assert whole(await get(server.url + SIGNED))
    assert len(server.visits) == 2


class Listener:
    """Follows a file, and remembers what it was given."""

    def __init__(self):
        self.sizes, self.data = [], b""

    def begin(self, size):
        self.sizes.append(size)
        self.data = b""

    def feed(self, piece):
        self.data += piece


async def test_a_follower_is_given_the_bytes_in_order(serving, tmp_path, naps):
    """The second part arrives last, and the third before it."""
    late = threading.Event()

    def serve(visit):
        if visit.headers["range"] == RANGES[1]:
            assert late.wait(20)
        ranged(LARGE, visit)
        if visit.headers["range"] == RANGES[2]:
            late.set()

    listener = Listener()
    await follow(serving(serve).url, tmp_path, naps, listener)
    assert listener.sizes == [len(LARGE)]
    assert listener.data == LARGE


async def test_a_follower_begins_anew_with_a_file_that_changed(serving, tmp_path, naps):
    new = LARGE[: len(LARGE) - 5]

    def serve(visit):
        old = visit.number == 1
        ranged(LARGE if old else new, visit, etag='"1"' if old else '"2"')

    listener = Listener()
    await follow(serving(serve).url, tmp_path, naps, listener)
    assert listener.sizes[-1] == len(new)
    assert listener.data == new


async def follow(url, tmp_path, naps, listener):
    await fetch(
        SignedUrl(url),
        tmp_path / "result.mp4",
        refresh=None,
        headers_for=lambda _: {},
        sleep=naps,
        follower=listener,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["result.mp4"]


async def test_cancelling_ends_every_connection_and_leaves_no_file(serving, get, tmp_path):
    server = serving(lambda visit: silent_after(visit, FIRST_RANGE))
    task = asyncio.create_task(get(server.url + SIGNED))
    await until(lambda: len(server.visits) == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []
    await until(lambda: "download" not in {one.name[:8] for one in threading.enumerate()})


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def silent_after(visit, first):
    if visit.headers["range"] == first:
        ranged(LARGE, visit)
    else:
        visit.wait()


@pytest.mark.parametrize("status", [200, 206])
async def test_256_mebibytes_take_little_memory(status, serving, get):
    piece = b"v" * MEBIBYTE
    size = 256 * MEBIBYTE

    def serve(visit):
        first, last = visit.headers["range"][6:].split("-") if status == 206 else (0, size - 1)
        start, stop = int(first), min(int(last) + 1, size)
        visit.handler.send_response(status)
        visit.handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        visit.handler.send_header("ETag", '"1"')
        visit.handler.send_header("Content-Length", str(stop - start))
        visit.handler.end_headers()
        for _ in range(start, stop, MEBIBYTE):
            visit.handler.wfile.write(piece)

    server = serving(serve)
    tracemalloc.start()
    try:
        fetched = await get(server.url + SIGNED)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fetched.size == size
    assert peak < 16 * MEBIBYTE
    fetched.path.unlink()
