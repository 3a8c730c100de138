"""A provider's facts, and the tools that ask its dialect."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_topaz import errors
from prefect_topaz.models import Order, Phase
from prefect_topaz.providers import Dialect
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.wire import Call, Upload

KEY = "the-api-key"
SOURCE = "https://example.com/clip.mp4"
UPLOAD = Upload(Path(__file__).open, "file", "clip.mp4", 1, folder="copy")
SIGNED = f"{SOURCE}?X-Amz-Signature=CANARY&x=(1)"

# A dialect may use values and patterns, and nothing that acts or varies.
FORBIDDEN = {
    *("httpx", "fsspec", "prefect", "time", "random", "asyncio", "av", "socket", "requests"),
    *("aiohttp", "urllib.request", "subprocess", "os", "secrets", "datetime"),
}


@dataclass(frozen=True)
class Samples:
    """A provider's facts, as its documents state them; not read from its dialect.

    Args:
        dialect: The dialect's class.
        options: Makes an order of options.
        orders: Options that are allowed.
        refused: Options that are not, with words that the error must say.
        job_ids: The ids in `accepted`.
        accepted: Body of an answer that takes the first order.
        words: Every documented status word.
        status: Makes a status body of a word; a success has its result.
        faults: Status and body of every documented error, and the error's type.
        proving: HTTP statuses by which the provider says that it took nothing.
        codes: Error codes that say so whatever the status.
        coded: Makes an error body of a code.
        unreadable: Sources that the provider cannot read.
    """

    dialect: type[Dialect]
    options: Callable[..., Any]
    orders: tuple[Mapping[str, Any], ...]
    refused: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...]
    job_ids: tuple[str, ...]
    accepted: Mapping[str, Any]
    words: Mapping[str, Phase]
    status: Callable[[str], dict[str, Any]]
    faults: tuple[tuple[int, Any, type[errors.TopazError]], ...]
    proving: frozenset[int]
    codes: frozenset[str] = frozenset()
    coded: Callable[[str], dict[str, Any]] = field(default=lambda code: {"error": code})
    unreadable: tuple[str, ...] = ("", " ")

    def make(self, base_url: str = "") -> Dialect:
        return self.dialect(base_url)

    def order(self) -> Order:
        return self.options(**self.orders[0]).order()

    def all_orders(self) -> list[Order]:
        return [self.options(**options).order() for options in self.orders]


def every_call(dialect: Dialect, order: Order) -> dict[str, list[Call]]:
    """Ask a dialect for every call that it can make, its own ones too.

    They are found by what they say that they return, and asked with arguments by name.
    """
    known = {
        "order": order,
        "source": SignedUrl(SIGNED),
        "key": "topaz-0123456789abcdef",
        "job_id": "job",
        "job_ids": ["job", "other"],
        "upload": UPLOAD,
        "reference": "sandbox/clips/main/copy/clip.mp4",
    }
    calls: dict[str, list[Call]] = {}
    for name, method in inspect.getmembers(dialect, inspect.ismethod):
        signature = inspect.signature(method)
        if name.startswith("_") or "Call" not in str(signature.return_annotation):
            continue
        made = method(*(known[parameter] for parameter in signature.parameters))
        some = made if isinstance(made, tuple) else (made,)
        calls[name] = [call for call in some if call is not None]
    return {name: some for name, some in calls.items() if some}


def foreign_imports(dialect: type[Dialect]) -> set[str]:
    """List what a dialect's module, and the private ones that it uses, import and must not."""
    seen: set[str] = set()
    waiting, found = [dialect.__module__], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for imported in _imports(name):
            if any(imported == one or imported.startswith(f"{one}.") for one in FORBIDDEN):
                found.add(f"{name} imports {imported}")
            if imported.startswith("prefect_topaz.providers."):
                waiting.append(imported)
    return found


def _imports(module: str) -> set[str]:
    known = sys.modules.get(module)
    path = known.__file__ if known else _origin(module)
    assert path is not None
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if not name.startswith("tests.")} - {
        name for name in found if name.startswith("prefect_topaz.providers.") and not _origin(name)
    }


def _origin(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return spec.origin if spec else None
