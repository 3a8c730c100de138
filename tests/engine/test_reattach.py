"""A repeat finds what was bought, wherever the one before it stopped: it sends no second order."""

from pathlib import Path

import pytest

from prefect_topaz import engine
from prefect_topaz.errors import ResultUnavailable
from prefect_topaz.models import Cost, Place
from prefect_topaz.providers.evolink import EvoLinkOptions
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.sandbox import make_clip
from tests.engine.bench import PROVIDERS, Bench


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_repeat_after_the_submit_buys_nothing(bench: Bench, provider):
    first = await bench.submit(provider)
    second = await bench.submit(provider)
    assert (first.reattached, second.reattached) == (False, True)
    assert first.job_ids == second.job_ids == tuple(bench.bought)
    assert bench.posts == 1
    assert any("nothing is bought" in line for line in bench.lines)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_repeat_after_the_wait_asks_the_journal_alone(bench: Bench, provider):
    finished = await bench.finish(provider)
    asked = len(bench.sandbox.requests())
    again = await engine.wait(bench.context(provider), finished.job)
    assert again.results[0].job_id == finished.results[0].job_id
    assert len(bench.sandbox.requests()) == asked


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_repeat_after_the_store_is_a_cache_hit(bench: Bench, provider):
    (first,) = await bench.deliver(provider)
    asked = len(bench.asked("GET", "/api/", "/v1/", "/results/"))
    (second,) = await bench.deliver(provider)
    assert second.cached
    assert second.model_copy(update={"cached": False}) == first
    assert bench.posts == 1
    assert len(bench.asked("GET", "/api/", "/v1/", "/results/")) == asked


async def test_a_presigned_url_that_was_signed_anew_is_the_same_work(bench: Bench):
    plain = bench.sandbox.host(bench.clip)
    await bench.submit(url=f"{plain}?X-Amz-Signature=one")
    assert (await bench.submit(url=f"{plain}?X-Amz-Signature=two")).reattached
    assert bench.posts == 1


async def test_a_changed_source_is_new_work(bench: Bench):
    await bench.submit()
    other = make_clip(bench.folder / "other.mp4", seconds=0.4, size=(64, 36), fps=10)
    assert not (await bench.submit(url=bench.sandbox.host(other, "clip.mp4"))).reattached
    assert bench.posts == 2


async def test_who_pays_and_how_it_is_asked_makes_no_new_work(bench: Bench):
    await bench.submit()
    order = OxenOptions(resolution="1080p", target_namespace="team", mode="sync").order()
    assert (await bench.submit(order=order)).reattached
    assert bench.posts == 1


async def test_a_callback_makes_no_new_work(bench: Bench):
    await bench.submit("evolink")
    order = EvoLinkOptions(upscale_factor=2, callback_url="https://example.com/hook").order()
    assert (await bench.submit("evolink", order=order)).reattached
    assert bench.posts == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_another_destination_with_the_same_journal_gets_a_copy(bench: Bench, provider):
    journal = bench.place("journal")
    (first,) = await bench.deliver(provider, journal=journal)
    downloads = len(bench.asked("GET", "/results/", "/api/repos/"))
    place = Place(url=str(bench.folder / "elsewhere" / "mine.mp4"))
    (second,) = await bench.deliver(provider, journal=journal, destination=place)
    assert second.url == place.url
    assert second.cached
    assert Path(second.url).read_bytes() == Path(first.url).read_bytes()
    assert bench.posts == 1
    assert len(bench.asked("GET", "/results/", "/api/repos/")) == downloads


async def test_both_places_are_hits_afterwards(bench: Bench):
    journal = bench.place("journal")
    places = [bench.place("a"), bench.place("b")]
    for place in places:
        await bench.deliver(journal=journal, destination=place)
    downloads = len(bench.asked("GET", "/api/repos/"))
    for place in places:
        (video,) = await bench.deliver(journal=journal, destination=place)
        assert video.cached
        assert video.url.startswith(place.url)
    assert len(bench.asked("GET", "/api/repos/")) == downloads


