"""The shared HTTP clients: who closes them, and when."""

from __future__ import annotations

import asyncio

import anyio

from prefect_topaz import http


async def test_a_passed_timeout_closes_the_connections_too() -> None:
    """A time-out cancels each await again, and the one that closes them is no exception."""
    with anyio.CancelScope() as scope:
        async with http.connections():
            clients = http._clients[asyncio.get_running_loop()]
            scope.cancel()
            await anyio.sleep_forever()
    assert clients.kept.is_closed
    assert clients.fresh.is_closed
