"""The values: what names a piece of work, and what never leaves a process."""

import pickle
import random
from datetime import datetime, timezone
from decimal import Decimal

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_topaz.models import (
    Cost,
    JobStatus,
    MediaFacts,
    Order,
    Place,
    Receipt,
    Source,
    StoredVideo,
    UpscaleJob,
    work_key,
)
from prefect_topaz.outcomes import BatchItem, BatchReport, SettleItem, SettleReport
from prefect_topaz.providers.evolink import EvoLinkOptions
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.redaction import SignedUrl

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
SIGNED = "https://host/clip.mp4?X-Amz-Signature=CANARY"
FACTS = MediaFacts(
    width=640, height=360, fps=24.0, duration=2.0, has_audio=True, codec="h264", frames=48
)
SOURCE = Source(identity="sha256:1", label="https://host/clip.mp4", name="clip", media=FACTS)
NAMES = st.text(max_size=3)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NAMES
JSON = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(NAMES, PLAIN, max_size=3)
ASTRA = "topazlabs-astra-2-video"
PROTEUS = "topazlabs-proteus-video"
OXEN = [
    {},
    {"resolution": "1080p"},
    {"resolution": "2k"},
    {"target_fps": 24},
    {"target_fps": 23.976},
    {"interpolate_frames": True},
    {"interpolate_frames": False},
    {"num_generations": 2},
    {"model": ASTRA},
    {"model": ASTRA, "model_params": {"creativity": 0.75}},
    {"model": ASTRA, "model_params": {"prompt": "sharp"}},
    {"model": ASTRA, "model_params": {"prompt": "Sharp"}},
    {"model": PROTEUS},
    {"model": PROTEUS, "model_params": {"blur": 0.5}},
    {"model": PROTEUS, "model_params": {"noise": 0.5}},
]
ROUTING = [
    {"target_namespace": "team"},
    {"mode": "sync"},
    {"mode": "sync", "response_format": "b64_json"},
]


def shuffled(value):
    """The same JSON with every object's members in another order."""
    if isinstance(value, dict):
        names = random.sample(list(value), len(value))
        return {name: shuffled(value[name]) for name in names}
    return [shuffled(one) for one in value] if isinstance(value, list) else value


def order(**options):
    return Order(provider="oxen", model="m", label="4k", **options)


def stored(**fields):
    known = {
        "url": "s3://bucket/clip-4k.mp4",
        "receipt_url": "s3://bucket/clip-4k.mp4.json",
        "preview_url": None,
        "bytes": 12345,
        "sha256": "ab" * 32,
        "width": 3840,
        "height": 2160,
        "fps": 23.976,
        "duration": 2.0,
        "has_audio": True,
        "provider": "oxen",
        "job_id": "gen_1",
        "work_key": "cd" * 32,
        "cost": Cost(estimate=Decimal("0.2988"), charged=Decimal("0.30"), basis="a page"),
        "warnings": ("no sound",),
    }
    return StoredVideo(**{**known, **fields})


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_the_work_key_does_not_depend_on_the_order_of_members(options):
    mixed = order(options=shuffled(options))
    assert work_key("s", mixed) == work_key("s", order(options=options))


@given(st.lists(st.dictionaries(NAMES, JSON, max_size=3), min_size=2, max_size=2))
def test_other_options_are_other_work(pair):
    first, second = (work_key("s", order(options=options)) for options in pair)
    assert first != second or pair[0] == pair[1]


def test_every_option_that_changes_the_output_changes_the_work_key():
    orders = [OxenOptions(**options).order() for options in OXEN]
    orders += [EvoLinkOptions(upscale_factor=factor).order() for factor in (1, 2, 4)]
    assert len({work_key("s", one) for one in orders}) == len(OXEN) + 3


@pytest.mark.parametrize("routing", ROUTING)
def test_routing_does_not_change_the_work_key(routing):
    one, other = OxenOptions(**routing).order(), OxenOptions().order()
    assert one.routing != other.routing
    assert work_key("s", one) == work_key("s", other)


def test_a_callback_does_not_change_the_work_key():
    one = EvoLinkOptions(callback_url="https://host.example/hook").order()
    assert work_key("s", one) == work_key("s", EvoLinkOptions().order())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OxenOptions(target_fps=30), OxenOptions(target_fps=30.0)),
        (OxenOptions(resolution="4k"), OxenOptions()),
        (
            OxenOptions(model=PROTEUS, model_params={"blur": 1, "noise": -1}),
            OxenOptions(model=PROTEUS, model_params={"noise": -1.0, "blur": 1.0}),
        ),
        (OxenOptions(model=ASTRA, model_params={"creativity": 0.5}), OxenOptions(model=ASTRA)),
        (EvoLinkOptions(upscale_factor="2"), EvoLinkOptions(upscale_factor=2.0)),
        (EvoLinkOptions(upscale_factor=2), EvoLinkOptions()),
    ],
)
def test_one_order_written_in_two_ways_is_one_work(one, other):
    assert work_key("s", one.order()) == work_key("s", other.order())


