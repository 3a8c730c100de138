"""What the Prefect UI makes its forms of: descriptions, bounds and defaults of our flows."""

from __future__ import annotations

import inspect

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from prefect_topaz import (
    EvoLinkCredentials,
    EvoLinkUpscaler,
    OxenCredentials,
    OxenUpscaler,
    asettle_upscales,
    aupscale_video,
    aupscale_videos,
    settle_upscales,
    upscale_video,
    upscale_videos,
)

PAIRS = [
    (aupscale_video, upscale_video),
    (aupscale_videos, upscale_videos),
    (asettle_upscales, settle_upscales),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_both_colours_of_a_flow_are_flows_with_one_form(pair: tuple[Flow, Flow]) -> None:
    dark, light = pair
    assert dark.name == light.name
    assert inspect.signature(dark.fn) == inspect.signature(light.fn)
    assert parameter_schema(dark.fn) == parameter_schema(light.fn)
    assert dark.fn.__doc__ == light.fn.__doc__


@pytest.mark.parametrize("pair", PAIRS)
def test_every_parameter_is_described(pair: tuple[Flow, Flow]) -> None:
    for name, schema in parameter_schema(pair[0].fn).properties.items():
        assert schema.get("description"), name


def test_numbers_have_their_bounds() -> None:
    one = parameter_schema(upscale_video.fn).properties
    assert one["again"]["minimum"] == 0
    assert one["deadline_seconds"]["exclusiveMinimum"] == 0
    for name in ("max_cost", "poll_seconds"):
        assert {"exclusiveMinimum": 0, "type": "number"} in one[name]["anyOf"]
    assert one["verify"]["enum"] == ["standard", "strict", "off"]
    many = parameter_schema(upscale_videos.fn).properties
    for form in (one, many):
        assert (form["attempts"]["minimum"], form["attempts"]["maximum"]) == (1, 10)
        assert form["attempts"]["default"] == 1
    assert (many["max_in_flight"]["minimum"], many["max_in_flight"]["maximum"]) == (1, 1000)


def test_the_upscaler_is_one_of_both_blocks() -> None:
    schema = parameter_schema(upscale_video.fn)
    assert set(schema.required) == {"source", "destination", "upscaler"}
    slugs = {name: schema.definitions[name]["block_type_slug"] for name in schema.definitions}
    assert slugs["OxenUpscaler"] == "oxen-topaz-upscaler"
    assert slugs["EvoLinkUpscaler"] == "evolink-topaz-upscaler"
    assert len(schema.properties["upscaler"]["anyOf"]) == 2


def test_block_forms_have_bounds_choices_and_hidden_keys() -> None:
    oxen = OxenUpscaler.model_json_schema()["properties"]
    (rate,) = (one for one in oxen["target_fps"]["anyOf"] if one["type"] == "number")
    assert (rate["minimum"], rate["maximum"]) == (1, 60)
    assert (oxen["num_generations"]["minimum"], oxen["num_generations"]["maximum"]) == (1, 4)
    assert oxen["mode"]["enum"] == ["queue", "sync"]
    factor = EvoLinkUpscaler.model_json_schema()["properties"]["upscale_factor"]
    assert factor["enum"] == ["1", "2", "4"]
    resend = EvoLinkUpscaler.model_json_schema()["properties"]["resend_unknown"]
    assert (resend["type"], resend["default"]) == ("boolean", False)
    assert "both are charged" in resend["description"]
    assert "resend_unknown" not in oxen
    for block in (OxenCredentials, EvoLinkCredentials):
        schema = block.model_json_schema()
        assert schema["secret_fields"] == ["api_key"]
        assert schema["properties"]["api_key"]["format"] == "password"
