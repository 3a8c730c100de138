"""`settle_upscales`: paid results are claimed, and a person rules on what nobody can look up."""

from __future__ import annotations

import asyncio
import getpass
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from prefect_topaz import (
    EvoLinkUpscaler,
    OutcomeUnknown,
    OxenUpscaler,
    asettle_upscales,
    settle_upscales,
    submit_upscale,
    upscale_video,
)
from prefect_topaz.errors import InvalidRequest
from prefect_topaz.settlement import person
from tests.prefect.support import FAST


def test_both_colours_have_one_signature() -> None:
    assert inspect.signature(asettle_upscales.fn) == inspect.signature(settle_upscales.fn)
    assert asettle_upscales.name == settle_upscales.name


def rows(state: Any, api: Any) -> list[dict[str, str]]:
    """Read the table that the UI shows."""
    (table,) = api.artifacts(state.state_details.flow_run_id, "table")
    found: list[dict[str, str]] = json.loads(table["data"])
    return found


def states(state: Any, api: Any) -> list[str]:
    return [row["state"] for row in rows(state, api)]


def test_a_paid_result_that_no_run_waits_for_is_claimed(oxen, sandbox, clip, tmp_path, api) -> None:
    submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
    first = settle_upscales(f"{tmp_path}/", oxen, return_state=True)
    assert (first.result().stored, states(first, api)) == ((), ["running"])
    second = settle_upscales(f"{tmp_path}/", oxen, return_state=True)
    (video,) = second.result().stored
    assert states(second, api) == ["stored"]
    assert Path(video.url) == tmp_path / "clip-1080p.mp4"
    assert not settle_upscales(f"{tmp_path}/", oxen).items
    assert upscale_video(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST).cached
    assert len(sandbox.purchases()) == 1


async def test_async_callers_settle_too_and_leave_other_providers_alone(
    oxen, evolink, sandbox, clip, tmp_path
) -> None:
    job = await (await evolink.atrigger(clip, tmp_path)).await_for_completion(poll_seconds=0.05)
    assert not (await asettle_upscales(tmp_path, oxen)).items
    report = await asettle_upscales(tmp_path, evolink)
    assert [video.job_id for video in report.stored] == list(job.job.job_ids)


@pytest.fixture
def lost(evolink, sandbox, clip, tmp_path) -> str:
    """Give the work key of a purchase whose answer was lost."""
    sandbox.fault("submit", "cut")
    sandbox.fault("list", "refused", status=403)
    with pytest.raises(OutcomeUnknown) as caught:
        upscale_video(clip, f"{tmp_path}/", evolink, **FAST)
    sandbox.fault("list", "refused", status=403)
    return str(caught.value.work_key)


def test_what_nobody_knows_waits_for_a_ruling_with_the_next_step(
    lost, evolink, tmp_path, api
) -> None:
    state = settle_upscales(f"{tmp_path}/", evolink, return_state=True)
    (item,) = state.result().undecided
    assert states(state, api) == ["undecided"]
    assert (item.work_key, item.billed) == (lost, "maybe")
    assert all(word in item.detail for word in ("adopt", "buy_again", "give_up", lost))


def test_a_ruled_job_is_adopted_and_stored(lost, evolink, sandbox, tmp_path) -> None:
    (purchase,) = sandbox.purchases()
    report = settle_upscales(f"{tmp_path}/", evolink, adopt={lost: purchase.job_id})
    while not report.stored:
        assert [item.state for item in report.items] == ["running"]
        report = settle_upscales(f"{tmp_path}/", evolink)
    assert [video.job_id for video in report.stored] == [purchase.job_id]
    assert sandbox.ledger.submits == 1


def test_work_that_is_released_is_bought_by_the_next_run(
    lost, evolink, sandbox, clip, tmp_path
) -> None:
    report = settle_upscales(f"{tmp_path}/", evolink, buy_again=[lost])
    assert [item.state for item in report.items] == ["released"]
    assert sandbox.ledger.submits == 1
    assert not upscale_video(clip, f"{tmp_path}/", evolink, **FAST).cached


@pytest.mark.parametrize("ruling", [{"buy_again": ["clip.mp4"]}, {"adopt": {"x": "y"}}])
def test_a_ruling_on_work_that_is_not_there_is_refused(
    ruling: dict[str, Any], evolink: EvoLinkUpscaler, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest):
        settle_upscales(f"{tmp_path}/", evolink, **ruling)


def test_an_empty_journal_is_settled(oxen: OxenUpscaler, tmp_path: Path) -> None:
    assert settle_upscales(f"{tmp_path}/nothing/", oxen).items == ()


def test_the_form_takes_one_job_or_a_list_of_them() -> None:
    block = {"credentials": {"api_key": "key"}}
    for jobs in ("one", ["one", "two"]):
        given = {"destination": "/videos/", "upscaler": block, "adopt": {"key": jobs}}
        assert settle_upscales.validate_parameters(given)["adopt"] == {"key": jobs}


def test_what_may_have_been_paid_for_nothing_is_summed_in_the_table(
    lost, evolink, tmp_path, api
) -> None:
    state = settle_upscales(f"{tmp_path}/", evolink, give_up=[lost], return_state=True)
    given_up, total = rows(state, api)
    assert (given_up["state"], given_up["billed"]) == ("given_up", "maybe")
    assert (total["state"], total["source"]) == ("sum", "1 abandoned")
    assert total["cost"] == state.result().abandoned_cost == "1 of unknown cost"


def test_a_ruling_is_written_down_with_the_flow_run_and_the_account(
    lost, evolink, tmp_path
) -> None:
    state = settle_upscales(f"{tmp_path}/", evolink, give_up=[lost], return_state=True)
    events = [json.loads(file.read_text()) for file in (tmp_path / ".topaz" / lost).glob("*.json")]
    (event,) = (one for one in events if "ruling" in one)
    assert (event["ruling"], event["ruled_by"]) == ("give_up", getpass.getuser())
    assert event["flow_run_id"] == str(state.state_details.flow_run_id)
    assert event["at"]


@pytest.mark.parametrize(
    ("creator", "said"),
    [
        ({"type": "USER", "display_value": "ada"}, "ada"),
        ({"type": "AUTOMATION", "display_value": "after a crash"}, "automation after a crash"),
        ({"type": "SCHEDULE", "display_value": None}, getpass.getuser()),
        (None, getpass.getuser()),
    ],
)
def test_who_rules_is_who_prefect_says_started_the_run(creator: Any, said: str) -> None:
    run = FlowRun.model_validate({"flow_id": "0" * 32, "created_by": creator})
    with FlowRunContext.model_construct(flow_run=run):
        assert person() == said


def test_a_deployed_flow_rules_as_well(lost, evolink, tmp_path) -> None:
    """What `flows/settle.py` does: the body of the flow in a flow run of its own."""

    @flow
    async def settle() -> Any:
        return await asettle_upscales.fn(f"{tmp_path}/", evolink, buy_again=[lost])

    assert [item.state for item in asyncio.run(settle()).items] == ["released"]
