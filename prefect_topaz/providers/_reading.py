"""Values out of foreign JSON, where nothing can be relied on: what is unreadable is absent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from prefect_topaz.redaction import SignedUrl


def links(values: Iterable[Any]) -> tuple[SignedUrl, ...]:
    """Take the http(s) links out of what a provider lists; anything else is no result."""
    return tuple(SignedUrl(value) for value in values if _is_link(value))


def _is_link(value: Any) -> bool:
    try:
        parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
        _ = parts.port
    except ValueError:  # broken brackets, or a port that is no number
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def number(value: Any) -> float | None:
    """Read a finite number out of foreign JSON, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def amount(value: Any) -> Decimal | None:
    """Read a finite amount of money out of foreign JSON, text or number, or None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):
        return None
    return found if found.is_finite() else None
