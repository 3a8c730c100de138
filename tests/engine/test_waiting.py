"""Waiting is patient, cheap to repeat, and never gives a paid job up for a failed look."""

from email.utils import format_datetime

import pytest

from prefect_topaz import engine
from prefect_topaz.errors import AccessLost, JobLost, StillRunning
from prefect_topaz.providers import load
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.transport import RETRY_AFTER_CAP
from tests.engine.bench import PROVIDERS, Bench, Clock

providers = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture
def patient(clip, tmp_path):
    """A bench whose jobs show their end at the sixth look."""
    clock = Clock()
    with Sandbox(reads=6, clock=clock.unix) as sandbox:
        yield Bench(sandbox, clock, tmp_path, clip)


def looks(bench: Bench) -> int:
    return len(bench.asked("GET", "/api/ai/queue/", "/v1/tasks/"))


@providers
async def test_looks_are_few_and_further_and_further_apart(patient: Bench, provider):
    job = (await patient.submit(provider)).model_copy(update={"expected_seconds": None})
    await engine.wait(patient.context(provider), job)
    pace = load(provider).poll_seconds
    assert patient.clock.naps[:2] == [pace, pace]
    assert patient.clock.naps == sorted(patient.clock.naps)
    assert len(patient.clock.naps) == looks(patient) == 6


async def test_the_first_look_comes_after_half_the_time_that_the_provider_names(patient: Bench):
    job = await patient.submit("evolink")
    assert job.expected_seconds is not None
    long = job.model_copy(update={"expected_seconds": 100.0})
    await engine.wait(patient.context("evolink"), long)
    assert patient.clock.naps[:3] == [50, 8, pytest.approx(10.4)]


async def test_a_caller_may_set_the_pace(patient: Bench):
    job = await patient.submit("evolink")
    await engine.wait(patient.context("evolink"), job, pace=3)
    assert patient.clock.naps[:3] == [3, 3, pytest.approx(3.9)]


async def test_a_job_of_long_ago_is_looked_at_at_once(patient: Bench):
    job = await patient.submit()
    patient.clock.passed += 3600
    await engine.wait(patient.context(), job)
    assert patient.clock.naps[0] == 0


async def test_every_look_is_told(patient: Bench):
    seen = []

    async def on_look(status):
        seen.append((status.phase, status.progress))

    job = await patient.submit("evolink")
    await engine.wait(patient.context("evolink"), job, on_look=on_look)
    assert [phase for phase, _ in seen] == ["queued", *["processing"] * 4, "succeeded"]
    assert seen[0][1] == 0
    assert seen[-1][1] == 100


TROUBLE = [
    ("429", {}),
    ("5xx", {"status": 500}),
    ("5xx", {"status": 502}),
    ("5xx", {"status": 503}),
    ("refuse", {}),
    ("cut", {}),
    ("garbage", {}),
    ("refused", {"status": 400}),
    ("refused", {"status": 402}),
]


@providers
@pytest.mark.parametrize(("kind", "details"), TROUBLE)
async def test_no_failed_look_ends_the_wait(bench: Bench, provider, kind, details):
    bench.sandbox.fault("status", kind, times=3, **details)
    finished = await bench.finish(provider)
    assert finished.results[0].phase == "succeeded"
    assert bench.posts == 1
    assert len([line for line in bench.lines if "the job is safe" in line]) == 1


@providers
async def test_one_failed_look_costs_one_look(bench: Bench, provider):
    """The wait is the retry; a retry inside of it would hammer a provider in trouble."""
    bench.sandbox.fault("status", "5xx", times=2)
    await bench.finish(provider)
    assert looks(bench) == len(bench.clock.naps) == 4


@providers
async def test_a_server_that_asks_for_time_gets_it(bench: Bench, provider):
    bench.sandbox.fault("status", "429", retry_after=77)
    await bench.finish(provider)
    assert bench.clock.naps[1] == 77


async def test_a_server_that_names_a_date_is_understood(bench: Bench):
    job = await bench.submit()
    wanted = bench.clock.now().replace(microsecond=0, minute=2)
    bench.sandbox.fault("status", "429", retry_after=format_datetime(wanted, usegmt=True))
    await engine.wait(bench.context(), job)
    assert sum(bench.clock.naps[:2]) == 120


async def test_a_server_cannot_park_a_run(bench: Bench):
    bench.sandbox.fault("status", "429", retry_after=86400)
    await bench.finish()
    assert bench.clock.naps[1] == RETRY_AFTER_CAP


