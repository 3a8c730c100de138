"""A result that is not what was ordered gets no name, is kept, and is not bought again."""

from pathlib import Path

import pytest

from prefect_topaz import engine
from prefect_topaz.errors import ResultMismatch, ResultUnavailable
from prefect_topaz.models import Place
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.sandbox import make_clip
from tests.engine.bench import PROVIDERS, Bench

WRONG = {
    "size": ("job", "wrong_video", {"what": "size"}, "frame size is"),
    "duration": ("job", "wrong_video", {"what": "duration"}, "duration is"),
    "cut short": ("result", "short", {"fraction": 0.5, "times": 9}, "ends|announces|decoded"),
    "no video": ("result", "short", {"fraction": 0.001, "times": 9}, "it is not a video"),
}
wrong = pytest.mark.parametrize("how", WRONG)
providers = pytest.mark.parametrize("provider", PROVIDERS)
OFF = {"verify": "off"}


def spoil(bench: Bench, how: str) -> str:
    """Ask for a wrong result, and say what the error must name."""
    operation, kind, details, reason = WRONG[how]
    bench.sandbox.fault(operation, kind, **details)
    return reason


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A clip long enough for half of it to be missed."""
    bench.clip = make_clip(bench.folder / "clip.mp4", seconds=2, size=(64, 36), fps=10)
    return bench


@wrong
@providers
async def test_a_wrong_result_is_kept_and_never_published(bench: Bench, provider, how):
    reason = spoil(bench, how)
    with pytest.raises(ResultMismatch, match=reason) as caught:
        await bench.deliver(provider)
    error = caught.value
    assert error.billed == "yes"
    assert [error.job_id] == bench.bought
    published = {path.name for path in (bench.folder / "out").iterdir()}
    assert published == {".topaz"}
    (kept,) = (bench.folder / "out/.topaz" / error.work_key).glob("rejected-*")
    assert str(kept) in str(error)
    assert kept.stat().st_size > 0


@wrong
async def test_a_wrong_result_is_not_bought_again(bench: Bench, how):
    spoil(bench, how)
    for _ in range(3):
        with pytest.raises(ResultMismatch):
            await bench.deliver()
    assert (len(bench.bought), bench.posts) == (1, 1)


async def test_the_report_names_what_was_expected(bench: Bench):
    spoil(bench, "size")
    with pytest.raises(ResultMismatch, match="960x540, ordered 1920x1080"):
        await bench.deliver()
    (kept,) = [event for event in (await bench.record()).events if event.kind == "mismatch"]
    assert (kept.billed, kept.held) == ("yes", ("rejected-clip-1080p.mp4",))
    assert "960x540" in kept.reason


@wrong
async def test_a_person_may_take_a_wrong_result_as_it_is(bench: Bench, how):
    reason = spoil(bench, how)
    with pytest.raises(ResultMismatch):
        await bench.deliver()
    (video,) = await bench.deliver(store=OFF)
    assert Path(video.url).stat().st_size == video.bytes
    if how in ("cut short", "no video"):
        (warning,) = video.warnings
        assert warning.startswith("not verified")
        assert any(word in warning for word in reason.split("|"))
    assert bench.posts == 1


@providers
@pytest.mark.parametrize("destination", ["out/", "elsewhere/other.mp4"])
async def test_a_wrong_result_can_be_taken_when_its_link_is_gone(
    bench: Bench, provider, destination
):
    """EvoLink's links live for a day, and a person may look at it the day after."""
    journal = bench.place("journal")
    spoil(bench, "size")
    with pytest.raises(ResultMismatch) as caught:
        await bench.deliver(provider, journal=journal)
    (kept,) = (bench.folder / "journal" / caught.value.work_key).glob("rejected-*")
    content = kept.read_bytes()
    bench.sandbox.fault("result", "gone", times=50)
    place = Place(url=f"{bench.folder}/{destination}")
    (video,) = await bench.deliver(provider, journal=journal, destination=place, store=OFF)
    assert Path(video.url).read_bytes() == content
    assert bench.posts == 1


async def test_a_kept_result_is_no_way_around_the_comparison(bench: Bench):
    spoil(bench, "size")
    with pytest.raises(ResultMismatch):
        await bench.deliver()
    bench.sandbox.fault("result", "gone", times=50)
    with pytest.raises(ResultMismatch):
        await bench.deliver()


@pytest.mark.parametrize(
    ("what", "text"), [("silent", "there is no sound"), ("fps", "frame rate is 5")]
)
@providers
async def test_a_useful_difference_is_a_warning_and_strict_a_mismatch(
    bench: Bench, provider, what, text
):
    bench.sandbox.fault("job", "wrong_video", what=what)
    with pytest.raises(ResultMismatch, match=text):
        await bench.deliver(provider, store={"verify": "strict"})
    (video,) = await bench.deliver(provider)
    assert any(text in warning for warning in video.warnings)
    assert bench.posts == 1


async def test_one_wrong_generation_does_not_hold_the_others_back(bench: Bench):
    """All of them are paid for, and their links expire."""
    order = OxenOptions(resolution="1080p", num_generations=3).order()
    spoil(bench, "size")
    for _ in range(2):
        with pytest.raises(ResultMismatch) as caught:
            await bench.deliver(order=order)
        assert caught.value.job_id == bench.bought[0]
        names = {path.name for path in (bench.folder / "out").glob("*.mp4")}
        assert names == {"clip-1080p-2.mp4", "clip-1080p-3.mp4"}
    assert (await bench.record(order=order)).state == "finished"
    videos = await bench.deliver(order=order, store=OFF)
    assert [video.job_id for video in videos] == bench.bought
    assert [video.cached for video in videos] == [False, True, True]
    assert bench.posts == 1


@providers
async def test_a_web_page_is_no_result_and_nothing_to_keep(bench: Bench, provider):
    bench.sandbox.fault("result", "html", times=6)
    with pytest.raises(ResultUnavailable, match="web page") as caught:
        await bench.deliver(provider)
    assert caught.value.billed == "yes"
    assert not list(bench.folder.glob("out/.topaz/*/rejected-*"))
    (video,) = await bench.deliver(provider)
    assert not video.warnings
    assert bench.posts == 1


@providers
async def test_a_download_that_is_cut_again_and_again_goes_on_where_it_was(bench: Bench, provider):
    bench.sandbox.fault("result", "truncate", times=4, fraction=0.3)
    (video,) = await bench.deliver(provider)
    assert not video.warnings
    results = bench.asked("GET", "/results/", "/api/repos/")
    assert len(results) == 5
    assert all("range" in one.headers for one in results[1:])


async def test_what_was_mismatched_once_and_right_later_is_stored(bench: Bench):
    """The link gave half a file once; the next run reads it whole."""
    bench.sandbox.fault("result", "short", fraction=0.5)
    finished = await bench.finish()
    with pytest.raises(ResultMismatch):
        await engine.store(bench.context(), finished)
    (video,) = await engine.store(bench.context(), finished)
    assert not video.warnings
    assert (await bench.record()).state == "stored"
