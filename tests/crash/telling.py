"""How a process tells its parent what it does: JSON lines on its standard output."""

from __future__ import annotations

import json
import os
from typing import Any


def tell(kind: str, value: Any) -> None:
    """Tell something in one piece, so that no line of another process gets between.

    Args:
        kind: `pid`, `effect`, `result` or `exit`.
        value: What there is to tell.
    """
    os.write(1, json.dumps([kind, value]).encode() + b"\n")
