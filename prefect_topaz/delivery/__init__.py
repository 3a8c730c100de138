"""Put a result where it belongs, whole or not at all, on any fsspec store.

`publishing` gives a file its name, `outgoing` sends a video while it still arrives, `writing`
shows remote files only when they are whole, and `sweeping` removes what killed processes left.
"""

from prefect_topaz.delivery.outgoing import Outgoing, check_delivered
from prefect_topaz.delivery.publishing import (
    check_free,
    publish,
    publish_bytes,
    read_receipt,
    remove,
    retrieve,
    still_there,
    sweep,
    workspace,
)

__all__ = [
    "Outgoing",
    "check_delivered",
    "check_free",
    "publish",
    "publish_bytes",
    "read_receipt",
    "remove",
    "retrieve",
    "still_there",
    "sweep",
    "workspace",
]
