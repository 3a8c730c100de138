"""The blocks that say what is ordered, saved as presets; and all blocks of this package by name."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from prefect.blocks.abstract import JobBlock
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, model_validator
from typing_extensions import Self

from prefect_topaz.bridge import run_blocking
from prefect_topaz.client import Client
from prefect_topaz.credentials import EvoLinkCredentials, OxenCredentials
from prefect_topaz.locations import HOME, LOGO, Destination, StorageLocation, refuse_unknown
from prefect_topaz.models import Order, StoredVideo
from prefect_topaz.providers.evolink import EvoLinkOptions, check_factor
from prefect_topaz.providers.oxen import OxenOptions

__all__ = [
    "AnyUpscaler",
    "EvoLinkCredentials",
    "EvoLinkUpscaler",
    "OxenCredentials",
    "OxenUpscaler",
    "StorageLocation",
]

if TYPE_CHECKING:
    from prefect_topaz.runs import SourceLike, UpscaleRun


class _Upscaler(JobBlock[StoredVideo]):
    """A preset of a provider's options. Private: the concrete blocks are what users save."""

    model_config = ConfigDict(hide_input_in_errors=True)

    _logo_url = LOGO
    _documentation_url = HttpUrl(f"{HOME}#readme")

    credentials: Any

    @abstractmethod
    def order(self) -> Order:
        """Check the options and give the order that they stand for."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        return refuse_unknown(cls, values)

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        self.order()
        return self

    def get_client(self) -> Client:
        """Give the provider's client."""
        client: Client = self.credentials.get_client()
        return client

    async def atrigger(
        self, source: SourceLike, destination: Destination | None = None, **options: Any
    ) -> UpscaleRun:
        """Buy an upscale, or find that it is bought.

        Args:
            source: An http(s) URL, the path of a local file, the fsspec URL of a file on a store,
                or a path inside `source_storage`.
            destination: Where the journal is and the result goes; None for the setting
                `PREFECT_INTEGRATIONS_TOPAZ_DESTINATION`.
            **options: As `prefect_topaz.submit_upscale` takes them.
        """
        # Every Prefect process that loads collections imports this module; the engine and PyAV are
        # for those who upscale.
        from prefect_topaz.runs import UpscaleRun, submit  # noqa: PLC0415  # see above
        from prefect_topaz.settings import TopazSettings  # noqa: PLC0415  # see above

        place = TopazSettings().destination if destination is None else destination
        job = await submit(source, self, place, **options)
        return UpscaleRun(
            job,
            self,
            source,
            overwrite=bool(options.get("overwrite")),
            source_storage=options.get("source_storage"),
        )

    def trigger(  # type: ignore[override]  # Prefect's integrations offer both colours
        self, source: SourceLike, destination: Destination | None = None, **options: Any
    ) -> UpscaleRun:
        """Buy an upscale, or find that it is bought; see `atrigger`."""
        return run_blocking(self.atrigger(source, destination, **options))


class OxenUpscaler(_Upscaler):
    """A saved preset of an upscale at Oxen.ai.

    Attributes:
        credentials: Who pays.
        model: The Topaz model.
        resolution: Named frame size.
        target_fps: Frames per second of the result.
        interpolate_frames: Whether new frames are made.
        num_generations: How many results; each is billed.
        target_namespace: Whose account stores and pays.
        mode: The queue, or the endpoint that blocks.
        response_format: How the blocking endpoint answers.
        model_params: The model's further parameters.

    Example:
        Load a saved block and upscale a video:

        ```python
        from prefect_topaz import OxenUpscaler, upscale_video

        upscaler = OxenUpscaler.load("BLOCK_NAME")
        upscale_video("https://example.com/clip.mp4", "s3://bucket/upscaled/", upscaler)
        ```
    """

    _block_type_name = "Oxen.ai Topaz Upscaler"
    _block_type_slug = "oxen-topaz-upscaler"

    credentials: OxenCredentials = Field(description="The account that pays.")
    model: str = Field(
        default=OxenOptions.model_fields["model"].default,
        description="The Topaz video model, by Oxen.ai's name.",
    )
    resolution: Literal["720p", "1080p", "2k", "4k"] | None = Field(
        default=None,
        description="Frame size of the result; empty for the model's own default (4k, mostly).",
    )
    target_fps: float | None = Field(
        default=None,
        ge=1,
        le=60,
        title="Target FPS",
        description="Frames per second of the result, 1 to 60; empty to leave it to the model.",
    )
    interpolate_frames: bool | None = Field(
        default=None,
        description="Whether new frames are made for a higher rate, at a higher price.",
    )
    num_generations: int = Field(
        default=1, ge=1, le=4, description="How many results, 1 to 4; each is billed."
    )
    target_namespace: str | None = Field(
        default=None,
        description="User or organization that stores and pays; empty for the key's own.",
    )
    mode: Literal["queue", "sync"] = Field(
        default="queue",
        description="The queue, or (sync) the endpoint that blocks until the video is there.",
    )
    response_format: Literal["url", "b64_json"] = Field(
        default="url",
        description="With mode sync: a link, or the video inside the answer.",
    )
    model_params: dict[str, Any] = Field(
        default_factory=dict,
        description="The model's further parameters, such as noise or grain for Proteus.",
    )

    def order(self) -> Order:
        """Check the options and give the order that they stand for."""
        return OxenOptions(**_options(self, OxenOptions)).order()


class EvoLinkUpscaler(_Upscaler):
    """A saved preset of an upscale at EvoLink.

    Attributes:
        credentials: Who pays.
        upscale_factor: Frame size of the result over the source's.
        callback_url: Where EvoLink tells that it is done.
        resend_unknown: Whether an order whose answer is lost is sent once more, with one key.

    Example:
        Load a saved block and upscale a video:

        ```python
        from prefect_topaz import EvoLinkUpscaler, upscale_video

        upscaler = EvoLinkUpscaler.load("BLOCK_NAME")
        upscale_video("clip.mp4", "upscaled/", upscaler)
        ```
    """

    _block_type_name = "EvoLink Topaz Upscaler"
    _block_type_slug = "evolink-topaz-upscaler"

    credentials: EvoLinkCredentials = Field(description="The account that pays.")
    upscale_factor: Literal["1", "2", "4"] = Field(
        default="2", description="Frame size of the result over the source's; 1 enhances only."
    )
    callback_url: SecretStr | None = Field(
        default=None,
        title="Callback URL",
        description="Public https URL that EvoLink tells when the task ends; a hint only. It is kept"
        " secret, since a token in it is all that shows who calls.",
    )
    resend_unknown: bool = Field(
        default=False,
        title="Resend if the answer is lost",
        description="Send an order once more with the same idempotency key if its answer is lost, as"
        " EvoLink's own client does, instead of asking you. EvoLink documents no keys for the API:"
        " if it does not heed them, the second request is a second task, and both are charged.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_numbers(cls, values: Any) -> Any:
        """Take the factor as a number too, as the vendor does."""
        factor = values.get("upscale_factor") if isinstance(values, dict) else None
        if factor is None or isinstance(factor, str):
            return values
        return {**values, "upscale_factor": check_factor(factor)}

    def order(self) -> Order:
        """Check the options and give the order that they stand for."""
        return EvoLinkOptions(**_options(self, EvoLinkOptions)).order()


def _options(block: _Upscaler, options: type[Any]) -> dict[str, Any]:
    values = {name: getattr(block, name) for name in options.model_fields}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
    }


# What flows take as an upscaler: the UI shows a tab for each member.
AnyUpscaler = OxenUpscaler | EvoLinkUpscaler
