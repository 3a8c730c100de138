"""The Topaz video models at Oxen.ai and their parameters, checked here.

The queue checks no model parameter: a wrong one is accepted, and fails later [O1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from pydantic import ConfigDict, Field

from prefect_topaz.errors import InvalidRequest
from prefect_topaz.models import Frozen, Order

DEFAULT_MODEL = "topazlabs-upscale-starlight-2-5-video"
MAX_GENERATIONS = 4  # [seed]; another page says 12 [O6], and the smaller is safe


@dataclass(frozen=True)
class _Range:
    low: float
    high: float

    def allows(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class _Choice:
    values: tuple[str, ...]

    def allows(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(repr(value) for value in self.values)


@dataclass(frozen=True)
class _Numbers:
    values: tuple[float, ...]

    def allows(self, value: Any) -> bool:
        return not isinstance(value, bool) and value in self.values

    def __str__(self) -> str:
        return ", ".join(f"{value:g}" for value in self.values)


@dataclass(frozen=True)
class _Text:
    def allows(self, value: Any) -> bool:
        return isinstance(value, str)

    def __str__(self) -> str:
        return "a text"


@dataclass(frozen=True)
class _Model:
    resolutions: tuple[str, ...] = ()
    default_resolution: str | None = None
    resolution_field: str = "resolution"
    frame_rates: _Range | _Numbers | None = None
    interpolation: bool = True
    parameters: Mapping[str, _Range | _Choice | _Text] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)


# The first model's page says 1 to 60 [seed], a newer one these eight for it too [O4]: what either
# allows is let through for it; of the others only the eight are known [O12].
_ANY_RATE = _Range(1, 60)
_RATES = _Numbers((23.976, 24, 25, 29.97, 30, 50, 59.94, 60))
_STANDARD = ("720p", "1080p", "2k", "4k")
_RESTORATION = _Model(
    _STANDARD,
    "1080p",
    frame_rates=_RATES,
    parameters={
        **{name: _Range(-1, 1) for name in ("blur", "compression", "details", "halo", "noise")},
        "grain": _Range(0, 0.1),
        "grain_type": _Choice(("silver_rich", "gaussian", "grey")),
    },
)
_PROFILES = ("422 Proxy", "422 LT", "422 Std", "422 HQ")
_ENCODERS = {
    "output_encoder": _Choice(("H265", "ProRes")),
    "output_profile": _Choice(_PROFILES),
}

# [seed] for the first, [O12] for the others.
MODELS: dict[str, _Model] = {
    DEFAULT_MODEL: _Model(("1080p", "2k", "4k"), "4k", frame_rates=_ANY_RATE),
    "topazlabs-video-upscale": _Model(
        ("720p", "1080p", "4k"), "1080p", "target_resolution", _RATES, interpolation=False
    ),
    "topazlabs-proteus-video": _RESTORATION,
    "topazlabs-rhea-video": _RESTORATION,
    "topazlabs-iris-mq-video": _RESTORATION,
    "topazlabs-astra-2-video": _Model(
        ("1080p", "2k", "4k"),
        "4k",
        frame_rates=_RATES,
        parameters={"creativity": _Range(0, 1), "sharp": _Range(0, 1), "prompt": _Text()},
        required={"creativity": 0.5},
    ),
    "topazlabs-hyperion-hdr-video": _Model(
        interpolation=False,
        parameters={
            "transfer_function": _Choice(("pq", "hlg")),
            "adjust_exposure": _Range(0, 1),
            "boost_saturation": _Range(0, 1),
            "highlight_threshold": _Range(0.45, 0.85),
            **_ENCODERS,
        },
    ),
    "topazlabs-hyperion-2-video": _Model(interpolation=False, parameters=_ENCODERS),
}


class OxenOptions(Frozen):
    """What a user orders from Oxen.ai, checked before any request.

    Args:
        model: One of the `topazlabs-*` video models.
        resolution: Named frame size; None takes the model's documented default.
        target_fps: Frames per second of the result, 1 to 60; sent only when set.
        interpolate_frames: Whether new frames are made for a higher rate; sent only when set.
        num_generations: How many results, 1 to 4; each is billed.
        target_namespace: Whose account stores and pays; None for the key's own.
        mode: `queue`, or `sync` for the endpoint that blocks until the video is there.
        response_format: Of the blocking endpoint only: a link, or the video in the answer.
        model_params: The model's further parameters by their documented names.

    Raises:
        InvalidRequest: If a value is not allowed; says which are. Nothing was sent or billed.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = DEFAULT_MODEL
    resolution: str | None = None
    target_fps: int | float | None = None
    interpolate_frames: bool | None = None
    num_generations: int = 1
    target_namespace: str | None = None
    mode: Literal["queue", "sync"] = "queue"
    response_format: Literal["url", "b64_json"] = "url"
    model_params: dict[str, Any] = Field(default_factory=dict)

    def order(self) -> Order:
        """Check the options and normalise them into an order."""
        model = MODELS.get(self.model)
        if model is None:
            _refuse("model", self.model, ", ".join(sorted(MODELS)))
        options = {**model.required, **self._frame(model), **self._parameters(model)}
        if not 1 <= self.num_generations <= MAX_GENERATIONS:
            _refuse("num_generations", self.num_generations, f"1 to {MAX_GENERATIONS}")
        if self.mode == "sync" and self.num_generations != 1:
            _refuse("num_generations", self.num_generations, "1 with mode='sync'")
        if self.mode == "queue" and self.response_format != "url":
            _refuse("response_format", self.response_format, "'url' with mode='queue'")
        routing = {"mode": self.mode, "target_namespace": self.target_namespace}
        if self.mode == "sync":
            routing["response_format"] = self.response_format
        resolution = self.resolution or model.default_resolution
        return Order(
            provider="oxen",
            model=self.model,
            options=options,
            routing=routing,
            generations=self.num_generations,
            blocking=self.mode == "sync",
            label=self._label(resolution),
            resolution=resolution,
            fps=self.target_fps,
        )

    def _label(self, resolution: str | None) -> str:
        size = resolution or self.model.removeprefix("topazlabs-").removesuffix("-video")
        return size if self.target_fps is None else f"{size}-{self.target_fps:g}fps"

    def _frame(self, model: _Model) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.resolution is not None and self.resolution not in model.resolutions:
            allowed = ", ".join(model.resolutions) or f"none: {self.model} takes no resolution"
            _refuse("resolution", self.resolution, allowed)
        if resolution := self.resolution or model.default_resolution:
            # Sent although it is the default: the vendor's defaults have changed before [O4].
            options[model.resolution_field] = resolution
        if self.target_fps is not None:
            if model.frame_rates is None:
                _refuse("target_fps", self.target_fps, f"none: {self.model} takes no frame rate")
            if not model.frame_rates.allows(self.target_fps):
                _refuse("target_fps", self.target_fps, str(model.frame_rates))
            options["target_fps"] = _plain(self.target_fps)
        if self.interpolate_frames is not None:
            if not model.interpolation:
                _refuse("interpolate_frames", self.interpolate_frames, "none for this model")
            options["interpolate_frames"] = self.interpolate_frames
        return options

    def _parameters(self, model: _Model) -> dict[str, Any]:
        for name, value in self.model_params.items():
            rule = model.parameters.get(name)
            if rule is None:
                allowed = ", ".join(sorted(model.parameters)) or "none"
                _refuse("model_params", name, f"{allowed} with {self.model}")
            if not rule.allows(value):
                _refuse(f"model_params[{name!r}]", value, str(rule))
        return {name: _plain(value) for name, value in self.model_params.items()}


def _plain(value: Any) -> Any:
    """Write 30.0 as 30: they are one order, so they must be one work key."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse(name: str, value: Any, allowed: str) -> NoReturn:
    raise InvalidRequest(f"{name} {value!r} is not allowed; allowed: {allowed}")
