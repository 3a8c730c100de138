"""A video goes from store to store: bought once, stored whole, and found again."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from prefect_topaz import engine
from prefect_topaz.delivery import publish
from prefect_topaz.errors import JournalUnavailable, UnusableDestination
from prefect_topaz.models import Place
from prefect_topaz.places import open_file
from prefect_topaz.providers import load
from prefect_topaz.sources import open_source
from tests.engine.bench import Bench
from tests.stores.conftest import JOURNALS, KINDS
from tests.stores.stored import Stored

NAME = "clip-1080p.mp4"
DAY = 86_400.0


def journal_for(kind: str, bench: Bench) -> Place | None:
    """FTP cannot hold a journal."""
    return bench.place("journal") if kind == "ftp" else None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_result_is_bought_once_and_found_again(kind, stored, bench: Bench):
    place = stored(kind)
    order = {"destination": place.place(), "journal": journal_for(kind, bench)}
    (video,) = await bench.deliver(**order)
    assert len(open_file(place.place(), video.url)) == video.bytes
    beside = [] if kind == "ftp" else [".topaz"]
    assert place.names() == [*beside, NAME, f"{NAME}.jpg", f"{NAME}.json"]
    (again,) = await bench.deliver(**order)
    assert again.cached
    assert (again.url, again.sha256) == (video.url, video.sha256)
    assert bench.posts == 1


@pytest.mark.parametrize(
    ("here", "there", "provider"),
    [
        ("s3", "sftp", "oxen"),
        ("sftp", "azure", "evolink"),
        ("azure", "ftp", "oxen"),
        ("ftp", "s3", "evolink"),
        ("memory", "local", "evolink"),
    ],
)
async def test_a_source_on_one_store_gets_its_result_on_another(
    here, there, provider, stored, bench: Bench
):
    origin, place = stored(here), stored(there)
    publish(bench.clip, origin.folder, "clip.mp4")
    dialect = load(provider)(bench.sandbox.url)
    source = await open_source("clip.mp4", dialect, storage=origin.place())
    order = {
        "source": source,
        "destination": place.place(),
        "journal": journal_for(there, bench),
    }
    (video,) = await bench.deliver(provider, **order)
    assert len(open_file(place.place(), video.url)) == video.bytes
    assert bench.clip.exists()
    (again,) = await bench.deliver(provider, **order)
    assert again.cached
    assert bench.posts == 1


async def test_from_s3_to_sftp_it_needs_nothing_but_the_stores_own_credentials(
    stored, s3, ssh_home, s3_environment, bench: Bench
):
    publish(bench.clip, Stored("s3", s3.url, s3.options).folder, "clip.mp4")
    dialect = load("oxen")(bench.sandbox.url)
    source = await open_source(f"{s3.url}/clip.mp4", dialect)
    place = Place(url=stored("sftp").url + "/")
    (video,) = await bench.deliver(source=source, destination=place)
    assert video.url == f"{place.url}{NAME}"
    (again,) = await bench.deliver(source=source, destination=place)
    assert again.cached
    assert bench.posts == 1


async def test_a_server_that_shows_another_key_than_known_costs_nothing(
    stored, serve, ssh_home, bench: Bench
):
    port, key = serve("sftp").port, (ssh_home / "id_ed25519").with_suffix(".pub")
    key.write_bytes(Path(serve("sftp").options["key_filename"]).with_suffix(".pub").read_bytes())
    (ssh_home / "known_hosts").write_text(f"[127.0.0.1]:{port} {key.read_text()}")
    # By its user's name it is a server that this process has not met yet.
    url = stored("sftp").url.replace("://", f"://{getpass.getuser()}@")
    with pytest.raises(JournalUnavailable, match="BadHostKeyException"):
        await bench.deliver(destination=Place(url=f"{url}/out/"))
    assert bench.posts == 0


@pytest.mark.parametrize("url", ["sftp://127.0.0.1:9/out/", "ftp://127.0.0.1:9/out/"])
async def test_a_server_that_does_not_answer_costs_nothing(url, bench: Bench):
    with pytest.raises(UnusableDestination, match="cannot be looked at"):
        await bench.deliver(destination=Place(url=url), journal=bench.place("journal"))
    assert bench.posts == 0


async def test_ftp_without_a_journal_elsewhere_costs_nothing(stored, bench: Bench):
    with pytest.raises(UnusableDestination, match="Pass journal= with a folder on"):
        await bench.deliver(destination=stored("ftp").place())
    assert bench.posts == 0


@pytest.mark.parametrize("kind", JOURNALS)
async def test_a_destination_with_placeholders_is_the_same_on_another_day(
    kind, stored, bench: Bench
):
    place = stored(kind)
    destination = place.place("{date}/{provider}/{stem}-{label}.mp4")
    (video,) = await bench.deliver(destination=destination)
    assert place.names() == [".topaz", "2026-03-01"]
    assert place.names("2026-03-01/oxen") == [NAME, f"{NAME}.jpg", f"{NAME}.json"]
    bench.clock.passed += 3 * DAY
    (again,) = await bench.deliver(destination=destination)
    assert again.cached
    assert again.url == video.url
    assert bench.posts == 1


async def test_what_was_ordered_to_placeholders_is_settled_under_the_day_of_its_purchase(
    stored, bench: Bench
):
    destination = stored("sftp").place("{date}/{work_key}.mp4")
    job = await bench.submit(destination=destination)
    bench.clock.passed += DAY
    context = bench.context()
    journal = engine.journal_of(destination)
    for _ in range(3):
        report = await engine.settle(context, destination, journal)
    assert [item.state for item in report.items] in ([], ["stored"])
    assert f"2026-03-01/{job.work_key}.mp4" in str(open_names(destination))
    assert bench.posts == 1


def open_names(destination: Place) -> list[str]:
    folder = engine.journal_of(destination)
    fs = Stored("sftp", folder.url.rpartition("/")[0], destination.options).folder.fs
    return list(fs.find(folder.url.partition("://")[2].partition("/")[2].rpartition("/.topaz")[0]))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_path_of_5000_characters_costs_nothing(kind, stored, bench: Bench):
    long = "/".join(["x" * 99] * 50) + "/clip.mp4"
    order = {"destination": stored(kind).place(long), "journal": journal_for(kind, bench)}
    with pytest.raises(UnusableDestination, match="choose a shorter one"):
        await bench.deliver(**order)
    assert bench.posts == 0


async def test_two_sources_with_one_name_cost_one_purchase(stored, bench: Bench):
    place = stored("sftp")
    destination = place.place("{date}.mp4")
    await bench.deliver(destination=destination)
    with pytest.raises(UnusableDestination, match="choose another destination"):
        await bench.deliver("evolink", destination=destination)
    assert bench.posts == 1


async def test_a_lost_connection_to_the_journal_costs_nothing(stored, bench: Bench):
    """A server ends idle sessions while a job runs for an hour."""
    place = stored("sftp")
    job = await bench.submit(destination=place.place())
    for connection in place.folder.fs._connections:
        connection._client.get_transport().sock.close()
    context = bench.context()
    (video,) = await engine.store(context, await engine.wait(context, job))
    assert place.read(NAME) is not None
    assert not video.cached
    assert bench.posts == 1


async def test_a_journal_that_cannot_be_written_costs_nothing(serve, bench: Bench):
    server = serve("read-only sftp")
    place = Place(url=f"sftp://127.0.0.1:{server.port}{server.root}/out/", options=server.options)
    with pytest.raises(JournalUnavailable, match="nothing is bought without it"):
        await bench.deliver(destination=place)
    assert bench.posts == 0
    assert os.listdir(server.root) == []  # noqa: PTH208
