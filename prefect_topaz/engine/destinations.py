"""Where a purchase goes: its journal, and whether its results can be put there."""

from __future__ import annotations

from typing import Final

from prefect_topaz.delivery import check_free
from prefect_topaz.errors import TopazError, UnusableDestination
from prefect_topaz.models import Place
from prefect_topaz.naming import Values, home_of, target_names
from prefect_topaz.places import check_writable
from prefect_topaz.transport import describe

JOURNAL: Final = ".topaz"


def journal_of(destination: Place, journal: Place | None = None) -> Place:
    """Say where the journal of a destination is: `.topaz` there, unless it was put elsewhere.

    Of a destination with placeholders it is before the first, so that every run finds it.
    """
    if journal is not None:
        return journal
    return destination.model_copy(update={"url": home_of(destination).folder(JOURNAL).url})


def check_destination(
    destination: Place, values: Values, count: int, *, overwrite: bool, has_journal: bool
) -> None:
    """Find out, before money is spent, whether results can be put at a destination.

    Args:
        destination: The destination.
        values: What its placeholders stand for.
        count: How many results there will be.
        overwrite: Whether another file there may be replaced.
        has_journal: Whether the journal is there too: then writing the intent will tell.

    Raises:
        UnusableDestination: If they cannot.
    """
    folder, names = target_names(destination, values, count)
    try:
        for name in names if not overwrite else ():
            check_free(folder, name, values.work_key)
        if not has_journal:
            check_writable(folder)
    except TopazError:
        raise
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        raise UnusableDestination(
            f"the destination {folder.url} cannot be looked at ({describe(error)}): check the"
            " address and the store's settings"
        ) from None
