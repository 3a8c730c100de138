"""Who a source is, whether it is a video, and a URL by which the provider can read it.

`opening` finds a source on http(s) (`web`), on the local disk (`local`) or on any fsspec store
(`store`), `identity` names its content, and `signing` makes and checks links.
"""

from __future__ import annotations

from prefect_topaz.sources.address import inside, is_store, is_web, label_of
from prefect_topaz.sources.opening import OpenSource, open_source
from prefect_topaz.sources.signing import lifetime

__all__ = ["OpenSource", "inside", "is_store", "is_web", "label_of", "lifetime", "open_source"]
