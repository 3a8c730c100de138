"""A result that is not what was ordered gets no name, is kept, and is not bought again."""

from dataclasses import replace
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
    "another": ("job", "wrong_video", {"what": "another"}, "something else than the source"),
    "black": ("job", "wrong_video", {"what": "black"}, "it is black"),
    "frozen": ("job", "wrong_video", {"what": "frozen"}, "it is frozen"),
    "shifted": ("job", "wrong_video", {"what": "shifted"}, "it is shifted in time"),
    "no video": ("result", "short", {"fraction": 0.0002, "times": 9}, "it is not a video"),
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
    """A clip long enough for half of it to be missed, and large enough for its motion to show."""
    bench.clip = make_clip(bench.folder / "clip.mp4", seconds=2, size=(160, 90), fps=10)
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
    (kept,) = (bench.folder / "out/.topaz" / error.work_key).glob("rejected-*.mp4")
    assert str(kept) in str(error)
    assert kept.stat().st_size > 0
    if how != "no video":
        assert Path(f"{kept}.jpg").read_bytes().startswith(b"\xff\xd8")


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
    (kept,) = (bench.folder / "journal" / caught.value.work_key).glob("rejected-*.mp4")
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
    with pytest.raises(ResultMismatch):
        await bench.deliver()
    (video,) = await bench.deliver()
    assert not video.warnings
    assert (await bench.record()).state == "stored"


@pytest.mark.parametrize("verify", ["standard", "strict"])
@pytest.mark.parametrize(
    "clip",
    [
        {"size": (64, 36), "fps": 5},
        {"size": (36, 64), "fps": 25},
        {"size": (320, 180), "fps": 23.976},
        {"size": (160, 120), "fps": 60, "seconds": 0.2},
    ],
)
@providers
async def test_what_was_ordered_passes_without_a_word(bench: Bench, provider, clip, verify):
    bench.clip = make_clip(bench.folder / "own.mp4", **{"seconds": 1, **clip})
    (video,) = await bench.deliver(provider, store={"verify": verify})
    assert video.warnings == ()


async def test_a_source_that_is_not_at_hand_is_a_warning(bench: Bench):
    """A settlement knows the job, and nobody may know where its source is."""
    bench.sandbox.fault("job", "wrong_video", what="black")
    (video,) = await engine.store(bench.context(), await bench.finish(), verify="strict")
    assert video.warnings == ("the pictures were not compared with the source: it is not at hand",)


@pytest.mark.parametrize("changed", ["identity", "media"])
async def test_a_source_that_changed_proves_nothing(bench: Bench, changed):
    """It may be overwritten while the job runs; then the result is right all the same."""
    finished = await bench.finish()
    source = (await bench.purchase()).source
    other = {"identity": "another#1", "media": source.facts.media.model_copy(update={"frames": 7})}
    facts = source.facts.model_copy(update={changed: other[changed]})
    later = replace(source, facts=facts)
    (video,) = await engine.store(bench.context(), finished, source=later, verify="strict")
    (warning,) = video.warnings
    assert warning.endswith(
        "not compared with the source: it was changed since the job was submitted"
    )


async def test_a_source_opened_by_its_known_identity_is_compared(bench: Bench):
    bench.sandbox.fault("job", "wrong_video", what="black")
    finished = await bench.finish()
    source = (await bench.purchase()).source
    identity = f"somewhere#{source.facts.identity}"
    again = replace(source, facts=source.facts.model_copy(update={"identity": identity}))
    with pytest.raises(ResultMismatch, match="it is black"):
        await engine.store(bench.context(), finished, source=again)
