"""The Topaz models at Oxen.ai: their parameters, ranges and prices (docs/providers.md, 1.13-14)."""

from decimal import Decimal

import pytest

from prefect_topaz.errors import InvalidRequest
from prefect_topaz.models import MediaFacts
from prefect_topaz.providers.oxen import OxenOptions, Provider
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox.oxen_models import MODELS as VENDORS
from tests.providers.samples import SOURCE

STARLIGHT = "topazlabs-upscale-starlight-2-5-video"
RESTORING = ["topazlabs-proteus-video", "topazlabs-rhea-video", "topazlabs-iris-mq-video"]
ASTRA, HDR, HYPERION = (
    f"topazlabs-{name}-video" for name in ("astra-2", "hyperion-hdr", "hyperion-2")
)
PLAIN = "topazlabs-video-upscale"
EVERY = [STARLIGHT, PLAIN, *RESTORING, ASTRA, HDR, HYPERION]

RESOLUTIONS = {
    STARLIGHT: ("1080p", "2k", "4k"),
    PLAIN: ("720p", "1080p", "4k"),
    **dict.fromkeys(RESTORING, ("720p", "1080p", "2k", "4k")),
    ASTRA: ("1080p", "2k", "4k"),
    HDR: (),
    HYPERION: (),
}
DEFAULTS = {STARLIGHT: "4k", ASTRA: "4k", PLAIN: "1080p", **dict.fromkeys(RESTORING, "1080p")}
RATES = [23.976, 24, 25, 29.97, 30, 50, 59.94, 60]
PROFILES = ["422 Proxy", "422 LT", "422 Std", "422 HQ"]

# model, parameter, values that are allowed, values that are not
PARAMETERS = [
    *[
        (model, name, [-1, -0.5, 0, 1], [-1.01, 1.01, "0", None, True])
        for model in RESTORING
        for name in ("blur", "compression", "details", "halo", "noise")
    ],
    *[(model, "grain", [0, 0.05, 0.1], [-0.01, 0.11, 1]) for model in RESTORING],
    *[
        (model, "grain_type", ["silver_rich", "gaussian", "grey"], ["red", "", 1])
        for model in RESTORING
    ],
    (ASTRA, "creativity", [0, 0.5, 1], [-0.1, 1.1]),
    (ASTRA, "sharp", [0, 1], [-0.1, 2]),
    (ASTRA, "prompt", ["sharper"], [1, None]),
    (HDR, "transfer_function", ["pq", "hlg"], ["sdr"]),
    (HDR, "adjust_exposure", [0, 1], [-0.1, 1.1]),
    (HDR, "boost_saturation", [0, 1], [-0.1, 1.1]),
    (HDR, "highlight_threshold", [0.45, 0.65, 0.85], [0.44, 0.86]),
    (HDR, "output_encoder", ["H265", "ProRes"], ["H264"]),
    (HDR, "output_profile", PROFILES, ["4444"]),
    (HYPERION, "output_encoder", ["H265", "ProRes"], ["H264"]),
    (HYPERION, "output_profile", PROFILES, ["4444"]),
]


def body(**options) -> dict:
    call = Provider().submit(OxenOptions(**options).order(), SignedUrl(SOURCE), "key")
    return dict(call.json)


def fits(sent: dict) -> None:
    """Hold a body against the schema that the sandbox's author read in the same documents."""
    assert VENDORS[sent["model"]].fault_in(sent) is None, sent


def test_the_models_are_those_of_the_documents():
    with pytest.raises(InvalidRequest) as caught:
        OxenOptions(model="x").order()
    assert sorted(EVERY) == str(caught.value).partition("allowed: ")[2].split(" [")[0].split(", ")
    assert set(VENDORS) == set(EVERY)


@pytest.mark.parametrize("model", EVERY)
def test_every_model_can_be_ordered_as_it_is(model):
    sent = body(model=model)
    fits(sent)
    field = "target_resolution" if model == PLAIN else "resolution"
    assert sent.get(field) == DEFAULTS.get(model)
    assert not {"target_fps", "interpolate_frames", "prompt"} & sent.keys()