@providers
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_ends_the_wait_at_once_and_keeps_the_job(
    bench: Bench, provider, status
):
    job = await bench.submit(provider)
    bench.sandbox.fault("status", "refused", status=status)
    with pytest.raises(AccessLost, match="mend the key and run again") as caught:
        await engine.wait(bench.context(provider), job)
    assert caught.value.billed == "yes"
    assert caught.value.job_id == job.job_ids[0]
    assert looks(bench) == 1
    assert await bench.kinds(provider) == ["intent", "submitted"]
    (video,) = await bench.deliver(provider)
    assert video.job_id == job.job_ids[0]
    assert bench.posts == 1


@providers
async def test_a_job_that_is_not_listed_yet_is_borne_with(bench: Bench, provider):
    bench.sandbox.fault("status", "refused", times=5, status=404)
    finished = await bench.finish(provider)
    assert finished.results[0].phase == "succeeded"


async def test_a_job_that_left_the_queue_is_found_in_the_history(bench: Bench):
    bench.sandbox.fault("status", "forget", history=True)
    finished = await bench.finish()
    assert [finished.results[0].job_id] == bench.bought
    assert finished.results[0].cost.charged is not None


@providers
async def test_a_job_that_nobody_knows_is_lost_and_kept(bench: Bench, provider):
    job = await bench.submit(provider)
    bench.sandbox.fault("status", "forget")
    for _ in range(2):
        with pytest.raises(JobLost, match="no longer knows job") as caught:
            await engine.wait(bench.context(provider), job)
        assert caught.value.billed == "maybe"
    assert bench.clock.passed >= 120
    assert (await bench.submit(provider)).reattached
    assert bench.posts == 1


async def test_trouble_with_the_history_is_no_proof_that_a_job_is_lost(bench: Bench):
    job = await bench.submit()
    bench.clock.passed += 600
    bench.sandbox.fault("status", "forget", history=True)
    bench.sandbox.fault("list", "5xx", times=4)
    finished = await engine.wait(bench.context(), job)
    assert finished.results[0].phase == "succeeded"


@providers
async def test_an_unknown_word_is_told_once_and_waited_on(bench: Bench, provider):
    bench.sandbox.fault("status", "unknown_status", times=3, word="paused")
    finished = await bench.finish(provider)
    assert finished.results[0].phase == "succeeded"
    assert [line for line in bench.lines if "paused" in line] == [
        f"job {bench.bought[0]}: unknown status 'paused', waiting on"
    ]


@providers
async def test_a_deadline_leaves_the_job_running_for_the_next_run(patient: Bench, provider):
    job = await patient.submit(provider)
    with pytest.raises(StillRunning) as caught:
        await engine.wait(patient.context(provider), job, deadline=25)
    assert caught.value.billed == "yes"
    assert caught.value.job_id == job.job_ids[0]
    assert "was not cancelled" in str(caught.value)
    assert patient.clock.passed == 25
    assert await patient.kinds(provider) == ["intent", "submitted"]
    (video,) = await patient.deliver(provider)
    assert video.job_id == job.job_ids[0]
    assert patient.posts == 1


async def test_a_deadline_is_measured_by_the_clock_and_not_by_the_naps(patient: Bench):
    """Looks take time too: ten minutes in one of them count."""
    job = await patient.submit()

    async def slow() -> None:
        patient.clock.passed += 600

    patient.clock.alarms = {1: slow}
    with pytest.raises(StillRunning):
        await engine.wait(patient.context(), job, deadline=300)
    assert looks(patient) == 1


async def test_a_deadline_without_a_look_says_that_nothing_was_seen(patient: Bench):
    job = await patient.submit()
    patient.sandbox.fault("status", "5xx", times=50)
    with pytest.raises(StillRunning, match="not seen"):
        await engine.wait(patient.context(), job, deadline=60)


async def test_generations_that_have_ended_are_not_asked_again(bench: Bench):
    order = OxenOptions(resolution="1080p", num_generations=2).order()
    job = await bench.submit(order=order)
    bench.sandbox.fault("status", "5xx", times=1)
    await engine.wait(bench.context(), job)
    asked = [one.path.rpartition("/")[2] for one in bench.asked("GET", "/api/ai/queue/")]
    # The first needs one look more, for the one that failed.
    assert [asked.count(job_id) for job_id in job.job_ids] == [3, 2]


async def test_a_success_without_its_result_is_no_end_yet(bench: Bench):
    """The word comes before the link; whoever stops there has a paid job and no video."""
    bench.sandbox.fault("status", "unknown_status", times=2, word="completed")
    finished = await bench.finish("evolink")
    assert finished.results[0].results
    assert looks(bench) == 3
