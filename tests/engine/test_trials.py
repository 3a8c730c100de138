"""What a dead process leaves of trying a store out is removed, an hour later, and nothing else."""

import time

import fsspec
import pytest

from prefect_topaz import engine
from prefect_topaz.engine.trials import sweep_trials
from prefect_topaz.models import Place
from prefect_topaz.places import Folder, check_exclusive, open_folder
from tests.engine.bench import Bench
from tests.fixtures_s3 import Bucket

TRIAL = ".0123456789abcdef0123456789abcdef"


@pytest.fixture
def journal(s3: Bucket) -> Folder:
    return open_folder(Place(url=f"{s3.url}/out/.topaz", options=s3.options))


def names(journal: Folder) -> list[str]:
    journal.fs.invalidate_cache()
    return sorted(path.removeprefix(f"{journal.path}/") for path in journal.fs.find(journal.path))


@pytest.mark.parametrize("name", [TRIAL, f"{TRIAL}.part"])
def test_a_trial_file_goes_after_an_hour(journal: Folder, name):
    journal.fs.pipe_file(journal.file(name), b"one")
    sweep_trials(journal, time.time() + 3500)
    assert names(journal) == [name]
    sweep_trials(journal, time.time() + 3700)
    assert names(journal) == []


def test_the_real_trial_is_of_the_kind_that_is_swept(journal: Folder, monkeypatch):
    monkeypatch.setattr(journal.fs, "rm_file", None)  # its writer dies before that
    check_exclusive(journal)
    monkeypatch.undo()
    assert len(names(journal)) == 1
    sweep_trials(journal, time.time() + 3700)
    assert names(journal) == []


@pytest.mark.parametrize("name", ["0001.json", TRIAL[1:], f".x{TRIAL}", f"{TRIAL}/0001.json"])
def test_nothing_else_is_swept(journal: Folder, name):
    journal.fs.pipe_file(journal.file(name), b"one")
    sweep_trials(journal, time.time() + 10**6)
    assert names(journal) == [name]


def test_a_larger_file_of_such_a_name_is_somebody_elses(journal: Folder):
    journal.fs.pipe_file(journal.file(TRIAL), b"four")
    sweep_trials(journal, time.time() + 10**6)
    assert names(journal) == [TRIAL]


def test_a_store_that_cannot_be_listed_stops_nothing(s3: Bucket):
    sweep_trials(Folder(s3.fs, "no-such-bucket/out/.topaz"), time.time())


async def test_settling_sweeps(bench: Bench, journal: Folder, s3: Bucket):
    journal.fs.pipe_file(journal.file(TRIAL), b"two")
    bench.clock.passed += time.time() - bench.clock.unix() + 3700
    place = Place(url=journal.fs.unstrip_protocol(journal.path), options=s3.options)
    report = await engine.settle(bench.context(), bench.place(), place)
    assert report.items == ()
    assert names(journal) == []


def test_a_local_journal_is_left_alone(tmp_path):
    (tmp_path / TRIAL).write_bytes(b"one")
    folder = Folder(fsspec.filesystem("file"), str(tmp_path))
    sweep_trials(folder, time.time() + 10**6)
    assert (tmp_path / TRIAL).exists()
