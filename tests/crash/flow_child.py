"""The real flow in a process of its own, which dies as the order says: `upscale_video`, on a server.

The order is the command's one word, as JSON. Time is real here, so no row waits for a lease.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

from tests.crash.effects import Effects
from tests.crash.telling import tell


def _upscaler(order: dict[str, Any]) -> Any:
    # Prefect makes its home when it is imported: not before the environment is set.
    from prefect_topaz import (
        EvoLinkCredentials,
        EvoLinkUpscaler,
        OxenCredentials,
        OxenUpscaler,
    )

    url, key, options = order["url"], order["key"], order["options"]
    if order["provider"] == "oxen":
        credentials = OxenCredentials(api_key=key, base_url=url)
        return OxenUpscaler(credentials=credentials, **({"resolution": "1080p"} | options))
    evolink = EvoLinkCredentials(api_key=key, base_url=url, files_url=url)
    return EvoLinkUpscaler(credentials=evolink, **({"upscale_factor": "2"} | options))


def main() -> None:
    """Run the flow once, as somebody who calls it would."""
    order = json.loads(sys.argv[1])
    home = order["home"]
    os.environ |= {"HOME": home, "PREFECT_HOME": f"{home}/prefect", "TMPDIR": order["temporary"]}
    from prefect_topaz import upscale_video

    effects = Effects(lambda label: tell("effect", label), order["fatal"], torn=order["torn"])
    upscaler = _upscaler(order)
    sys.addaudithook(effects.audit([order["destination"].rstrip("/")]))
    video = upscale_video(order["source"], order["destination"], upscaler, poll_seconds=0.1)
    effects.step("the end of the process")
    tell("result", {"outcome": "stored", "videos": 1, "cached": video.cached})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
