"""Take away a copy that no provider reads any more, with the settings that open its store."""

from __future__ import annotations

from contextlib import suppress

from prefect_topaz.engine.context import Context
from prefect_topaz.models import Place, StagedCopy
from prefect_topaz.places import in_thread, open_folder
from prefect_topaz.transport import describe


async def take_away(context: Context, copy: StagedCopy, near: tuple[Place, ...]) -> bool:
    """Remove a copy, as well as that goes.

    Args:
        context: Who removes it; a provider's own store is asked only by its own client.
        copy: The copy.
        near: Places whose settings may open its store, where the copy's own are not known.

    Returns:
        Whether there is nothing more to do: it is gone, or goes by itself.
    """
    try:
        if copy.place is not None:
            await in_thread(_delete, await _with_settings(context, copy.place, near))
            return True
        if copy.reference is None:
            return True
        return await context.client.discard(copy.reference) or copy.expires_at is not None
    except Exception as error:  # noqa: BLE001  # tidying costs no job; who settles tries again
        where = copy.place.url if copy.place else copy.reference
        context.log(f"the copy {where} is left for settle_upscales to remove: {describe(error)}")
        return False


async def _with_settings(context: Context, place: Place, near: tuple[Place, ...]) -> Place:
    known = place if place.options else await context.reload(place)
    if known.options or known.block:
        return known
    same = (one.options for one in near if one.options and _store_of(one) == _store_of(place))
    return known.model_copy(update={"options": next(same, {})})


def _store_of(place: Place) -> str:
    return place.url.partition("://")[0]


def _delete(place: Place) -> None:
    file = open_folder(place)
    with suppress(FileNotFoundError):
        file.fs.rm_file(file.path)
