"""What can be ordered from EvoLink, checked here: its server corrects a wrong factor silently."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pydantic import ConfigDict

from prefect_topaz.errors import InvalidRequest
from prefect_topaz.models import Frozen, Order
from prefect_topaz.redaction import SignedUrl, redact

MODEL = "topaz-video-upscale"
_FACTORS = ("1", "2", "4")
_CALLBACK_LENGTH = 2048


class EvoLinkOptions(Frozen):
    """What a user orders from EvoLink, checked before any request.

    Args:
        upscale_factor: `1` (enhance only), `2` or `4`, as text or number.
        callback_url: Where EvoLink tells when the task ends: https, at most 2048 characters, no
            internal address. A hint only; waiting never depends on it.
        resend_unknown: Whether an order whose answer is lost is sent once more with the same
            idempotency key, as EvoLink's own client does [E8]. No page promises that a key of the
            API replays: if it does not, the second sending buys a second task.

    Raises:
        InvalidRequest: If a value is not allowed; says which are. The server would silently take
            2 for a wrong factor [seed], so this check is the only one.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    upscale_factor: str | int | float = "2"
    callback_url: str | None = None
    resend_unknown: bool = False

    def order(self) -> Order:
        """Check the options and normalise them into an order."""
        factor = check_factor(self.upscale_factor)
        callback = None if self.callback_url is None else _check_callback(self.callback_url)
        return Order(
            provider="evolink",
            model=MODEL,
            options={"upscale_factor": factor},
            callback_url=callback,
            resend_unknown=self.resend_unknown,
            label=f"{factor}x",
            factor=int(factor),
        )


def check_factor(value: str | float) -> str:
    """Give the factor as the vendor writes it, or refuse it: the server would take 2 instead."""
    # True is 1 to Python, and 2.0 is 2 to JSON.
    number = isinstance(value, int | float) and not isinstance(value, bool) and value in (1, 2, 4)
    text = str(int(value)) if number else value
    if not isinstance(text, str) or text not in _FACTORS:
        raise InvalidRequest(
            f"upscale_factor {value!r} is not allowed; allowed: 1, 2, 4 (as text or number)"
        )
    return text


def _check_callback(url: str) -> SignedUrl:
    if reason := _callback_problem(url):
        raise InvalidRequest(
            f"callback_url {redact(url)[:100]!r} {reason}; allowed: an https URL of at most"
            f" {_CALLBACK_LENGTH} characters that is not an internal address"
        )
    return SignedUrl(url)


def _callback_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:  # broken brackets
        return "is not an https URL"
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "https" or not host:
        return "is not an https URL"
    if len(url) > _CALLBACK_LENGTH:
        return f"is {len(url)} characters long"
    return "is an internal address" if _is_internal(host) else None


def _is_internal(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # Browsers and C libraries read "127.1" and "0x7f.1" as addresses: no name ends in a number.
        last = host.rpartition(".")[2]
        numeric = last.isdecimal() or last.startswith("0x")
        internal = host.endswith((".localhost", ".local", ".internal"))
        return numeric or internal or "." not in host
