"""The blocks that say who pays: a provider's key and address."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, model_validator
from typing_extensions import Self

from prefect_topaz.bridge import run_blocking
from prefect_topaz.client import Client
from prefect_topaz.errors import InvalidRequest
from prefect_topaz.http import connections
from prefect_topaz.locations import HOME, LOGO, refuse_unknown
from prefect_topaz.providers.evolink import Provider as EvoLink
from prefect_topaz.providers.oxen import Provider as Oxen


def _from_env(name: str, block: str) -> SecretStr:
    key = os.environ.get(name, "").strip()
    if not key:
        raise InvalidRequest(f"{name} is not set: set it to your API key to make a {block}")
    return SecretStr(key)


class _Credentials(CredentialsBlock):
    """A provider's key and address. Private: the concrete blocks are what users save."""

    # A wrong value is shown by name, never with what was given: it may be a key.
    model_config = ConfigDict(hide_input_in_errors=True)

    _logo_url = LOGO
    _documentation_url = HttpUrl(f"{HOME}#readme")

    api_key: SecretStr

    @abstractmethod
    def get_client(self) -> Client:
        """Give the provider's client."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        return refuse_unknown(cls, values)

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
        staging_repo: Where copies of files go that no URL leads to.

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

    staging_repo: str | None = Field(
        default=None,
        title="Staging repository",
        description="A public repository of yours at Oxen.ai, as namespace/name: files that no URL"
        " leads to are copied there for a job, and stay readable in its history. Empty for none.",
    )

    @classmethod
    def from_env(cls) -> Self:
        """Make the block from `OXEN_API_KEY`."""
        return cls(api_key=_from_env("OXEN_API_KEY", cls.__name__))

    def get_client(self) -> Client:
        """Give Oxen.ai's client."""
        return Client(Oxen(self.base_url, self.staging_repo or ""), self.api_key)


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
