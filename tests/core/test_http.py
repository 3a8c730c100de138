"""Connections are shared within a loop, and closed with their last use."""

import asyncio
import gc
import itertools
import logging
import threading
import warnings

import httpx
import pytest

from prefect_topaz import http


def clients():
    return http._clients.get(asyncio.get_running_loop())


async def test_nested_uses_share_one_pair_and_the_last_one_closes_it():
    async with http.connections():
        outer = clients()
        async with http.connections():
            assert clients() is outer
        assert not outer.kept.is_closed
        assert not outer.fresh.is_closed
    assert clients() is None
    assert outer.kept.is_closed
    assert outer.fresh.is_closed


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_concurrent_uses_share_one_pair_until_the_last_has_ended(order):
    gates = [asyncio.Event() for _ in order]
    pairs = []

    async def use(gate):
        async with http.connections():
            pairs.append(clients())
            await gate.wait()

    tasks = [asyncio.ensure_future(use(gate)) for gate in gates]
    await asyncio.sleep(0)
    for number in order:
        assert not pairs[0].kept.is_closed
        gates[number].set()
        await tasks[number]
    assert len({id(pair) for pair in pairs}) == 1
    assert pairs[0].kept.is_closed
    assert clients() is None


async def test_an_error_inside_closes_them_too():
    pairs = []

    async def fail():
        async with http.connections():
            pairs.append(clients())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert pairs[0].kept.is_closed
    assert clients() is None


def test_two_loops_have_connections_of_their_own(serving):
    server = serving()
    pairs = []
    meet = threading.Barrier(2, timeout=10)

    async def use():
        async with http.connections():
            pairs.append(clients())
            meet.wait()
            async with http.opened("GET", server.url) as answer:
                assert answer.status_code == 200
            meet.wait()

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(pair) for pair in pairs}) == 2
    assert all(pair.kept.is_closed and pair.fresh.is_closed for pair in pairs)


def test_nothing_is_left_open(serving):
    server = serving()

    async def use(fresh):
        async with http.opened("GET", server.url, fresh=fresh) as answer:
            await answer.aread()

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for fresh in (True, False):
            asyncio.run(use(fresh))
        gc.collect()
    assert len(http._clients) == 0


def test_the_first_use_after_the_last_opens_anew(serving):
    server = serving()

    async def twice():
        for _ in range(2):
            async with http.opened("GET", server.url) as answer:
                assert answer.status_code == 200

    asyncio.run(twice())
    assert server.connections == 2


async def test_an_answer_that_is_left_early_frees_its_connection(serving):
    server = serving(lambda visit: visit.answer(200, b"x" * 1_000_000))
    async with http.connections():
        for _ in range(70):  # more than there are connections
            async with http.opened("GET", server.url) as answer:
                assert answer.status_code == 200
    assert server.connections == 70


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "fsspec.http"])
def test_only_records_of_our_requests_are_redacted(name, caplog):
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger(name)
    with http.quiet():
        log.debug("get %s return_value=%r", "http://h/a?sig=1", [b"/x?sig=1"])
    log.debug("get %s", "http://h/a?sig=1")
    assert [record.getMessage() for record in caplog.records] == [
        "get http://h/a",
        "get http://h/a?sig=1",
    ]


def test_an_error_in_a_record_of_ours_is_redacted_too(caplog):
    caplog.set_level(logging.DEBUG)
    error = OSError("cannot read http://h/a?sig=CANARY")
    with http.quiet():
        logging.getLogger("fsspec.http").debug("", exc_info=error)
    assert "CANARY" not in caplog.text
    assert "cannot read http://h/a" in caplog.text


async def test_redirects_are_answers(serving):
    server = serving(lambda visit: visit.answer(302, location="/elsewhere"))
    async with http.opened("GET", server.url) as answer:
        assert answer.status_code == httpx.codes.FOUND
    assert len(server.visits) == 1
