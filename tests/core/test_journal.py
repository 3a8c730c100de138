"""The journal: state is a fold, of two writers one wins, and what cannot be read stops a purchase."""

import asyncio
import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_topaz.errors import JournalUnavailable
from prefect_topaz.journal import Event, Journal, Kind, Record, State
from prefect_topaz.models import Cost, JobStatus, MediaFacts, Order, Place, Source
from prefect_topaz.places import Folder, open_folder
from prefect_topaz.redaction import SignedUrl
from tests.core.stores import RemoteStore, Repeats

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
KEY = "ab" * 32
STATES = {
    "intent": "intended",
    "submitted": "submitted",
    "refused": "refused",
    "unknown": "unknown",
    "finished": "finished",
    "failed": "failed",
    "cancelled": "failed",
    "mismatch": "finished",
    "stored": "stored",
}
NOTES = {"staging", "unstaged", "attached"}


def events_of(kinds):
    """Draw events of any of these kinds."""
    return st.builds(
        Event,
        kind=st.sampled_from(sorted(kinds)),
        at=st.just(NOON),
        by=st.sampled_from(["one", "two"]),
        attempt=st.integers(1, 3),
        flow_run_id=st.sampled_from([None, "run-1", "run-2"]),
        billed=st.sampled_from(["no", "maybe", "yes"]),
    )


EVENTS = events_of(STATES)


def event(kind="intent", by="me", **fields):
    return Event(kind=kind, at=NOON, by=by, **fields)


def full_event():
    media = MediaFacts(
        width=64, height=36, fps=10.0, duration=0.5, has_audio=False, codec="h264", frames=5
    )
    return event(
        flow_run_id="run-1",
        attempt=2,
        order=Order(provider="oxen", model="m", options={"target_fps": 24}, label="4k"),
        source=Source(identity="sha256:1", label="https://h/a.mp4", name="a", media=media),
        source_digest="cd" * 32,
        lease=300.0,
        job_ids=("1", "2"),
        results=(JobStatus(job_id="1", phase="failed", word="failed", error="é"),),
        held=("rejected-a.mp4",),
        reason="because",
        billed="maybe",
        cost=Cost(estimate=Decimal("0.1494")),
    )


@pytest.fixture(params=["local", "memory", "remote", "repeats", "s3"])
def journal(request, tmp_path):
    """An empty journal on every kind of store."""
    if request.param == "local":
        return Journal(open_folder(Place(url=str(tmp_path / ".topaz"))))
    if request.param == "memory":
        request.getfixturevalue("memory")
        return Journal(open_folder(Place(url="memory://place/.topaz")))
    if request.param == "s3":
        bucket = request.getfixturevalue("s3")
        return Journal(open_folder(Place(url=f"{bucket.url}/.topaz", options=bucket.options)))
    store = Repeats() if request.param == "repeats" else RemoteStore()
    return Journal(Folder(store, "place/.topaz"))


async def test_what_is_written_is_read_back_whole(journal):
    first = await journal.append(await journal.read(KEY), full_event())
    second = await journal.append(first, event("submitted", job_ids=("1",)))
    assert first.events == (full_event().model_copy(update={"nonce": first.last.nonce}),)
    assert await journal.read(KEY) == second
    assert [one.kind for one in second.events] == ["intent", "submitted"]
    assert Journal(journal.folder).folder == journal.folder


async def test_a_piece_of_work_that_nobody_touched_is_new(journal):
    record = await journal.read(KEY)
    assert (record.state, record.attempt, record.may_buy) == ("new", 0, True)
    assert await journal.keys() == ()


async def test_of_two_writers_one_wins_and_the_other_reads_again(journal):
    record = await journal.read(KEY)
    assert await journal.append(record, event(by="one")) is not None
    assert await journal.append(record, event(by="two")) is None
    again = await journal.read(KEY)
    assert [one.by for one in again.events] == ["one"]
    assert await journal.append(again, event("refused", by="two")) is not None


async def test_of_ten_writers_at_once_one_wins(journal):
    record = await journal.read(KEY)
    tries = (journal.append(record, event(by=f"writer-{n}")) for n in range(10))
    won = [one for one in await asyncio.gather(*tries) if one is not None]
    assert len(won) == 1
    assert await journal.read(KEY) == won[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=24), st.sampled_from([RemoteStore, Repeats]))
def test_no_interleaving_of_writers_loses_or_reorders_an_event(turns, kind):
    """Each writer reads at one turn and writes at its next, whatever happened in between."""
    journal = Journal(Folder(kind(), "place/.topaz"))

    async def play():
        seen, wrote = {}, []
        for number, writer in enumerate(turns):
            if writer not in seen:
                seen[writer] = await journal.read(KEY)
                continue
            record = seen.pop(writer)
            written = await journal.append(record, event(by=f"{writer}-{number}"))
            assert (written is None) == (len(record.events) < len(wrote))
            if written is not None:
                wrote.append(f"{writer}-{number}")
        return wrote, await journal.read(KEY)

    wrote, record = asyncio.run(play())
    assert [one.by for one in record.events] == wrote


