"""The crash matrix: every way to die, for every purchase, restarted in every place."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect_topaz.sandbox import make_clip
from tests.crash.children import Children
from tests.crash.rows import RESTARTS, Restart, Row, play
from tests.crash.scenario import (
    Death,
    Scenario,
    deaths_at_effects,
    deaths_on_the_wire,
    lost_answers,
)
from tests.crash.stores import s3_folder, s3_server
from tests.crash.world import Case, World

Store = Literal["local", "s3"]
Kind = Literal["effects", "wire", "answers", "recovery"]
KINDS: tuple[Kind, ...] = ("effects", "wire", "answers", "recovery")

OXEN = Case("oxen", "oxen")
EVOLINK = Case("evolink", "evolink", lookup=False)
CASES = (
    OXEN,
    EVOLINK,
    Case("oxen, three videos", "oxen", {"num_generations": 3}, generations=3),
    Case("oxen, blocking", "oxen", {"mode": "sync"}),
    Case("evolink, local file", "evolink", upload=True, lookup=False),
)


@dataclass(frozen=True)
class Cell:
    """A row to play.

    Attributes:
        case: What is bought.
        store: Where the result goes.
        scenario: How the client dies.
        restart: Where it is started again.
    """

    case: Case
    store: Store
    scenario: Scenario
    restart: Restart


class Matrix:
    """Plays rows side by side; use it in a `with` statement.

    Args:
        workers: How many rows at a time.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._idle: queue.SimpleQueue[Children] = queue.SimpleQueue()
        self._address: str | None = None

    def __enter__(self) -> Matrix:
        """Start what starts processes."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-")))
            self._clip = make_clip(folder / "clip.mp4", seconds=0.5, size=(64, 36), fps=10)
            for _ in range(self._workers):
                self._idle.put(stack.enter_context(Children()))
            self._pool = stack.enter_context(ThreadPoolExecutor(self._workers))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._stack.close()

    def play(self, cells: Iterable[Cell]) -> Iterator[Row]:
        """Play rows, and give each as soon as those before it are known."""

        def one(cell: Cell) -> Row:
            name = cell.case.name if cell.store == "local" else f"{cell.case.name}, {cell.store}"
            return self._in_world(
                cell.case, cell.store, lambda world: play(world, cell.scenario, cell.restart, name)
            )

        return self._pool.map(one, cells)

    def effects(self, case: Case, store: Store, *deaths: Death) -> list[str]:
        """Learn what a run does that is not killed, after runs that are."""

        def learn(world: World) -> list[str]:
            for death in deaths:
                for fault in death.faults:
                    world.sandbox.fault(fault.operation, fault.kind, **fault.details)
                world.run(world.machine, fatal=death.fatal, torn=death.torn, when=death.when)
            return world.run(world.machine).effects

        return self._in_world(case, store, learn)

    def scenarios(self, case: Case, store: Store, kinds: Sequence[Kind]) -> Iterator[Scenario]:
        """List the ways to die that a purchase has."""
        if "effects" in kinds:
            yield from deaths_at_effects(self.effects(case, store))
        if "wire" in kinds:
            yield from deaths_on_the_wire(case)
        if "answers" in kinds:
            yield from lost_answers(case)
        if "recovery" in kinds and case.lookup:
            unread = deaths_on_the_wire(case)[1].deaths
            yield from deaths_at_effects(self.effects(case, store, *unread), unread)

    def _in_world(self, case: Case, store: Store, work: Callable[[World], Any]) -> Any:
        children = self._idle.get()
        try:
            place = s3_folder(self._s3()) if store == "s3" else None
            with World(case, self._clip, children, place) as world:
                return work(world)
        finally:
            self._idle.put(children)

    def _s3(self) -> str:
        if self._address is None:
            self._address = self._stack.enter_context(s3_server())
        return self._address


def cells(
    matrix: Matrix,
    cases: Sequence[Case] = CASES,
    stores: Sequence[Store] = ("local", "s3"),
    kinds: Sequence[Kind] = KINDS,
    restarts: Sequence[Restart] = RESTARTS,
) -> Iterator[Cell]:
    """List all rows of a part of the matrix."""
    for store in stores:
        for case in cases:
            for scenario in matrix.scenarios(case, store, kinds):
                for restart in restarts:
                    yield Cell(case, store, scenario, restart)
