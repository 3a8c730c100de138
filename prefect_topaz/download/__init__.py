"""Fetch a paid result into a file, whatever happens on the way.

`parallel` brings the parts side by side: `route` says where the link leads, `bulk` opens fast
connections, `ranges` tells whether an answer brings what was asked for, and `arrival` takes the
parts in any order and reads them in order.
"""

from prefect_topaz.download.arrival import Follower
from prefect_topaz.download.parallel import Fetched, fetch

__all__ = ["Fetched", "Follower", "fetch"]
