"""The providers' dialects: one file each, found by its name, with nothing to register."""

from __future__ import annotations

import importlib
import pkgutil

from prefect_topaz.providers._base import Candidate, Dialect, is_loopback_host

__all__ = ["Candidate", "Dialect", "is_loopback_host", "load", "names"]


def names() -> tuple[str, ...]:
    """List the providers: the modules of this package that are not private."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str) -> type[Dialect]:
    """Give a provider's dialect class, which its module names `Provider`.

    Raises:
        ValueError: If no provider has that name; says which there are.
    """
    if name not in names():
        raise ValueError(f"no provider {name!r}: there are {', '.join(names())}")
    dialect: type[Dialect] = importlib.import_module(f"{__name__}.{name}").Provider
    return dialect
