"""The crash matrix: every way to die, for every purchase, restarted in every place."""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from typing_extensions import Self

from prefect_topaz.sandbox import make_clip
from tests.crash.children import Children
from tests.crash.rows import RESTARTS, Restart, Row, play
from tests.crash.scenario import (
    Death,
    Scenario,
    deaths_at_effects,
    deaths_of_the_flow,
    deaths_on_the_wire,
    lost_answers,
)
from tests.crash.stores import s3_folder, s3_server
from tests.crash.world import Case, World

Store = Literal["local", "s3"]
Kind = Literal["effects", "wire", "answers", "recovery", "flow"]
KINDS: tuple[Kind, ...] = ("effects", "wire", "answers", "recovery", "flow")

OXEN = Case("oxen", "oxen")
EVOLINK = Case("evolink", "evolink", lookup=False)
THREE = Case("oxen, three videos", "oxen", {"num_generations": 3}, generations=3)
BLOCKING = Case("oxen, blocking", "oxen", {"mode": "sync"})
LOCAL_FILE = Case("evolink, local file", "evolink", upload=True, lookup=False)
CASES = (OXEN, EVOLINK, THREE, BLOCKING, LOCAL_FILE)


@dataclass(frozen=True)
class Cell:
    """A row to play.

    Attributes:
        case: What is bought.
        store: Where the result goes.
        scenario: How the client dies.
        restart: Where it is started again.
        flow: Whether the client is the real flow, with a Prefect server.
    """

    case: Case
    store: Store
    scenario: Scenario
    restart: Restart
    flow: bool = False


class Matrix:
    """Plays rows side by side; use it in a `with` statement.

    Args:
        workers: How many rows at a time.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._idle: queue.SimpleQueue[Children] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._address: str | None = None
        self._flow: Children | None = None

    def __enter__(self) -> Self:
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
            with self._world(cell.case, cell.store, flow=cell.flow) as world:
                return play(world, cell.scenario, cell.restart, name)

        return self._pool.map(one, cells)

    def effects(self, case: Case, store: Store, *deaths: Death) -> list[str]:
        """Learn what a run does that is not killed, after runs that are."""

        with self._world(case, store) as world:
            for death in deaths:
                for fault in death.faults:
                    world.sandbox.fault(fault.operation, fault.kind, **fault.details)
                world.run(world.machine, fatal=death.fatal, torn=death.torn, when=death.when)
            return world.run(world.machine).effects

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
        if "flow" in kinds and store == "local" and case in (OXEN, EVOLINK):
            yield from deaths_of_the_flow(case)

    @contextmanager
    def _world(self, case: Case, store: Store, *, flow: bool = False) -> Iterator[World]:
        children = self._idle.get()
        try:
            place = s3_folder(self._s3()) if store == "s3" else None
            client = self._flows() if flow else children
            with World(case, self._clip, client, place) as world:
                yield world
        finally:
            self._idle.put(children)

    def _flows(self) -> Children:
        with self._lock:
            if self._flow is None:
                # Needs Prefect, which nothing else here does.
                from tests.crash.flow import flow_children

                self._flow = self._stack.enter_context(flow_children())
            return self._flow

    def _s3(self) -> str:
        with self._lock:
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
                    yield Cell(case, store, scenario, restart, flow=scenario.flow)
