"""Oxen's Topaz video models: parameters, prices, and the checks that a running model makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_URI = {"type": "string", "format": "uri"}
_BOOLEAN = {"type": "boolean", "default": False}
# [O4][O12] the generated pages list these; [seed] says 1 to 60 for Starlight.
_RATES: tuple[float, ...] = (24, 23.976, 25, 29.97, 30, 50, 59.94, 60)
_ENUM_FPS = {"type": "number", "enum": list(_RATES), "default": 30}
_SEED_FPS = {"type": "number", "minimum": 1, "maximum": 60, "default": 24}


def _choice(*words: str, default: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words), "default": default}


def _number(low: float, high: float, default: float) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, "default": default}


# [O12] proteus, rhea and iris share their parameters.
_ENHANCER = {
    "input_video": _URI,
    "resolution": _choice("720p", "1080p", "2k", "4k", default="1080p"),
    "interpolate_frames": _BOOLEAN,
    "target_fps": _ENUM_FPS,
    **{name: _number(-1, 1, 0) for name in ("blur", "compression", "details", "halo", "noise")},
    "grain": _number(0, 0.1, 0.05),
    "grain_type": _choice("silver_rich", "gaussian", "grey", default="silver_rich"),
}
_PROFILES = ("422 Proxy", "422 LT", "422 Std", "422 HQ")
_ENCODER = {
    "output_encoder": _choice("H265", "ProRes", default="H265"),
    "output_profile": _choice(*_PROFILES, default="422 HQ"),
}


@dataclass(frozen=True)
class Model:
    """One model: its name, and the JSON Schema of each parameter."""

    name: str
    parameters: Mapping[str, Mapping[str, Any]]
    required: tuple[str, ...] = ("input_video",)

    def fault_in(self, request: Mapping[str, Any]) -> str | None:
        """Give the error text of a running model for bad parameters, or None.

        Args:
            request: A request body; what the model does not know is ignored.
        """
        if any(request.get(name) in (None, "") for name in self.required):
            return "Field required"  # [seed]
        for name, schema in self.parameters.items():
            value = request.get(name)
            if value is not None and not _fits(value, schema):
                return _complaint(name, schema)
        return None

    def resolution(self, request: Mapping[str, Any]) -> str | None:
        """Give the resolution that a request asks for, or None for a model without one.

        Args:
            request: A request body.
        """
        for name in ("resolution", "target_resolution"):
            if name in self.parameters:
                return str(request.get(name) or self.parameters[name]["default"])
        return None

    def rate(self, request: Mapping[str, Any]) -> Decimal:
        """Give the dollars for a second of output.

        Args:
            request: A request body.
        """
        # [seed] for Starlight; the other models' prices are [unknown] and taken to be the same.
        high = self.resolution(request) in {"2k", "4k"}
        return Decimal("0.1494") if high else Decimal("0.0374")

    def card(self) -> dict[str, Any]:
        """Give the model as the models endpoints show it."""
        # [O5][O6] field names; texts and times are the sandbox's own.
        return {
            "id": self.name,
            "object": "model",
            "created": 1_775_000_000,
            "owned_by": "topazlabs",
            "developer_name": "topazlabs",
            "provider_name": "sandbox",
            "display_name": self.name,
            "description": "Video upscaling (sandbox).",
            "summary": "Video upscaling (sandbox).",
            "model_type": "video",
            "endpoint": "/videos/generate",
            "capabilities": {"input": ["video"], "output": ["video"]},
            "pricing": {
                "method": "per_video_output_second",
                "cost_per_second": 0.0374,
                "cost_per_second_high_res": 0.1494,
            },
            "request_schema": {
                "type": "object",
                "required": list(self.required),
                "properties": {name: dict(schema) for name, schema in self.parameters.items()},
            },
            "released_at": None,
        }


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            "topazlabs-upscale-starlight-2-5-video",
            {
                "input_video": _URI,
                "resolution": _choice("1080p", "2k", "4k", default="4k"),  # [seed]
                "interpolate_frames": _BOOLEAN,  # [O4]
                "target_fps": _SEED_FPS,
            },
        ),
        Model(
            "topazlabs-video-upscale",
            {
                "input_video": _URI,
                "target_resolution": _choice("720p", "1080p", "4k", default="1080p"),
                "target_fps": _ENUM_FPS,
            },
        ),
        Model("topazlabs-proteus-video", _ENHANCER),
        Model("topazlabs-rhea-video", _ENHANCER),
        Model("topazlabs-iris-mq-video", _ENHANCER),
        Model(
            "topazlabs-astra-2-video",
            {
                "input_video": _URI,
                "creativity": _number(0, 1, 0.5),
                "resolution": _choice("1080p", "2k", "4k", default="4k"),
                "interpolate_frames": _BOOLEAN,
                "target_fps": _ENUM_FPS,
                "sharp": _number(0, 1, 0.5),
                "prompt": {"type": "string"},
            },
            # [O12] marks `creativity` as required although it has a default.
            required=("input_video", "creativity"),
        ),
        Model(
            "topazlabs-hyperion-hdr-video",
            {
                "input_video": _URI,
                "transfer_function": _choice("pq", "hlg", default="hlg"),
                "adjust_exposure": _number(0, 1, 0.5),
                "boost_saturation": _number(0, 1, 0.5),
                "highlight_threshold": _number(0.45, 0.85, 0.65),
                **_ENCODER,
            },
        ),
        Model("topazlabs-hyperion-2-video", {"input_video": _URI, **_ENCODER}),
    )
}


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    if schema["type"] == "string":
        return isinstance(value, str) and value in schema.get("enum", [value])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if "enum" in schema:
        return value in schema["enum"]
    return bool(schema["minimum"] <= value <= schema["maximum"])


def _complaint(name: str, schema: Mapping[str, Any]) -> str:
    if name in {"resolution", "target_resolution"}:
        return "Invalid resolution"  # [seed]
    if name == "target_fps":
        return "target_fps must be between 1 and 60"  # [seed]
    if "minimum" in schema:
        return f"{name} must be between {schema['minimum']} and {schema['maximum']}"
    return f"Invalid {name}"
