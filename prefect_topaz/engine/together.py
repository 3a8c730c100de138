"""Many small pieces of work side by side, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def side_by_side(
    work: Callable[[T], Awaitable[R]], items: Iterable[T], at_once: int
) -> list[R]:
    """Do the same work for many items, and give the results in the items' order.

    The first exception ends it all: none of the work goes on unseen.

    Args:
        work: What is done for each.
        items: For what.
        at_once: How many of them at the same time.
    """
    slots = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with slots:
            return await work(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
