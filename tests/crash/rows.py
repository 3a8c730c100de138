"""Play one row of the matrix and judge it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.crash.children import Ended
from tests.crash.inspection import broken_files, is_probe, leftovers, missing_files
from tests.crash.scenario import Death, Scenario
from tests.crash.world import Machine, World

Restart = Literal["same machine", "another"]
RESTARTS: tuple[Restart, ...] = ("same machine", "another")


@dataclass
class Row:
    """A row of the matrix.

    Attributes:
        point: Where the client died, or what it did not hear.
        case: What was bought, and the store.
        restart: Where it was started again.
        purchases: How many jobs the provider took, in the end.
        runs: How many processes it took, in all.
        outcome: How it ended.
        leftovers: What the dead processes left at the destination, for a later run to sweep away.
        problems: What is wrong; nothing, if the promise holds.
    """

    point: str
    case: str
    restart: Restart
    purchases: int = 0
    runs: int = 0
    outcome: str = ""
    leftovers: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def play(world: World, scenario: Scenario, restart: Restart, case: str) -> Row:
    """Let the client die as told, start it again, and judge what came of it.

    Args:
        world: A fresh one.
        scenario: How it dies.
        restart: Where the further runs are.
        case: The name of what is bought.
    """
    row = Row(scenario.name, case, restart)
    again = world.machine if restart == "same machine" else world.other
    machines = [world.machine] + [again] * len(scenario.deaths)
    for machine, death in zip(machines, scenario.deaths, strict=False):
        _die(world, machine, death, row)
    expected = _expectation(world)
    ended = _run(world, again, row)
    outcome = _outcome(ended)
    if outcome != expected:
        row.problems.append(f"{outcome} instead of {expected}: {_message(ended)}")
    row.outcome = outcome
    if outcome == "OutcomeUnknown":
        row.problems += _unexplained(world, ended)
        _rule(world, again, ended, row)
    _judge(world, row)
    return row


def _die(world: World, machine: Machine, death: Death, row: Row) -> None:
    for fault in death.faults:
        world.sandbox.fault(fault.operation, fault.kind, **fault.details)
    options = {"fatal": death.fatal, "torn": death.torn, "when": death.when, **death.changes}
    row.runs += 1
    ended = world.run(machine, **options)
    if death.fatal is not None and ended.effects:
        row.point = f"{row.point} {ended.effects[-1]}"
    if ended.killed == death.survives:
        row.problems.append(f"it was not killed: {_outcome(ended)}, {_message(ended)}")
    row.problems += broken_files(world.files())


def _run(world: World, machine: Machine, row: Row) -> Ended:
    row.runs += 1
    return world.run(machine)


def _outcome(ended: Ended) -> str:
    return "killed" if ended.result is None else str(ended.result["outcome"])


def _message(ended: Ended) -> str:
    return str((ended.result or {}).get("message", f"exit status {ended.status}"))


def _expectation(world: World) -> str:
    """Say what the next run must come to, by what the dead one wrote and what was bought.

    Only an intent without an answer leaves a question, and a listing that shows the job answers it.
    """
    events, bought = world.events(), len(world.purchases)
    asked = bool(events) and events[-1] in ("intent", "unknown")
    proven = world.case.lookup and bought == world.case.generations
    return "OutcomeUnknown" if asked and not proven else "stored"


def _unexplained(world: World, ended: Ended) -> Iterator[str]:
    """Check that the error says what it means for the money, and how to settle it."""
    assert ended.result is not None
    if ended.result["billed"] == "no":
        yield "the error says that nothing was billed"
    if "settle_upscales" not in ended.result["message"]:
        yield "the error does not say what to do"
    if world.posts > 1 or len(world.purchases) > world.case.generations:
        yield f"{world.posts} orders were sent"


def _rule(world: World, machine: Machine, ended: Ended, row: Row) -> None:
    """Do what the error asks for: adopt the job that is there, or buy again."""
    assert ended.result is not None
    key = ended.result["work_key"]
    rulings: dict[str, Any]
    if world.purchases:
        row.outcome += ", adopted"
        rulings = {"adopt": {key: world.purchases[0]}}
    else:
        row.outcome += ", bought again"
        rulings = {"buy_again": [key]}
    row.runs += 1
    settled = world.run(machine, action="settle", **rulings)
    if _outcome(settled) != "settled":
        row.problems.append(f"not settled: {_outcome(settled)}, {_message(settled)}")
    last = _run(world, machine, row)
    if _outcome(last) != "stored":
        row.problems.append(f"{_outcome(last)} after the ruling: {_message(last)}")


def _judge(world: World, row: Row) -> None:
    """Compare the ledger and the destination with the promise."""
    row.purchases = len(world.purchases)
    if row.purchases != world.case.generations:
        row.problems.append(f"{row.purchases} jobs were bought instead of {world.case.generations}")
    allowed = 2 if "again" in row.outcome else 1
    if world.posts > allowed:
        row.problems.append(f"{world.posts} orders were sent instead of {allowed}")
    row.leftovers = leftovers(world.files())
    spent = world.run(world.other)
    if not spent.result or not spent.result.get("cached") or len(world.purchases) != row.purchases:
        row.problems.append(f"a further run did not find it: {_outcome(spent)}, {_message(spent)}")
    files = world.files()
    row.problems += broken_files(files)
    row.problems += missing_files(world.case, files)
    if world.children.skips_time:
        stays = [path for path in leftovers(files) if not is_probe(path, files[path])]
        row.problems += [f"left behind for good: {path}" for path in stays]
