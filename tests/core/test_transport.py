"""The retry policy as a table, and what proves that a request never left."""

import email.utils
import math
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_topaz.transport import (
    RETRY_AFTER_CAP,
    Decision,
    Transport,
    decide,
    describe,
    origin_of,
    problem_of,
    read_retry_after,
    spread,
    utc_now,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
NEVER_LEFT = {
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
}
MAY_HAVE_LEFT = {
    httpx.RequestError,
    httpx.TransportError,
    httpx.TimeoutException,
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.NetworkError,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.ProtocolError,
    httpx.LocalProtocolError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
    httpx.TooManyRedirects,
}


@st.composite
def attempts(draw):
    """What one attempt can end with: an answer or a problem, in every combination."""
    problem = draw(st.sampled_from([None, "never_left", "unknown"]))
    most = draw(st.integers(1, 6))
    return {
        "repeatable": draw(st.booleans()),
        "problem": problem,
        "status": draw(st.integers(100, 599)) if problem is None else None,
        "retry_after": draw(st.none() | st.floats(0, RETRY_AFTER_CAP)),
        "attempt": draw(st.integers(1, most)),
        "attempts": most,
    }


@given(attempts())
def test_a_call_that_is_not_repeatable_goes_out_again_only_if_nothing_can_have_been_bought(case):
    case = {**case, "repeatable": False}
    if decide(**case).action == "repeat":
        assert case["problem"] == "never_left" or case["status"] == 429


@given(attempts())
def test_nothing_is_repeated_after_the_last_attempt(case):
    assert decide(**{**case, "attempt": case["attempts"]}).action != "repeat"


@given(attempts())
def test_an_answer_is_handed_on_or_asked_for_again_and_never_lost(case):
    action = decide(**case).action
    if case["problem"] is None:
        assert action in {"answer", "repeat"}
    else:
        assert action in {"give_up", "unknown", "repeat"}


@given(attempts())
def test_the_outcome_is_unknown_exactly_if_a_paid_call_may_have_left(case):
    paid_and_gone = case["problem"] == "unknown" and not case["repeatable"]
    assert (decide(**case).action == "unknown") == paid_and_gone


@given(attempts())
def test_giving_up_means_that_nothing_was_bought(case):
    if decide(**case).action == "give_up":
        assert case["problem"] == "never_left" or case["repeatable"]
        assert case["attempt"] == case["attempts"]


@given(attempts())
def test_a_free_call_is_repeated_while_that_may_help(case):
    case = {**case, "repeatable": True}
    last = case["attempt"] == case["attempts"]
    passing = case["status"] in {408, 429} or (case["status"] or 0) >= 500
    may_help = case["problem"] is not None or passing
    assert (decide(**case).action == "repeat") == (may_help and not last)


@given(attempts())
def test_the_wait_is_the_servers_wish_or_doubles(case):
    decision = decide(**case)
    if decision.action != "repeat":
        assert decision.delay == 0
    elif case["retry_after"] is not None:
        assert decision.delay == case["retry_after"]
    else:
        assert decision.delay == 2 ** (case["attempt"] - 1)


@pytest.mark.parametrize("status", range(100, 600))
def test_a_paid_call_repeats_no_answer_but_429(status):
    case = {"problem": None, "retry_after": None, "attempt": 1, "attempts": 4}
    paid = decide(repeatable=False, status=status, **case)
    assert paid == (Decision("repeat", 1.0) if status == 429 else Decision("answer"))


def subclasses(kind):
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_every_error_of_httpx_is_sorted():
    """A new kind in a later httpx must be thought about, and is unknown until then."""
    ours = {kind for kind in subclasses(httpx.RequestError) if kind.__module__ == "httpx"}
    assert ours == NEVER_LEFT | MAY_HAVE_LEFT


@pytest.mark.parametrize("kind", sorted(NEVER_LEFT | MAY_HAVE_LEFT, key=lambda kind: kind.__name__))
def test_only_what_happens_before_the_first_byte_never_left(kind):
    expected = "never_left" if kind in NEVER_LEFT else "unknown"
    assert problem_of(kind("no")) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("7", 7),
        ("2.5", 2.5),
        (" 3 ", 3),
        ("-5", 0),
        ("301", 300),
        ("1e400", 300),
        ("inf", 300),
        ("-inf", 0),
        ("nan", None),
        ("soon", None),
        ("7 seconds", None),
        ("Thu, 01 Jan 2026 12:00:09 GMT", 9),
        ("Thu, 01 Jan 2026 12:00:09 -0000", 9),
        ("Thu, 01 Jan 2026 12:00:09", 9),
        ("Thu, 01 Jan 2026 13:00:09 +0100", 9),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Fri, 02 Jan 2026 12:00:00 GMT", 300),
        ("Thu, 99 Jan 2026 12:00:00 GMT", None),
        ("Thu, 01 Jan 99999999999999999999 12:00:00 GMT", None),
        ("Thu, 01 Jan 2026 12:00:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_read_as_servers_write_it(value, seconds):
    assert read_retry_after(value, NOON) == seconds


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_no_retry_after_raises_or_parks_a_run(value):
    seconds = read_retry_after(value, NOON)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP


@given(st.integers(-10_000, 10_000))
def test_a_date_is_a_distance_from_now(offset):
    moment = NOON + timedelta(seconds=offset)
    value = email.utils.format_datetime(moment, usegmt=True)
    assert read_retry_after(value, NOON) == min(max(offset, 0), RETRY_AFTER_CAP)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Hub.Oxen.ai/api?x=1", "https://hub.oxen.ai"),
        ("HTTPS://hub.oxen.ai", "https://hub.oxen.ai"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "http://hub.oxen.ai/api",
        "https://hub.oxen.ai.evil.example/api",
        "https://evil.example/hub.oxen.ai",
        "https://hub.oxen.ai@evil.example/",
        "https://evil.example/?https://hub.oxen.ai",
        "https://hub.oxen.ai:8443/api",
        "https://hub.oxen.ai%2e.evil.example/",
        "https://hub.oxen.ai\\@evil.example/",
        "https://hub.oxen.ai\\.evil.example/",
        "https://xn--hub.oxen.ai/",
        "//hub.oxen.ai/api",
        "",
    ],
)
def test_the_key_is_for_the_providers_own_origin_and_nobody_else(url):
    transport = Transport(SecretStr("CANARY"), frozenset({"https://hub.oxen.ai"}))
    assert transport.key_for(url) == {}
    key = transport.key_for("https://hub.oxen.ai/api")
    assert key == {"Authorization": "Bearer CANARY"}
    assert "CANARY" not in repr(transport)


def test_an_error_is_described_without_the_url_in_its_text():
    error = httpx.ReadTimeout("no answer from https://me:pw@host/x?sig=CANARY")
    assert describe(error) == "ReadTimeout: no answer from https://host/x"
    assert describe(KeyError()) == "KeyError"
    assert describe(None) == "NoneType: None"


def test_delays_are_spread_upwards_by_at_most_a_quarter():
    factors = [spread() for _ in range(200)]
    assert all(1 <= factor <= 1.25 for factor in factors)
    assert len(set(factors)) > 100


def test_the_wall_clock_is_aware():
    assert utc_now().tzinfo is timezone.utc
    assert math.isclose(utc_now().timestamp(), datetime.now().timestamp(), abs_tol=60)  # noqa: DTZ005  # compared with the naive clock on purpose
