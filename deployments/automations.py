"""Create the automations that see to paid jobs when no process is left to do it.

Run it from the repository's root once the deployments are there, and again after every change:

    python deployments/automations.py --settle settle/settle

It makes three automations, by name, in the place of earlier ones:

- settle: a cancelled or crashed run's destination is settled, which stores what is paid. It covers
  runs that end without a process, and so without a hook: suspended ones, and those of a worker
  that was stopped.
- reschedule: a crashed run is run again by its own id, and goes on with its jobs. Prefect counts
  the runs of an id in the event itself, so that the last of `--attempts` is left alone.
- zombie: a run whose heartbeat has stopped is Crashed; the other two follow.

Rules: a run's parameters are named `destination`, `upscaler` and, if there is one, `journal`, as in
this package. Upscalers are saved blocks: the key of another one is recorded nowhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prefect import get_client
from prefect.automations import (
    Automation,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    RunDeployment,
)
from prefect.client.schemas.objects import StateType

FLOWS: Final = ("upscale", "upscale-folder", "upscale-video", "upscale-videos")
_RUNS: Final = {"prefect.resource.id": "prefect.flow-run.*"}
_ENDED: Final = {f"prefect.flow-run.{state}" for state in ("Cancelled", "Crashed")}
# `Cached` is how a run of this package ends that found everything there.
_DONE: Final = {f"prefect.flow-run.{state}" for state in ("Completed", "Cached", "Failed")}
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"


def settle(deployment_id: UUID, flows: Sequence[str]) -> Automation:
    """Settle the destination of each run that was cancelled or has crashed."""
    # A template that is one expression keeps the value's type: a block stays a reference.
    given = {
        name: f"{{{{ flow_run.parameters.get('{name}') }}}}"
        for name in ("destination", "upscaler", "journal")
    }
    return Automation(
        name="topaz: settle after a cancel or crash",
        description="Stores what is paid and finished at the destination of the run that ended.",
        trigger=EventTrigger(
            expect=_ENDED,
            match=_RUNS,
            match_related=_of(flows),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(deployment_id=deployment_id, parameters=given)],
    )


def reschedule(attempts: int, flows: Sequence[str]) -> Automation:
    """Run a crashed run again, as long as it has run fewer than so many times."""
    counts = [str(count) for count in range(1, attempts)]
    return Automation(
        name="topaz: run a crashed run again",
        description=f"The same run goes on with its paid jobs; {attempts} attempts at most.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match={**_RUNS, "prefect.run-count": counts},
            match_related=_of(flows),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="The run crashed; it goes on with what it bought.",
            )
        ],
    )


def zombie(within: timedelta, flows: Sequence[str]) -> Automation:
    """Call a run crashed whose heartbeat has stopped; only deployed runs have one."""
    return Automation(
        name="topaz: a run without a heartbeat has crashed",
        description="Its process is gone, and nobody was left to say so.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *_ENDED, *_DONE},
            match=_RUNS,
            match_related=_of(flows),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No heartbeat for {within}: the run's process is gone.",
            )
        ],
    )


def _of(flows: Sequence[str]) -> dict[str, Any]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": list(flows)}


def put(automation: Automation) -> None:
    """Create an automation in the place of earlier ones of that name."""
    with get_client(sync_client=True) as client:
        for earlier in client.read_automations_by_name(automation.name):
            client.delete_automation(earlier.id)
    automation.create()


def main(arguments: Sequence[str] | None = None) -> None:
    """Create the three automations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--settle", required=True, metavar="FLOW/DEPLOYMENT")
    parser.add_argument(
        "--flow", action="append", help="a flow to watch, instead of this package's"
    )
    parser.add_argument("--attempts", type=int, default=3, help="of a run that crashes (3)")
    parser.add_argument(
        "--silence", type=float, default=540, help="seconds without a heartbeat (540: three missed)"
    )
    given = parser.parse_args(arguments)
    if given.attempts < 2:  # noqa: PLR2004  # one attempt is no retry
        parser.error("--attempts: from 2 on; leave the automation out for fewer")
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(given.settle)
    flows = given.flow or FLOWS
    made = (
        settle(deployment.id, flows),
        reschedule(given.attempts, flows),
        zombie(timedelta(seconds=given.silence), flows),
    )
    for automation in made:
        put(automation)
        print(f"created: {automation.name}")  # noqa: T201  # a script tells what it did


if __name__ == "__main__":
    main()
