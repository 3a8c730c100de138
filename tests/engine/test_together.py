"""Work side by side: few at a time, in order, and none of it unseen."""

import asyncio

import pytest

from prefect_topaz.engine.together import side_by_side


async def test_no_more_than_so_many_are_worked_on_at_once():
    running: set[int] = set()
    most = 0

    async def work(item: int) -> None:
        nonlocal most
        running.add(item)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.discard(item)

    await side_by_side(work, range(20), 3)
    assert most == 3


async def test_results_come_in_the_order_of_the_items_and_not_of_their_ends():
    first_may_end = asyncio.Event()

    async def work(item: str) -> str:
        if item == "first":
            await first_may_end.wait()
        first_may_end.set()
        return item.upper()

    assert await side_by_side(work, ["first", "second"], 2) == ["FIRST", "SECOND"]


async def test_what_fails_ends_the_rest():
    ended: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            raise ValueError(item)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    with pytest.raises(ValueError, match="1"):
        await side_by_side(work, range(3), 3)
    assert ended == [0, 2]


async def test_whoever_is_cancelled_leaves_nothing_running():
    begun, ended = asyncio.Event(), []

    async def work(item: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    caller = asyncio.create_task(side_by_side(work, [7], 1))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [7]