async def test_an_event_is_one_small_readable_file(journal):
    record = await journal.append(await journal.read(KEY), event())
    place = journal.place(KEY)
    text = place.fs.cat_file(place.file("0001.json"))
    assert json.loads(text) == {
        "kind": "intent",
        "at": "2026-01-01T12:00:00Z",
        "by": "me",
        "nonce": record.last.nonce,
    }


async def test_the_pieces_of_work_are_listed(journal):
    for key in ("cd" * 32, KEY):
        await journal.append(await journal.read(key), event())
    assert await journal.keys() == (KEY, "cd" * 32)


async def test_nothing_signed_is_written(journal):
    link = SignedUrl("https://h/a.mp4?sig=CANARY")
    status = JobStatus(job_id="1", phase="succeeded", word="ok", results=(link,))
    order = Order(provider="evolink", model="m", label="2x", callback_url=link)
    destination = Place(url="s3://b/", options={"secret": "CANARY"})
    fields = {"order": order, "results": (status,), "destination": destination}
    await journal.append(await journal.read(KEY), event(**fields))
    place = journal.place(KEY)
    assert b"CANARY" not in place.fs.cat_file(place.file("0001.json"))


@given(st.lists(EVENTS, max_size=8))
def test_the_state_is_what_the_last_event_left(events):
    record = Record(key=KEY, events=tuple(events))
    assert record.state == (STATES[events[-1].kind] if events else "new")
    assert not events or record.last == events[-1]
    assert record.attempt == max([0, *(one.attempt for one in events)])
    for kind in get_args(Kind):
        found = [one for one in events if one.kind == kind]
        newest = [one for one in found if one.attempt == max(each.attempt for each in found)]
        assert record.latest(kind) == (newest[-1] if newest else None)


def test_a_slow_owner_does_not_hide_the_newer_purchase():
    newer = Event(kind="submitted", at=NOON, by="two", attempt=2, job_ids=("two",))
    slow = Event(kind="submitted", at=NOON, by="one", attempt=1, job_ids=("one",))
    assert Record(key=KEY, events=(newer, slow)).latest("submitted") == newer


@given(st.lists(EVENTS, max_size=8))
def test_only_what_is_certainly_not_bought_may_be_bought(events):
    record = Record(key=KEY, events=tuple(events))
    last = record.last if events else None
    unbilled = last is not None and last.kind in {"failed", "cancelled"} and last.billed == "no"
    assert record.may_buy == (last is None or last.kind == "refused" or unbilled)


@given(st.lists(EVENTS, max_size=8))
def test_the_buyers_are_who_wrote_the_latest_purchase(events):
    record = Record(key=KEY, events=tuple(events))
    latest = max((one.attempt for one in events), default=0)
    assert record.buyers == {
        one.flow_run_id
        for one in events
        if one.kind in {"intent", "submitted"} and one.attempt == latest and one.flow_run_id
    }


@given(st.lists(EVENTS, max_size=6), st.data())
def test_notes_change_nothing_about_the_purchase(work, data):
    """Wherever they stand among the events, and whichever purchase they say they are of."""
    plain = Record(key=KEY, events=tuple(work))
    mixed = list(work)
    for note in data.draw(st.lists(events_of(NOTES), min_size=1, max_size=4)):
        mixed.insert(data.draw(st.integers(0, len(mixed))), note)
    noted = Record(key=KEY, events=tuple(mixed))
    assert (noted.state, noted.may_buy) == (plain.state, plain.may_buy)
    assert noted.attempt == plain.attempt
    assert not plain.events or noted.last == plain.last
    assert [noted.latest(kind) for kind in STATES] == [plain.latest(kind) for kind in STATES]
    for kind in NOTES:
        assert (noted.latest(kind) is None) == (kind not in [one.kind for one in mixed])
    waiting = {
        one.flow_run_id
        for one in mixed
        if one.kind == "attached" and one.attempt == plain.attempt and one.flow_run_id
    }
    assert noted.buyers == plain.buyers | waiting


async def test_work_with_nothing_but_notes_is_new(journal):
    """A copy of the source was made, and its maker died before the order."""
    record = await journal.append(await journal.read(KEY), event("staging", attempt=1))
    assert (record.state, record.attempt, record.may_buy) == ("new", 0, True)
    assert await journal.read(KEY) == record


async def test_a_run_that_waits_for_the_job_of_another_is_found_by_its_id(journal):
    bought = await journal.append(await journal.read(KEY), event("submitted", flow_run_id="run-1"))
    await journal.append(bought, event("attached", flow_run_id="run-2"))
    assert [one.key for one in await journal.of_run("run-2")] == [KEY]
    assert [one.key for one in await journal.of_run("run-1")] == [KEY]


