"""Settings of the integration, read from `PREFECT_INTEGRATIONS_TOPAZ_*`."""

from __future__ import annotations

from prefect.settings import get_current_settings
from prefect.settings.base import PrefectBaseSettings, build_settings_config
from pydantic import Field


def _default_destination() -> str:
    return f"{get_current_settings().home / 'topaz'}/"


class TopazSettings(PrefectBaseSettings):
    """What holds where a call does not say otherwise."""

    model_config = build_settings_config(("integrations", "topaz"))

    destination: str = Field(
        default_factory=_default_destination,
        description="Where `upscaler.trigger(source)` keeps its journal and stores its results.",
    )
