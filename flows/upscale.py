"""Upscale one video on demand, from the run form of the Prefect UI.

Copy it and change what your team should not have to choose. Deploy it with
`prefect deploy --all --prefect-file deployments/prefect.yaml`.
"""

from typing import Annotated

from prefect import flow
from prefect.blocks.system import Secret
from prefect.filesystems import RemoteFileSystem
from pydantic import Field, SecretStr

from prefect_topaz import (
    EvoLinkUpscaler,
    OxenUpscaler,
    StorageLocation,
    StoredVideo,
    aupscale_video,
    cancel_upscales_on_cancellation,
    note_upscales_on_crash,
)


# The hooks see to paid jobs when the run's process could not; they read the parameters
# `destination` and `upscaler` by these names.
@flow(
    name="upscale",
    on_cancellation=[cancel_upscales_on_cancellation],
    on_crashed=[note_upscales_on_crash],
)
async def upscale(
    source: str | Secret,  # type: ignore[type-arg]  # whatever the saved block holds
    destination: str | RemoteFileSystem | StorageLocation,
    upscaler: OxenUpscaler | EvoLinkUpscaler,
    max_cost: Annotated[float, Field(gt=0)] | None = None,
    again: Annotated[int, Field(ge=0)] = 0,
    *,
    source_storage: str | RemoteFileSystem | StorageLocation | None = None,
) -> StoredVideo:
    """Upscale one video: buy it once, wait, verify and store it.

    Run it again after any failure: it finds what was bought, and buys nothing twice.

    Args:
        source: An http(s) URL, the path of a file on the worker, the fsspec URL of a file on a
            store, or a path inside source_storage. Save a signed URL as a Secret block and choose
            that: what is typed here, Prefect records.
        destination: A folder (ending in /) or a file name, as an fsspec URL or path.
        upscaler: What is ordered, and who pays.
        max_cost: US dollars that it may cost at most; an unknown price is refused then.
        again: A higher number buys the same work again, on purpose.
        source_storage: Where the source is, if it is given as a path there.
    """
    url = SecretStr(str(source.get())) if isinstance(source, Secret) else source
    # The body without a flow run of its own: its tasks are this run's, and so is its state, which
    # is named `Cached` if nothing had to be bought.
    return await aupscale_video.fn(
        url,
        destination,
        upscaler,
        max_cost=max_cost,
        again=again,
        source_storage=source_storage,
    )
