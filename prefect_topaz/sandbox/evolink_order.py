"""What EvoLink checks when a task is created, and what it makes of the request."""

import ipaddress
import re
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

MODEL = "topaz-video-upscale"
# [E8] 16 to 96 characters
_KEY = re.compile(r"[A-Za-z0-9._-]{16,96}")
# Invented: EvoLink publishes no price. [seed] 4x is 1.75 times the base; 1x is taken as the base.
_CREDITS_PER_SECOND = Decimal("3.74")
_TIMES = {1: Decimal(1), 2: Decimal(1), 4: Decimal("1.75")}


class Refused(Exception):
    """A request that is answered with an error; used between this module and the endpoints."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def video_url(body: dict[str, Any]) -> str:
    """Give the one input of a create request.

    Args:
        body: The request.

    Raises:
        Refused: If there is not exactly one .mp4 URL.
    """
    urls = body.get("video_urls")
    if not isinstance(urls, list) or not urls:
        text = f"video_urls is required and must not be empty for {MODEL}"  # [seed]
        raise Refused(400, "invalid_parameter", text)
    if len(urls) > 1:  # [seed] maxItems 1; the text is the sandbox's own
        raise Refused(400, "invalid_parameter", "video_urls must contain exactly 1 video")
    url = urls[0]
    if not isinstance(url, str) or urlsplit(url).scheme not in {"http", "https"}:
        raise Refused(400, "invalid_parameter", "video_urls must contain http or https URLs")
    if not urlsplit(url).path.lower().endswith(".mp4"):  # [seed] supported formats: .mp4
        raise Refused(400, "invalid_parameter", "Unsupported video format, supported: .mp4")
    return url


def factor(body: dict[str, Any]) -> int:
    """Give the upscale factor of a create request.

    Args:
        body: The request.
    """
    params = body.get("model_params")
    wanted = params.get("upscale_factor", "2") if isinstance(params, dict) else "2"
    # [seed] string or number; anything else silently becomes 2. JSON's true is no number.
    is_plain = isinstance(wanted, (str, int, float)) and not isinstance(wanted, bool)
    return {"1": 1, "2": 2, "4": 4}.get(f"{wanted}".removesuffix(".0"), 2) if is_plain else 2


def check_callback(body: dict[str, Any]) -> None:
    """Check the callback URL of a create request, if it has one.

    Args:
        body: The request.

    Raises:
        Refused: If it is not https, too long, or names an internal address.
    """
    url = body.get("callback_url")
    if url is None:
        return
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme != "https" or not parts.hostname:
        raise Refused(400, "invalid_parameter", "callback_url must be an HTTPS URL")
    if len(url) > 2048:  # noqa: PLR2004 - [seed]
        raise Refused(400, "invalid_parameter", "callback_url must not exceed 2048 characters")
    if _is_internal(parts.hostname):  # names are not resolved: a sandbox asks no name server
        raise Refused(400, "invalid_parameter", "callback_url must not be an internal address")


def idempotency_key(request: Request) -> str | None:
    """Give the idempotency key of a create request, if it has one.

    Args:
        request: The request.

    Raises:
        Refused: If it is malformed.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and _KEY.fullmatch(key) is None:  # [unknown] how a bad key is answered
        raise Refused(400, "invalid_request", "Idempotency-Key must be 16-96 of A-Za-z0-9._-")
    return key


def credits_for(seconds: float, times: int) -> Decimal:
    """Give the credits for an input.

    Args:
        seconds: Length of the input.
        times: The upscale factor.
    """
    return (_CREDITS_PER_SECOND * _TIMES[times] * Decimal(str(seconds))).quantize(Decimal("0.01"))


def _is_internal(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_global
