"""The blocks: who pays (credentials), and what is ordered (upscalers, saved as presets)."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from prefect.blocks.abstract import CredentialsBlock, JobBlock
from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, model_validator
from typing_extensions import Self

from prefect_topaz.bridge import run_blocking
from prefect_topaz.client import Client
from prefect_topaz.errors import InvalidRequest
from prefect_topaz.http import connections
from prefect_topaz.models import Order, StoredVideo
from prefect_topaz.providers.evolink import EvoLinkOptions, check_factor
from prefect_topaz.providers.evolink import Provider as EvoLink
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.providers.oxen import Provider as Oxen

if TYPE_CHECKING:
    from prefect_topaz.runs import Destination, SourceLike, UpscaleRun

_HOME = "https://github.com/prefect-topaz/prefect-topaz"
_LOGO = HttpUrl(f"{_HOME}/raw/main/docs/logo.png")


def _from_env(name: str, block: str) -> SecretStr:
    key = os.environ.get(name, "").strip()
    if not key:
        raise InvalidRequest(f"{name} is not set: set it to your API key to make a {block}")
    return SecretStr(key)


# What Prefect itself writes into a block's data.
_PREFECTS = {"block_type_slug", "_block_document_id", "_block_document_name", "_is_anonymous"}


def _refuse_unknown(block: type[Block], values: Any) -> Any:
    """Refuse misspelt fields: Prefect's blocks would ignore them, and order something else.

    It also keeps the values of one block from passing for another one of `AnyUpscaler`.
    """
    fields = set(block.model_fields)
    unknown = sorted(set(values) - fields - _PREFECTS) if isinstance(values, dict) else []
    if unknown:
        raise InvalidRequest(
            f"{block.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(fields))}"
        )
    return values


class _Credentials(CredentialsBlock):
    """A provider's key and address. Private: the concrete blocks are what users save."""

    # A wrong value is shown by name, never with what was given: it may be a key.
    model_config = ConfigDict(hide_input_in_errors=True)

    _logo_url = _LOGO
    _documentation_url = HttpUrl(f"{_HOME}#readme")

    api_key: SecretStr

    @abstractmethod
    def get_client(self) -> Client:
        """Give the provider's client."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        return _refuse_unknown(cls, values)

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        self.get_client()
        return self

    async def acheck(self) -> None:
        """Check the key with a call that costs nothing.

        Raises:
            Unauthorized: If the provider refuses the key.
        """
        async with connections():
            await self.get_client().check()

    def check(self) -> None:
        """Check the key with a call that costs nothing; see `acheck`."""
        run_blocking(self.acheck())


class OxenCredentials(_Credentials):
    """Key and address of an Oxen.ai account.

    Attributes:
        api_key: The key of the account that pays.
        base_url: The API's address.

    Example:
        Load a saved block and check the key, which costs nothing:

        ```python
        from prefect_topaz import OxenCredentials

        credentials = OxenCredentials.load("BLOCK_NAME")
        credentials.check()
        ```
    """

    _block_type_name = "Oxen.ai Credentials"
    _block_type_slug = "oxen-credentials"

    api_key: SecretStr = Field(
        title="API Key", description="The key, from the account settings at oxen.ai."
    )
    base_url: str = Field(
        default=Oxen.home,
        title="Base URL",
        description="The API's address; another one is for tests, such as the sandbox.",
    )

    @classmethod
    def from_env(cls) -> Self:
        """Make the block from `OXEN_API_KEY`."""
        return cls(api_key=_from_env("OXEN_API_KEY", cls.__name__))

    def get_client(self) -> Client:
        """Give Oxen.ai's client."""
        return Client(Oxen(self.base_url), self.api_key)


class EvoLinkCredentials(_Credentials):
    """Key and addresses of an EvoLink account.

    Attributes:
        api_key: The key of the account that pays.
        base_url: The API's address.
        files_url: The files API's address, where local files are uploaded.

    Example:
        Load a saved block and check the key, which costs nothing:

        ```python
        from prefect_topaz import EvoLinkCredentials

        credentials = EvoLinkCredentials.load("BLOCK_NAME")
        credentials.check()
        ```
    """

    _block_type_name = "EvoLink Credentials"
    _block_type_slug = "evolink-credentials"

    api_key: SecretStr = Field(
        title="API Key", description="The key, from the dashboard at evolink.ai."
    )
    base_url: str = Field(
        default=EvoLink.home,
        title="Base URL",
        description="The API's address; another one is for tests, such as the sandbox.",
    )
    files_url: str | None = Field(
        default=None,
        title="Files URL",
        description="The files API's address; empty for the one that belongs to the base URL.",
    )

    @classmethod
    def from_env(cls) -> Self:
        """Make the block from `EVOLINK_API_KEY`."""
        return cls(api_key=_from_env("EVOLINK_API_KEY", cls.__name__))

    def get_client(self) -> Client:
        """Give EvoLink's client."""
        return Client(EvoLink(self.base_url, self.files_url or ""), self.api_key)


class _Upscaler(JobBlock[StoredVideo]):
    """A preset of a provider's options. Private: the concrete blocks are what users save."""

    model_config = ConfigDict(hide_input_in_errors=True)

    _logo_url = _LOGO
    _documentation_url = HttpUrl(f"{_HOME}#readme")

    credentials: Any

    @abstractmethod
    def order(self) -> Order:
        """Check the options and give the order that they stand for."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        return _refuse_unknown(cls, values)

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
            source: An http(s) URL, or the path of a local file.
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
        return UpscaleRun(job, self, source, overwrite=bool(options.get("overwrite")))

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
