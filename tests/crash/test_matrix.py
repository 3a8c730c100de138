"""A part of the crash matrix with every kind of death in it; `python -m tests.crash` plays it all."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.crash.__main__ import main
from tests.crash.inspection import broken_files, is_probe, leftovers, missing_files
from tests.crash.matrix import BLOCKING, EVOLINK, LOCAL_FILE, OXEN, THREE, Cell, Matrix
from tests.crash.rows import RESTARTS, Row
from tests.crash.scenario import Death, Scenario, deaths_at_effects

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="effects are told by Linux's means")
providers = pytest.mark.parametrize("case", [OXEN, EVOLINK], ids=["oxen", "evolink"])

# The turns of a run, as the ends of the names of its effects.
TURNS = (
    "link destination/.topaz/*/0001.json",
    "remove destination/.topaz/*/.0001.json.*",
    "link destination/.topaz/*/0002.json",
    "write destination/.topaz/*/part-*/result.mp4",
    "rename destination/clip-1080p.mp4.json",
    "rename destination/clip-2x.mp4.json",
    "rename destination/clip-1080p.mp4",
    "rename destination/clip-2x.mp4",
    "link destination/.topaz/*/0004.json",
)
# What becomes of a job whose answer was lost: only Oxen's listing proves whose it is.
PROVEN = {"oxen": "stored", "evolink": "OutcomeUnknown, adopted"}


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def play(
    matrix: Matrix, case: object, scenarios: Iterable[Scenario], store: str = "local"
) -> list[Row]:
    """Play rows, each restarted on the other machine than the one before."""
    turns = enumerate(scenarios)
    cells = [Cell(case, store, scenario, RESTARTS[number % 2]) for number, scenario in turns]
    rows = list(matrix.play(cells))
    assert rows
    return rows


def wrong(rows: list[Row]) -> list[tuple[str, list[str]]]:
    return [(row.point, row.problems) for row in rows if row.problems]


@providers
def test_a_death_at_any_turn_buys_once_and_loses_nothing(matrix: Matrix, case):
    labels = matrix.effects(case, "local")
    fatal = [number for number, label in enumerate(labels, 1) if label in TURNS]
    fatal += [number for number, label in enumerate(labels, 1) if label == "connect"]
    every = deaths_at_effects(labels)
    rows = play(matrix, case, [one for one in every if one.deaths[0].fatal in fatal])
    assert len(rows) >= len(TURNS)
    assert wrong(rows) == []
    assert {row.purchases for row in rows} == {1}


@providers
def test_a_death_during_any_request_buys_once_and_loses_nothing(matrix: Matrix, case):
    rows = play(matrix, case, matrix.scenarios(case, "local", ["wire"]))
    assert wrong(rows) == []
    outcomes = {row.point: row.outcome for row in rows}
    assert outcomes["POST taken, answer unread"] == PROVEN[case.name]
    assert outcomes["in mid-download"] == "stored"


@providers
def test_a_lost_answer_is_looked_up_or_asked_about_and_never_sent_again(matrix: Matrix, case):
    rows = play(matrix, case, matrix.scenarios(case, "local", ["answers"]))
    assert wrong(rows) == []
    assert {row.outcome for row in rows if row.point == "cut after accept"} == {PROVEN[case.name]}


@pytest.mark.parametrize("case", [THREE, BLOCKING, LOCAL_FILE], ids=lambda case: case.name)
def test_other_purchases_survive_a_cut_and_a_death_before_the_record(matrix: Matrix, case):
    cut = next(iter(matrix.scenarios(case, "local", ["answers"])))
    labels = matrix.effects(case, "local")
    record = labels.index("link destination/.topaz/*/0002.json") + 1
    death = Scenario("before the record of the purchase", (Death(record),))
    assert wrong(play(matrix, case, [cut, death])) == []


def test_on_s3_a_death_before_a_write_buys_once_and_loses_nothing(matrix: Matrix):
    labels = matrix.effects(OXEN, "s3")
    assert len(labels) >= 8  # four events, three files, the end
    rows = play(matrix, OXEN, deaths_at_effects(labels)[1:-1:3], "s3")
    assert wrong(rows) == []


def test_a_second_purchase_is_noticed(matrix: Matrix, tmp_path: Path):
    """The matrix can fail: here the first run keeps its journal where nobody finds it again."""
    elsewhere = Death(changes={"destination": f"{tmp_path}/"}, survives=True)
    (row,) = play(matrix, OXEN, [Scenario("forgotten", (elsewhere,))])
    assert "2 jobs were bought instead of 1" in row.problems


def test_a_run_that_was_not_killed_is_noticed(matrix: Matrix):
    (row,) = play(matrix, OXEN, [Scenario("too late", (Death(fatal=1000),))])
    assert any(problem.startswith("it was not killed") for problem in row.problems)


def test_half_of_a_file_under_a_final_name_is_noticed():
    found = {"clip.mp4": b"half", "clip.mp4.json": b'{"byt', ".topaz/k/0001.json": b""}
    assert len(list(broken_files(found))) == 3


def test_what_is_missing_and_what_is_left_is_noticed():
    found = {"clip.mp4": b"", ".topaz/k/0002.json": b"", ".clip.mp4.x.part": b""}
    assert len(list(missing_files(OXEN, found))) == 2
    assert leftovers(found) == [".clip.mp4.x.part"]


def test_only_the_few_bytes_of_a_probe_may_stay():
    name = f".topaz/.{'a' * 32}"
    assert is_probe(name, b"one")
    assert not is_probe(name, b"a journal's event")
    assert not is_probe(f".topaz/k/.0001.json.{'a' * 32}", b"one")


def test_the_command_prints_the_table(capsys):
    assert main(["--case", "oxen", "--store", "local", "--kind", "wire", "--every", "7"]) == 0
    shown = capsys.readouterr().out
    assert "POST arrived, not taken" in shown
    assert "0 wrong" in shown


def test_the_command_fails_when_it_has_played_nothing(capsys):
    words = ["--case", "evolink", "--store", "local", "--kind", "recovery"]
    assert main(words) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 rows")
