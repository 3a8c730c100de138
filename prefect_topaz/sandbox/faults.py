"""Faults that a test or the command line asks for, and the rules about which may be asked where."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from prefect_topaz.sandbox.shapes import Flaw

API = (
    *("submit", "generate", "status", "cancel", "list", "batch", "models", "credits"),
    *("upload", "quota", "delete"),
)
FILES = ("result", "media")
NETWORK = (*API, *FILES)
OPERATIONS = (*NETWORK, "job")

# What a detail may be; a float takes whole numbers too.
_Kinds = type | tuple[type, ...] | tuple[str, ...]
_NUMBER: tuple[type, ...] = (int, float)
_TEXT: tuple[type, ...] = (str,)


@dataclass(frozen=True)
class Rule:
    """Where a kind of fault may be asked, and its details with their defaults."""

    operations: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    allowed: Mapping[str, _Kinds] = field(default_factory=dict)


_ACCEPTED: Mapping[str, _Kinds] = {"accepted": (bool,)}

RULES: Mapping[str, Rule] = {
    "refuse": Rule(NETWORK),
    "delay": Rule(
        OPERATIONS, {"seconds": 1.0, "accepted": True}, {"seconds": _NUMBER, **_ACCEPTED}
    ),
    "429": Rule(NETWORK, {"retry_after": None}, {"retry_after": (int, float, str, type(None))}),
    "5xx": Rule(NETWORK, {"status": 503, "accepted": False}, {"status": (int,), **_ACCEPTED}),
    "cut": Rule(NETWORK),
    "garbage": Rule(NETWORK),
    "empty": Rule(("submit",), {"message": "No generation was created"}, {"message": _TEXT}),
    "refused": Rule(
        API,
        {"status": 400, "code": None, "message": None},
        {"status": (int,), "code": (str, int, type(None)), "message": (str, type(None))},
    ),
    "forget": Rule(("status",), {"history": False}, {"history": (bool,)}),
    "unknown_status": Rule(("status", "batch"), {"word": "paused"}, {"word": _TEXT}),
    "fail": Rule(
        ("job",),
        {"message": "Internal Server Error", "code": "service_error"},
        {"message": _TEXT, "code": _TEXT},
    ),
    "wrong_video": Rule(("job",), {"what": "size"}, {"what": get_args(Flaw)}),
    "truncate": Rule(FILES, {"fraction": 0.5}, {"fraction": _NUMBER}),
    "short": Rule(FILES, {"fraction": 0.5}, {"fraction": _NUMBER}),
    "html": Rule(FILES),
    "expire": Rule(FILES),
    "gone": Rule(FILES),
    "redirect": Rule(FILES),
    "no_range": Rule(FILES),
}

# Details of every fault: which requests it waits for.
_COMMON: Mapping[str, _Kinds] = {
    "provider": ("oxen", "evolink"),
    "method": ("GET", "HEAD", "POST", "PUT", "DELETE"),
}


@dataclass(frozen=True)
class Fault:
    """One fault, asked for `times` times."""

    operation: str
    kind: str
    details: Mapping[str, Any]
    provider: str | None = None
    method: str | None = None

    def fits(self, operation: str, provider: str | None, method: str, host: str) -> bool:
        """Say whether a request is one that this fault waits for."""
        if operation != self.operation or self.provider not in {None, provider}:
            return False
        if self.kind == "empty" and provider != "oxen":
            return False  # [OX1] only Oxen is known to answer with an empty list
        if self.kind == "redirect" and host.startswith("localhost"):
            return False  # the target of a redirect is the same server under this name
        # A HEAD has no body to spoil, so downloads are meant unless the fault says otherwise.
        wanted = self.method or ("GET" if operation in FILES else None)
        return wanted in {None, method}


def make_fault(operation: str, kind: object, details: Mapping[str, Any]) -> Fault:
    """Check a wish and make the fault of it.

    Args:
        operation: Which calls are hit, one of `OPERATIONS`.
        kind: What happens, one of `RULES`.
        details: The kind's own details, `provider` and `method`.

    Raises:
        ValueError: If anything is unknown; the message names what is allowed.
    """
    _choose("operation", operation, OPERATIONS)
    kind = str(kind)
    fitting = [name for name, rule in RULES.items() if operation in rule.operations]
    _choose(f"kind of fault for {operation!r}", kind, fitting)
    rule = RULES[kind]
    allowed = {**rule.allowed, **_COMMON}
    for name, value in details.items():
        _choose(f"detail of {kind!r}", name, allowed)
        _check(f"{kind}: {name}", value, allowed[name])
    own = {**rule.defaults, **{k: v for k, v in details.items() if k not in _COMMON}}
    return Fault(operation, kind, own, details.get("provider"), details.get("method"))


class FaultBox:
    """The faults still to happen, first asked first served; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault, times: int = 1) -> None:
        """Ask for a fault.

        Args:
            fault: What shall happen.
            times: How often.

        Raises:
            ValueError: If `times` is not a positive whole number.
        """
        if type(times) is not int or times < 1:  # True is an int to isinstance
            raise ValueError(f"times must be a whole number from 1 on, got {times!r}")
        with self._lock:
            self._waiting += [fault] * times

    def take(
        self, operation: str, provider: str | None, method: str = "", host: str = ""
    ) -> Fault | None:
        """Give and use up the first fault that fits a request, if there is one.

        Args:
            operation: What the request is.
            provider: Whose API it is, None for media.
            method: Its HTTP method.
            host: The Host it was sent to.
        """
        with self._lock:
            for place, fault in enumerate(self._waiting):
                if fault.fits(operation, provider, method, host):
                    return self._waiting.pop(place)
        return None


def _choose(what: str, value: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"unknown {what}: {value!r}; allowed: {', '.join(allowed)}")


def _check(what: str, value: Any, allowed: Any) -> None:
    if isinstance(allowed[0], str):
        _choose(what, value, allowed)
        return
    # True is an int to Python, and never meant as a number here.
    fits = type(value) is bool if allowed == (bool,) else type(value) is not bool
    if not fits or not isinstance(value, allowed):
        names = ", ".join(kind.__name__ for kind in allowed)
        raise ValueError(f"{what} must be {names}, got {value!r}")
    if what.endswith(": status") and not 300 <= value <= 599 and value != 200:  # noqa: PLR2004 - HTTP
        raise ValueError(f"{what} must be an HTTP status of an error, got {value}")
    if what.endswith(": fraction") and not 0 <= value < 1:
        raise ValueError(f"{what} must be from 0 to below 1, got {value}")
    if what.endswith(": seconds") and value < 0:
        raise ValueError(f"{what} must not be negative, got {value}")
