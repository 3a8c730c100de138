"""Keep the result of the blocking endpoint: its answer is the only copy there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prefect_topaz.delivery import publish, workspace
from prefect_topaz.download import fetch
from prefect_topaz.engine.context import Context
from prefect_topaz.errors import ResultUnavailable
from prefect_topaz.http import PIECE
from prefect_topaz.journal import Journal, Record
from prefect_topaz.places import in_thread
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.transport import describe
from prefect_topaz.wire import Reply, decode_base64_field

_NAME = "result-1.mp4"


async def hold(context: Context, journal: Journal, record: Record, reply: Reply) -> tuple[str, ...]:
    """Put the result beside the journal: a link in an answer is signed, and must not be kept.

    Returns:
        The names of the files.

    Raises:
        ResultUnavailable: If the answer's video cannot be read; it is paid for.
    """
    try:
        with workspace(journal.place(record.key)) as space:
            file = space / _NAME
            link = context.client.dialect.inline_result(reply)
            if link is None:
                await in_thread(_write, decode_base64_field(_pieces(reply), "b64_json"), file)
            else:
                await _download(context, link, file)
            await in_thread(publish, file, journal.place(record.key), _NAME)
    except Exception as error:  # noqa: BLE001  # it is paid for, whatever went wrong
        reason = f"the blocking call answered, and its result could not be kept: {describe(error)}"
        event = context.event("unknown", attempt=record.attempt, reason=reason, billed="yes")
        await context.insist(journal, record, event)
        raise ResultUnavailable(reason, work_key=record.key) from None
    return (_NAME,)


async def held_by_the_dead(journal: Journal, record: Record) -> tuple[str, ...]:
    """Find the result of an owner that died after keeping it and before writing that down.

    Returns:
        The names of the files; none if no answer had come, or its result could not be kept.
    """
    if record.last.billed == "yes":
        return ()
    place = journal.place(record.key)
    try:
        await in_thread(place.fs.invalidate_cache)
        found = await in_thread(place.fs.exists, place.file(_NAME))
    except Exception:  # noqa: BLE001  # the provider's listing can be asked all the same
        return ()
    return (_NAME,) if found else ()


async def _download(context: Context, link: SignedUrl, file: Path) -> None:
    async def same() -> SignedUrl:
        return link  # without a job id there is nothing to ask for a fresh one

    await fetch(
        link,
        file,
        refresh=same,
        headers_for=context.client.result_headers,
        sleep=context.client.sleep,
    )


def _pieces(reply: Reply) -> Iterator[bytes]:
    if reply.spooled is None:
        yield reply.body
        return
    with reply.spooled.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _write(pieces: Iterable[bytes], file: Path) -> None:
    with file.open("wb") as target:
        for piece in pieces:
            target.write(piece)
