"""Ways to die, and ways to lose an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect_topaz.sandbox import Sandbox
from tests.crash.world import PAYING, Case

When = Callable[[Sandbox], bool]


@dataclass(frozen=True)
class Fault:
    """A fault to ask the sandbox for."""

    operation: str
    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Death:
    """How one run of the client goes wrong.

    Attributes:
        fatal: The effect before which it is killed, by its number or its name.
        torn: Whether it dies in the first write after that effect instead.
        faults: What the provider does to it.
        when: Tells by the sandbox that it shall be killed.
        changes: Further fields of the order.
        survives: Whether it is not killed: an answer is lost, and no process.
    """

    fatal: int | str | None = None
    torn: bool = False
    faults: tuple[Fault, ...] = ()
    when: When | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    survives: bool = False


@dataclass(frozen=True)
class Scenario:
    """A row's beginning: the runs that go wrong, in turn, before the one that must not.

    Attributes:
        name: The row's name; that of the last fatal effect is added to it.
        deaths: What goes wrong.
        flow: Whether the client is the real flow, with a Prefect server.
    """

    name: str
    deaths: tuple[Death, ...]
    flow: bool = False


def _bought(sandbox: Sandbox) -> bool:
    return bool(sandbox.purchases())


def _asked(method: str, prefixes: tuple[str, ...], times: int = 1) -> When:
    def asked(sandbox: Sandbox) -> bool:
        every = sandbox.requests()
        fitting = [r for r in every if r.method == method and r.path.startswith(prefixes)]
        return len(fitting) >= times

    return asked


_STATUS = ("/api/ai/queue/", "/v1/tasks/")
_RESULT = ("/results/", "/api/repos/")
_LONG = {"seconds": 30.0}


def deaths_on_the_wire(case: Case) -> list[Scenario]:
    """List the deaths while a request is on its way; the sandbox tells when to kill."""
    submit = "generate" if case.options.get("mode") == "sync" else "submit"
    untaken = Fault(submit, "delay", {"seconds": 30.0, "accepted": False})
    unread = Fault(submit, "delay", _LONG)
    slow_status = Fault("status", "delay", _LONG)
    slow_result = Fault("result", "delay", _LONG)
    half = Fault("result", "truncate")
    found = [
        ("POST arrived, not taken", (untaken,), _asked("POST", PAYING)),
        ("POST taken, answer unread", (unread,), _bought),
        ("during a look at the job", (slow_status,), _asked("GET", _STATUS)),
        ("download asked for", (slow_result,), _asked("GET", _RESULT)),
        ("in mid-download", (half, slow_result), _asked("GET", _RESULT, 2)),
    ]
    if submit == "generate":
        found.pop(2)  # its answer is the result
    return [Scenario(name, (Death(faults=faults, when=when),)) for name, faults, when in found]


def lost_answers(case: Case) -> list[Scenario]:
    """List the ways in which an answer to the paid request is lost and no process dies."""
    submit = "generate" if case.options.get("mode") == "sync" else "submit"
    hurry = {"read_seconds": 0.3}
    found: list[tuple[str, Fault, dict[str, Any]]] = [
        ("cut after accept", Fault(submit, "cut"), {}),
        ("502 after accept", Fault(submit, "5xx", {"status": 502, "accepted": True}), {}),
        ("read time-out", Fault(submit, "delay", {"seconds": 1.0}), hurry),
        ("garbage instead of JSON", Fault(submit, "garbage"), {}),
    ]
    if case.provider == "oxen" and submit == "submit":
        found.append(("empty generations", Fault(submit, "empty"), {}))
    return [
        Scenario(name, (Death(faults=(fault,), changes=changes, survives=True),))
        for name, fault, changes in found
    ]


def deaths_at_effects(labels: list[str], before: tuple[Death, ...] = ()) -> list[Scenario]:
    """List a death before each effect, and one in the middle of each write.

    Args:
        labels: The effects of a run that was not killed.
        before: The deaths of earlier runs.
    """
    found: list[Scenario] = []
    where = " again" * len(before)
    for number, label in enumerate(labels, start=1):
        found.append(Scenario(f"{number:3d}{where} before:", (*before, Death(number))))
        if label.startswith("write "):
            torn = Death(number, torn=True)
            found.append(Scenario(f"{number:3d}{where} in the middle of:", (*before, torn)))
    return found


# Where the steps of the flow hand over to each other. A death between the intent and the record of
# the job is left to the fast rows: here the next run would wait five real minutes for its owner.
_TURNS = (
    "link destination/.topaz/*/0001.json",
    "link destination/.topaz/*/0003.json",
    "write destination/.topaz/*/part-*/*.part",
    "rename destination/{name}.mp4",
    "link destination/.topaz/*/0004.json",
    "the end of the process",
)


def deaths_of_the_flow(case: Case) -> list[Scenario]:
    """List the deaths that are tried with the real flow."""
    name = "clip-1080p" if case.provider == "oxen" else "clip-2x"
    turns = [
        Scenario("flow, before:", (Death(turn.format(name=name)),), flow=True) for turn in _TURNS
    ]
    requests = deaths_on_the_wire(case)[2:]
    return turns + [Scenario(f"flow, {one.name}", one.deaths, flow=True) for one in requests]
