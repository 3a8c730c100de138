"""The flow that people run, killed for real, with a Prefect server; `--kind flow` plays more."""

import sys
from collections.abc import Iterator

import pytest

from tests.crash.matrix import EVOLINK, OXEN, Cell, Matrix
from tests.crash.scenario import deaths_of_the_flow

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.skipif(sys.platform != "linux", reason="effects are told by Linux's means"),
]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def test_a_killed_flow_is_taken_up_on_another_machine(matrix: Matrix):
    cells = [
        Cell(case, "local", scenario, "another", flow=True)
        for case, number in ((OXEN, -1), (EVOLINK, 3))  # in mid-download, before the last rename
        for scenario in [deaths_of_the_flow(case)[number]]
    ]
    rows = list(matrix.play(cells))
    assert {row.case for row in rows} == {"oxen", "evolink"}
    assert [(row.point, row.problems) for row in rows if row.problems] == []
    assert {(row.outcome, row.purchases) for row in rows} == {("stored", 1)}