def test_source_realm_and_a_wish_to_buy_again_make_other_work():
    work = order()
    keys = {
        work_key("s", work),
        work_key("t", work),
        work_key("s", work, realm="loopback"),
        work_key("s", work, realm="https://other.example"),
        work_key("s", work, again=1),
        work_key("s", work, again=2),
        work_key("s", work.model_copy(update={"provider": "evolink"})),
        work_key("s", work.model_copy(update={"model": "n"})),
    }
    assert len(keys) == 8


def test_the_work_key_is_pinned():
    """A changed key buys everything again: change this value only with the key's `version`."""
    pinned = "d49862a1a2a31fae59b08b7e4be8748d92d1ebbceb00698ad6d3ef89779e3406"
    assert work_key("sha256:1", order(options={"target_fps": 24, "resolution": "4k"})) == pinned


def test_a_stored_video_reads_back_from_its_receipt():
    video = stored(others=(stored(job_id="gen_2"),))
    receipt = Receipt(
        **video.model_dump(),
        source=SOURCE,
        order=OxenOptions().order(),
        submitted_at=NOON,
        stored_at=NOON,
        flow_run_id="run-1",
    )
    text = receipt.model_dump_json(indent=2)
    assert StoredVideo.model_validate_json(text) == video
    assert Receipt.model_validate_json(text) == receipt
    assert '"0.2988"' in text


def test_a_receipt_of_a_later_version_is_still_read():
    text = stored().model_dump_json()[:-1] + ', "colour": "invented later"}'
    assert StoredVideo.model_validate_json(text) == stored()


@pytest.mark.parametrize(
    "value",
    [
        Order(provider="evolink", model="m", label="2x", callback_url=SignedUrl(SIGNED)),
        JobStatus(job_id="1", phase="succeeded", word="ok", results=(SignedUrl(SIGNED),)),
        Place(url="s3://bucket/", block="minio", options={"secret": "CANARY"}),
        UpscaleJob(
            provider="oxen",
            work_key="k",
            job_ids=("1",),
            order=order(callback_url=SignedUrl(SIGNED)),
            source=SOURCE,
            journal=Place(url="s3://bucket/.topaz", options={"key": "CANARY"}),
            destination=Place(url="s3://bucket/", options={"key": "CANARY"}),
            submitted_at=NOON,
        ),
    ],
)
def test_nothing_secret_is_ever_shown_or_kept(value):
    shown = [
        repr(value),
        str(value),
        value.model_dump_json(),
        str(value.model_dump()),
        pickle.dumps(value).decode("latin-1"),
        cloudpickle.dumps(value).decode("latin-1"),
    ]
    assert not [text for text in shown if "CANARY" in text]


def test_a_place_keeps_its_settings_in_copies_of_its_own_process():
    place = Place(url="s3://bucket/", options={"key": "k"})
    assert place.model_copy(update={"url": "s3://bucket/x"}).options == {"key": "k"}
    read = pickle.loads(pickle.dumps(place))
    assert (read.url, read.options) == (place.url, {})


def test_values_are_frozen():
    with pytest.raises(ValidationError):
        SOURCE.identity = "other"


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (Cost(), "unknown"),
        (Cost(estimate=Decimal("1.5")), "$1.5 (estimated)"),
        (Cost(unit="credits", estimate=Decimal(1), reserved=Decimal(3)), "3 credits (reserved)"),
        (Cost(reserved=Decimal(3), charged=Decimal(0)), "$0 (charged)"),
    ],
)
def test_a_cost_says_the_best_known_figure(cost, text):
    assert str(cost) == text


@pytest.mark.parametrize(
    ("phase", "results", "is_final"),
    [
        ("queued", (), False),
        ("processing", (), False),
        ("unknown", (), False),
        ("succeeded", (), False),
        ("succeeded", (SignedUrl(SIGNED),), True),
        ("failed", (), True),
        ("cancelled", (), True),
    ],
)
def test_a_success_without_its_result_is_not_the_end(phase, results, is_final):
    status = JobStatus(job_id="1", phase=phase, word="w", results=results)
    assert status.is_final is is_final


def test_what_is_expected_of_a_result_follows_the_order():
    wish = order(factor=2, resolution="4k", fps=24).expected(FACTS)
    assert (wish.source, wish.factor, wish.resolution, wish.fps) == (FACTS, 2, "4k", 24)


def test_reports_tell_their_items_apart():
    good, bad = BatchItem(source="a", video=stored()), BatchItem(source="b", error="no")
    report = BatchReport(items=(good, bad))
    assert (report.stored, report.failed) == ((stored(),), (bad,))
    open_item = SettleItem(work_key="k", source="a", state="undecided")
    settled = SettleReport(items=(open_item, SettleItem(work_key="l", source="b", state="stored")))
    assert settled.undecided == (open_item,)