async def test_a_copy_that_was_changed_is_not_passed_on(bench: Bench):
    journal = bench.place("journal")
    (first,) = await bench.deliver(journal=journal)
    original = Path(first.url).read_bytes()
    Path(first.url).write_bytes(b"x" * first.bytes)
    (second,) = await bench.deliver(journal=journal, destination=bench.place("b"))
    assert Path(second.url).read_bytes() == original
    assert bench.posts == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_deleted_result_is_fetched_again(bench: Bench, provider):
    (first,) = await bench.deliver(provider)
    Path(first.url).unlink()
    (second,) = await bench.deliver(provider)
    assert not second.cached
    assert second.sha256 == first.sha256
    assert Path(second.url).stat().st_size == first.bytes
    assert bench.posts == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_expired_link_is_asked_anew(bench: Bench, provider):
    bench.sandbox.fault("result", "expire", times=2)
    (video,) = await bench.deliver(provider)
    assert not video.warnings
    assert bench.posts == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_result_that_is_gone_is_paid_for_and_says_so(bench: Bench, provider):
    bench.sandbox.fault("result", "gone", times=20)
    with pytest.raises(ResultUnavailable) as caught:
        await bench.deliver(provider)
    error = caught.value
    assert error.billed == "yes"
    assert [error.job_id] == bench.bought
    assert len(error.work_key) == 64
    assert "signature" not in str(error)
    assert f"It cost {PAID[provider].format(bench.charged)} (charged)" in error.message
    assert bench.posts == 1


PAID = {"oxen": "${}", "evolink": "{} credits"}


async def test_a_result_that_is_gone_says_what_it_cost_as_far_as_is_known(bench: Bench):
    """The provider tells the charge no more: what was estimated is said, and by what."""
    bench.sandbox.fault("result", "gone", times=20)
    finished = await bench.finish()
    bench.sandbox.fault("list", "5xx", times=9)
    with pytest.raises(ResultUnavailable, match=r"It cost \$[0-9.]+ \(estimated\), ") as caught:
        await engine.store(bench.context(), finished)
    assert (finished.job.cost.basis or "no basis") in caught.value.message
    free = finished.model_copy(update={"job": finished.job.model_copy(update={"cost": Cost()})})
    with pytest.raises(ResultUnavailable, match="What it cost is not known"):
        await engine.store(bench.context(), free)


async def test_what_the_queue_forgot_is_fetched_by_the_history(bench: Bench):
    finished = await bench.finish()
    bench.sandbox.fault("status", "forget", history=True)
    (video,) = await engine.store(bench.context(), finished)
    assert video.width == 1920
    assert len(bench.asked("GET", f"/api/ai/generations/{video.job_id}")) == 2  # link, cost


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_that_nobody_knows_any_more_cannot_be_stored(bench: Bench, provider):
    finished = await bench.finish(provider)
    bench.sandbox.fault("status", "forget")
    with pytest.raises(ResultUnavailable, match="cannot be read") as caught:
        await engine.store(bench.context(provider), finished)
    assert caught.value.billed == "yes"
    assert bench.posts == 1


async def test_a_job_that_shows_no_result_any_more_is_paid_for(bench: Bench):
    finished = await bench.finish()
    bench.sandbox.fault("status", "unknown_status", word="archived")
    with pytest.raises(ResultUnavailable, match="no result any more") as caught:
        await engine.store(bench.context(), finished)
    assert caught.value.billed == "yes"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_again_buys_the_same_work_on_purpose(bench: Bench, provider):
    first = await bench.submit(provider)
    second = await bench.submit(provider, again=1)
    assert not second.reattached
    assert [*first.job_ids, *second.job_ids] == bench.bought
    assert (await bench.submit(provider, again=1)).reattached
    assert bench.posts == 2


async def test_a_sandbox_result_is_never_taken_for_a_bought_one(bench: Bench):
    context, purchase = bench.context(), await bench.purchase()
    here = bench.key(context, purchase)
    real = bench.context(dialect=type(context.client.dialect)())
    assert bench.key(real, purchase) != here


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_folder_that_was_moved_is_recognised(bench: Bench, provider):
    (first,) = await bench.deliver(provider)
    (bench.folder / "out").rename(bench.folder / "archive")
    bench.sandbox.fault("result", "gone", times=9)
    (found,) = await bench.deliver(provider, destination=bench.place("archive"))
    assert found.cached
    assert found.url == str(bench.folder / "archive" / Path(first.url).name)
    assert Path(found.receipt_url).exists()
    assert Path(found.preview_url).exists()
    assert found.sha256 == first.sha256
    assert bench.posts == 1
