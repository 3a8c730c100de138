"""The endpoint that blocks: its answer is the only copy of a paid result."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from prefect_topaz import engine, http
from prefect_topaz.errors import OutcomeUnknown, RejectedParameters, ResultUnavailable
from prefect_topaz.models import Order, Place
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.providers.oxen import Provider as Oxen
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox import Choices, Sandbox
from prefect_topaz.wire import Reply
from tests.engine.bench import Bench, Clock, until

FORMATS = ("url", "b64_json")
formats = pytest.mark.parametrize("response_format", FORMATS)


def order(response_format: str = "url") -> Order:
    options = OxenOptions(resolution="1080p", mode="sync", response_format=response_format)
    return options.order()


def held(bench: Bench) -> list[str]:
    found = (bench.folder / "out/.topaz").glob("*/*")
    return sorted(path.name for path in found if path.suffix != ".json")


@formats
async def test_a_blocking_answer_is_delivered(bench: Bench, response_format):
    (video,) = await bench.deliver(order=order(response_format))
    assert (video.width, video.height) == (1920, 1080)
    assert video.job_id is None
    assert (len(bench.bought), bench.posts) == (1, 1)
    assert bench.asked("GET", "/api/ai/queue") == []
    (again,) = await bench.deliver(order=order(response_format))
    assert again.cached
    assert bench.posts == 1


async def test_an_answer_too_large_for_memory_is_read_from_a_file(bench: Bench, monkeypatch):
    (small,) = await bench.deliver(order=order("b64_json"), destination=bench.place("small"))
    spools = bench.folder / "spools"
    spools.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spools))
    monkeypatch.setattr(http, "MAX_BODY", 1000)
    (large,) = await bench.deliver(order=order("b64_json"), destination=bench.place("large"))
    assert large.sha256 == small.sha256
    assert list(spools.iterdir()) == []


async def test_an_unreadable_answer_leaves_no_file_behind(bench: Bench, monkeypatch):
    spools = bench.folder / "spools"
    spools.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spools))
    monkeypatch.setattr(http, "MAX_BODY", 10)
    bench.sandbox.fault("generate", "5xx", status=502)
    with pytest.raises(OutcomeUnknown):
        await bench.submit(order=order())
    assert list(spools.iterdir()) == []


@formats
async def test_the_result_is_held_until_it_is_stored(bench: Bench, response_format):
    await bench.submit(order=order(response_format))
    assert held(bench) == ["result-1.mp4"]
    (video,) = await bench.deliver(order=order(response_format))
    assert not video.cached
    assert held(bench) == []
    assert bench.posts == 1


async def test_nothing_of_the_answer_is_asked_again_after_the_submit(bench: Bench):
    job = await bench.submit(order=order())
    bench.sandbox.stop()
    context = bench.context()
    (video,) = await engine.store(context, await engine.wait(context, job))
    assert video.width == 1920


async def test_a_stored_result_that_was_deleted_is_gone_and_says_so(bench: Bench):
    (video,) = await bench.deliver(order=order())
    Path(video.url).unlink()
    with pytest.raises(ResultUnavailable, match="published once and deleted since") as caught:
        await bench.deliver(order=order())
    assert caught.value.billed == "yes"
    assert bench.posts == 1


async def test_a_stored_result_is_copied_to_another_destination(bench: Bench):
    journal = bench.place("journal")
    (first,) = await bench.deliver(order=order(), journal=journal)
    other = Place(url=str(bench.folder / "b" / "copy.mp4"))
    (second,) = await bench.deliver(order=order(), journal=journal, destination=other)
    assert second.cached
    assert second.sha256 == first.sha256


async def test_wrong_parameters_are_refused_at_once(bench: Bench):
    bench.sandbox.fault("generate", "refused", status=400, message="Invalid resolution")
    with pytest.raises(RejectedParameters, match="Invalid resolution"):
        await bench.submit(order=order())
    assert bench.bought == []


@pytest.mark.parametrize("kind", ["html", "expire", "gone"])
async def test_a_link_in_the_answer_that_does_not_open_is_paid_for(bench: Bench, kind):
    bench.sandbox.fault("result", kind, times=6)
    with pytest.raises(ResultUnavailable, match="could not be kept") as caught:
        await bench.submit(order=order())
    assert caught.value.billed == "yes"
    record = await bench.record(order=order())
    assert (record.state, record.last.billed) == ("unknown", "yes")


async def test_what_could_not_be_kept_is_found_in_the_history_next_time(bench: Bench):
    bench.sandbox.fault("result", "gone", times=3)
    with pytest.raises(ResultUnavailable):
        await bench.submit(order=order())
    (video,) = await bench.deliver(order=order())
    assert [video.job_id] == bench.bought
    assert bench.posts == 1


async def test_what_no_history_shows_is_paid_for_and_never_bought_again(clip, tmp_path):
    clock = Clock()
    silent = Choices(sync_in_history=False)
    with Sandbox(reads=1, clock=clock.unix, choices=silent) as sandbox:
        bench = Bench(sandbox, clock, tmp_path, clip)
        sandbox.fault("result", "gone", times=3)
        with pytest.raises(ResultUnavailable):
            await bench.submit(order=order())
        with pytest.raises(OutcomeUnknown) as caught:
            await bench.submit(order=order())
        assert caught.value.billed == "yes"
        assert bench.posts == 1


async def test_a_result_whose_keeper_died_is_delivered_though_no_history_shows_it(clip, tmp_path):
    clock = Clock()
    silent = Choices(sync_in_history=False)
    with Sandbox(reads=1, clock=clock.unix, choices=silent) as sandbox:
        bench = Bench(sandbox, clock, tmp_path, clip)
        await bench.submit(order=order())
        (written,) = (tmp_path / "out/.topaz").glob("*/0002.json")
        written.unlink()
        assert await bench.kinds(order=order()) == ["intent"]
        (video,) = await bench.deliver(order=order())
        assert not video.cached
        assert (len(bench.bought), bench.posts) == (1, 1)
        assert held(bench) == []


class Broken(Oxen):
    """Oxen.ai on a day when its answer holds a link that is none."""

    def inline_result(self, reply: Reply) -> SignedUrl | None:
        link = super().inline_result(reply)
        return link and SignedUrl("http://host:port/video.mp4")


async def test_a_link_that_is_none_is_paid_for(bench: Bench):
    with pytest.raises(ResultUnavailable, match="could not be kept") as caught:
        await bench.submit(order=order(), context=bench.context(dialect=Broken(bench.sandbox.url)))
    assert caught.value.billed == "yes"
    assert (await bench.record(order=order())).state == "unknown"


async def test_there_is_nothing_to_cancel_after_the_answer(bench: Bench):
    job = await bench.submit(order=order())
    outcome = await engine.cancel(bench.context(), job)
    assert outcome.outcome == "already_finished"
    assert bench.asked("DELETE", "/") == []


async def test_a_cancel_while_the_only_copy_is_fetched_does_not_lose_it(bench: Bench):
    bench.sandbox.fault("result", "delay", seconds=1.0)
    running = asyncio.ensure_future(bench.submit(order=order()))
    await until(lambda: bench.asked("GET", "/api/repos"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (video,) = await bench.deliver(order=order())
    assert video.width == 1920
    assert (len(bench.bought), bench.posts) == (1, 1)