@pytest.mark.parametrize("model", EVERY)
def test_every_model_takes_its_resolutions_and_no_other(model):
    for resolution in ("720p", "1080p", "2k", "4k", "8k", ""):
        if resolution in RESOLUTIONS[model]:
            fits(body(model=model, resolution=resolution))
        else:
            with pytest.raises(InvalidRequest, match="resolution"):
                body(model=model, resolution=resolution)


@pytest.mark.parametrize("model", EVERY)
def test_every_model_takes_its_frame_rates_and_no_other(model):
    for rate in [*RATES, 1, 12, 59.5]:
        known = model in RESOLUTIONS and bool(RESOLUTIONS[model])
        if known and (rate in RATES or model == STARLIGHT):
            sent = body(model=model, target_fps=rate)
            assert sent["target_fps"] == rate
            fits(sent)
        else:
            with pytest.raises(InvalidRequest, match="target_fps"):
                body(model=model, target_fps=rate)


@pytest.mark.parametrize("model", EVERY)
def test_interpolation_is_for_the_models_that_document_it(model):
    if model in (PLAIN, HDR, HYPERION):
        with pytest.raises(InvalidRequest, match="interpolate_frames True"):
            body(model=model, interpolate_frames=True)
    else:
        assert body(model=model, interpolate_frames=False)["interpolate_frames"] is False
        fits(body(model=model, interpolate_frames=True))


@pytest.mark.parametrize(("model", "name", "good", "bad"), PARAMETERS)
def test_every_parameter_has_its_range(model, name, good, bad):
    for value in good:
        sent = body(model=model, model_params={name: value})
        assert sent[name] == value
        fits(sent)
    for value in [*bad, float("nan")]:
        with pytest.raises(InvalidRequest, match=f"model_params.*{name}") as caught:
            body(model=model, model_params={name: value})
        assert f"{value!r}" in str(caught.value)


@pytest.mark.parametrize("model", EVERY)
def test_a_parameter_of_another_model_is_refused(model):
    with pytest.raises(InvalidRequest, match=r"allowed: .* with"):
        body(model=model, model_params={"num_generations": 4})


def test_what_a_model_requires_is_sent_although_it_has_a_default():
    assert body(model=ASTRA)["creativity"] == 0.5
    assert body(model=ASTRA, model_params={"creativity": 0.2})["creativity"] == 0.2


@pytest.mark.parametrize(("rate", "sent"), [(30, 30), (30.0, 30), (29.97, 29.97), (1, 1), (60, 60)])
def test_one_frame_rate_is_one_order(rate, sent):
    found = body(target_fps=rate)["target_fps"]
    assert (found, type(found)) == (sent, type(sent))


def test_names_tell_orders_apart():
    labels = [
        OxenOptions(**options).order().label
        for options in ({}, {"resolution": "1080p"}, {"target_fps": 60}, {"model": HYPERION})
    ]
    assert labels == ["4k", "1080p", "4k-60fps", "hyperion-2"]


def test_wrong_types_are_refused_too():
    for options in ({"num_generations": "2"}, {"num_generations": True}, {"colour": "red"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            OxenOptions(**options)


TEN_MINUTES = MediaFacts(
    width=640, height=360, fps=24, duration=600.0, has_audio=True, codec="h264", frames=None
)


@pytest.mark.parametrize(
    ("options", "price"),
    [
        ({}, "89.64"),
        ({"resolution": "2k"}, "89.64"),
        ({"resolution": "1080p"}, "22.44"),
        ({"num_generations": 3}, "268.92"),
        ({"target_fps": 60}, "89.64"),
        ({"interpolate_frames": False}, "89.64"),
        ({"interpolate_frames": True}, None),
        ({"model": PLAIN, "resolution": "4k"}, None),
        ({"model": HYPERION}, None),
    ],
)
def test_ten_minutes_cost_what_the_vendors_table_says(options, price):
    cost = Provider().estimate(OxenOptions(**options).order(), TEN_MINUTES)
    assert cost.estimate == (None if price is None else Decimal(price))
    assert cost.unit == "USD"
    assert ("docs.oxen.ai" in cost.basis) == (price is not None)
