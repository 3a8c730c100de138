"""What results are called at their destination."""

from __future__ import annotations

from pathlib import Path

from prefect_topaz.models import Place
from prefect_topaz.places import Folder, split_destination

_LONGEST = 120  # bytes of a source's name in the result's; file systems end at 255 with all added


def target_names(place: Place, name: str, label: str, count: int) -> tuple[Folder, list[str]]:
    """Name the results of an order at a destination.

    Args:
        place: A folder, or the name of the first result.
        name: The source's name, for a folder.
        label: What was ordered, such as `4k`, for a folder.
        count: How many results there are.

    Returns:
        The folder and the file names: `clip-4k.mp4`, then `clip-4k-2.mp4` and so on.
    """
    folder, chosen = split_destination(place)
    first = Path(chosen or f"{safe_name(name)}-{label}.mp4")
    further = [f"{first.stem}-{number}{first.suffix}" for number in range(2, count + 1)]
    return folder, [first.name, *further]


def safe_name(name: str) -> str:
    """Make a source's name a file name that stays in its folder."""
    kept = "".join("_" if char in '/\\:*?"<>|' or ord(char) < ord(" ") else char for char in name)
    # Found only after the purchase, a name that the store refuses would come too late.
    short = kept.encode(errors="replace")[:_LONGEST].decode(errors="ignore")
    return short.lstrip(".") or "video"
