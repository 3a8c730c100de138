"""Where things are, as users say it: a URL, a path, or a saved block with a store's settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect.blocks.core import Block
from prefect.filesystems import RemoteFileSystem
from prefect.types import SecretDict
from pydantic import ConfigDict, Field, HttpUrl, model_validator
from typing_extensions import Self

from prefect_topaz.errors import InvalidRequest
from prefect_topaz.models import Place
from prefect_topaz.redaction import redact_url

HOME = "https://github.com/prefect-topaz/prefect-topaz"
LOGO = HttpUrl(f"{HOME}/raw/main/docs/logo.png")
# What Prefect itself writes into a block's data.
_PREFECTS = {"block_type_slug", "_block_document_id", "_block_document_name", "_is_anonymous"}


def refuse_unknown(block: type[Block], values: Any) -> Any:
    """Refuse misspelt fields: Prefect's blocks would ignore them, and order something else.

    It also keeps the values of one block from passing for another one of a union.
    """
    fields = set(block.model_fields)
    unknown = sorted(set(values) - fields - _PREFECTS) if isinstance(values, dict) else []
    if unknown:
        raise InvalidRequest(
            f"{block.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(fields))}"
        )
    return values


class StorageLocation(Block):
    """A folder on any fsspec store, with the store's settings kept secret.

    Prefect's own RemoteFileSystem shows its settings to everybody who may read blocks.

    Attributes:
        url: The folder.
        options: The store's settings.

    Example:
        Load a saved block and upscale a video into the folder:

        ```python
        from prefect_topaz import StorageLocation, OxenUpscaler, upscale_video

        place = StorageLocation.load("BLOCK_NAME")
        upscale_video("https://example.com/clip.mp4", place, OxenUpscaler.load("BLOCK_NAME"))
        ```
    """

    # A wrong value is shown by name, never with what was given: it may be a key.
    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Storage Location"
    _block_type_slug = "storage-location"
    _logo_url = LOGO
    _documentation_url = HttpUrl(f"{HOME}#readme")

    url: str = Field(
        title="URL",
        description="A folder as an fsspec URL without keys, such as s3://bucket/upscaled.",
    )
    options: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        description="The store's settings for fsspec, such as key and secret; they are kept secret.",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        return refuse_unknown(cls, values)

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        if not self.url.strip():
            raise InvalidRequest("the URL of a StorageLocation is empty: give a folder")
        _place_of_text(self.url)
        return self


Destination = str | Path | RemoteFileSystem | StorageLocation | Place


def place_of(destination: Destination) -> Place:
    """Make a place of what users pass as a destination, a journal, or where sources are.

    Raises:
        InvalidRequest: If it is none of a URL, a path and a block.
    """
    if isinstance(destination, Place):
        return destination
    if isinstance(destination, RemoteFileSystem):
        settings: dict[str, Any] = destination.settings or {}
        return _place_of_block(destination, destination.basepath, settings)
    if isinstance(destination, StorageLocation):
        url = _place_of_text(destination.url).url
        return _place_of_block(destination, url, destination.options.get_secret_value())
    if not isinstance(destination, str | Path):
        raise InvalidRequest(
            "a destination is an fsspec URL, a path, or a StorageLocation or RemoteFileSystem"
            f" block, and not {type(destination).__name__}"
        )
    return _place_of_text(str(destination))


def _place_of_block(block: Block, url: str, options: dict[str, Any]) -> Place:
    name = block._block_document_name  # noqa: SLF001  # blocks offer no other way
    saved = None if name is None else f"{type(block).get_block_type_slug()}/{name}"
    return Place(url=url if url.endswith("/") else f"{url}/", block=saved, options=options)


def _place_of_text(text: str) -> Place:
    if "://" in text and "@" in text and urlsplit(text).password:
        raise InvalidRequest(
            f"the place {redact_url(text)!r} holds a password, which would be written into the"
            " journal: give it in the store's environment, or in a StorageLocation block"
        )
    if not text.strip() or "://" in text or "::" in text:
        return Place(url=text)
    # A relative path means this process's folder: another one must find the same place.
    absolute = str(Path(text).expanduser().absolute())
    return Place(url=f"{absolute}/" if text.endswith(("/", os.sep)) else absolute)


async def with_settings(place: Place) -> Place:
    """Load the store's settings again where a place was persisted without them."""
    if place.block is None or place.options:
        return place
    slug, _, name = place.block.rpartition("/")
    block: Any
    if slug == StorageLocation.get_block_type_slug():
        block = await StorageLocation.aload(name)
        return place.model_copy(update={"options": block.options.get_secret_value()})
    # A plain name, as older journals have it, is one of these too.
    block = await RemoteFileSystem.aload(name)
    return place.model_copy(update={"options": block.settings or {}})