async def test_the_work_of_a_flow_run_is_found_and_nobody_elses(journal):
    for key, run in (("1" * 64, "run-1"), ("2" * 64, "run-2"), ("3" * 64, None)):
        await journal.append(await journal.read(key), event(flow_run_id=run))
    reattached = event("finished", flow_run_id="run-2")
    await journal.append(await journal.read("1" * 64), reattached)
    assert [one.key for one in await journal.of_run("run-1")] == ["1" * 64]
    assert [one.key for one in await journal.of_run("run-2")] == ["2" * 64]
    assert {one.key for one in await journal.of_run("run-1", "run-2")} == {"1" * 64, "2" * 64}
    assert await journal.of_run("run-3") == ()


async def test_a_record_that_cannot_be_read_hides_no_other_from_its_run(tmp_path):
    journal = Journal(open_folder(Place(url=str(tmp_path))))
    for key in ("1" * 64, "2" * 64):
        await journal.append(await journal.read(key), event(flow_run_id="run-1"))
    (tmp_path / ("1" * 64) / "0001.json").write_text("{")
    assert [one.key for one in await journal.of_run("run-1")] == ["2" * 64]


def test_every_kind_of_event_has_a_state_or_is_a_note():
    assert {*STATES, *NOTES} == set(get_args(Kind))
    assert {*STATES.values(), "new"} == set(get_args(State))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff", b'{"kind": "intent"}', b'{"kind": "dreamed", "by": "me"}'],
)
async def test_an_unreadable_event_stops_everything(data, tmp_path):
    journal = Journal(open_folder(Place(url=str(tmp_path))))
    record = await journal.append(await journal.read(KEY), event())
    (tmp_path / KEY / "0002.json").write_bytes(data)
    with pytest.raises(JournalUnavailable, match=r"0002\.json cannot be read") as caught:
        await journal.read(KEY)
    assert (caught.value.work_key, caught.value.billed) == (KEY, "no")
    with pytest.raises(JournalUnavailable):
        await journal.append(record, event("submitted"))


async def test_a_later_versions_fields_do_not_stop_an_older_reader(tmp_path):
    journal = Journal(open_folder(Place(url=str(tmp_path))))
    await journal.append(await journal.read(KEY), event())
    path = tmp_path / KEY / "0001.json"
    path.write_text(path.read_text()[:-1] + ', "colour": "invented later"}')
    assert (await journal.read(KEY)).state == "intended"


@pytest.fixture
def broken():
    """A journal on a store whose calls can be made to fail."""
    store = RemoteStore()
    return Journal(Folder(store, "place/.topaz")), store.broken


SECRET = PermissionError("403 at https://h/x?sig=CANARY")


async def test_a_store_that_cannot_be_read_is_no_empty_journal(broken):
    journal, faults = broken
    faults["open rb"] = SECRET
    with pytest.raises(JournalUnavailable, match=r"cannot be read \(PermissionError") as caught:
        await journal.read(KEY)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_store_that_cannot_be_written_is_said_so(broken):
    journal, faults = broken
    record = await journal.read(KEY)
    faults["pipe_file"] = SECRET
    with pytest.raises(JournalUnavailable, match=r"0001\.json cannot be written") as caught:
        await journal.append(record, event())
    assert "CANARY" not in str(caught.value)
    del faults["pipe_file"]
    assert await journal.append(record, event()) is not None


async def test_a_store_that_cannot_be_listed_is_said_so(broken):
    journal, faults = broken
    await journal.append(await journal.read(KEY), event())
    faults["ls"] = SECRET
    with pytest.raises(JournalUnavailable, match="cannot be listed") as caught:
        await journal.keys()
    assert "CANARY" not in str(caught.value)


async def test_a_bucket_that_is_not_there_is_no_place_to_buy_from(s3):
    journal = Journal(open_folder(Place(url=f"{s3.url}-missing/.topaz", options=s3.options)))
    with pytest.raises(JournalUnavailable):
        await journal.append(await journal.read(KEY), event())


async def test_an_event_repeated_after_an_outage_is_recognised_as_its_own(broken):
    """The first write arrived though its answer did not: the second finds its own nonce."""
    journal, _ = broken
    record = await journal.read(KEY)
    mine = event()
    assert await journal.append(record, mine) is not None
    assert (await journal.append(record, mine)).last == mine
    assert len((await journal.read(KEY)).events) == 1


async def test_its_own_event_is_recognised_under_later_ones(broken):
    journal, _ = broken
    record = await journal.read(KEY)
    mine = event()
    written = await journal.append(record, mine)
    await journal.append(written, event("unknown", by="other"))
    found = await journal.append(record, mine)
    assert [one.kind for one in found.events] == ["intent", "unknown"]
