"""Results get names that every store takes, in the destination's folder and no other."""

from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath

import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_topaz import naming
from prefect_topaz.errors import UnusableDestination
from prefect_topaz.models import Order, Place, Source
from prefect_topaz.naming import (
    FIELDS,
    Values,
    home_of,
    split_destination,
    target_names,
    tells_apart,
    values_of,
)
from tests.core.stores import RemoteStore

VALUES = Values("clip", "4k", "oxen", "ab" * 32, "2026-03-01")


def names(place, name="clip", label="4k", count=1):
    values = Values(name, label, "oxen", "ab" * 32, "2026-03-01")
    return target_names(Place(url=str(place)), values, count)[1]


def target(url, values=VALUES):
    folder, (name,) = target_names(Place(url=str(url)), values, 1)
    return folder.file(name)


def split(url, **options):
    folder, name = split_destination(Place(url=str(url), options=options))
    return folder.url, name


def test_results_in_a_folder_are_named_by_source_and_order(tmp_path):
    assert names(tmp_path) == ["clip-4k.mp4"]
    assert names(tmp_path, count=3) == ["clip-4k.mp4", "clip-4k-2.mp4", "clip-4k-3.mp4"]


def test_a_chosen_name_is_kept_and_further_results_are_numbered(tmp_path):
    chosen = tmp_path / "out" / "final.cut.MOV"
    assert names(chosen, count=2) == ["final.cut.MOV", "final.cut-2.MOV"]


UNSAFE = [
    ("", "video"),
    ("..", "video"),
    ("../../etc/passwd", "_.._etc_passwd"),
    ("a/b\\c:d*e?f", "a_b_c_d_e_f"),
    (".hidden", "hidden"),
    ("new\nline\x00", "new_line_"),
    ("\x7f\x9b", "__"),
    ("\udcff", "_"),
    ("épée 漢字", "épée 漢字"),
]


@pytest.mark.parametrize(("name", "safe"), UNSAFE)
def test_unsafe_names_are_made_safe(name, safe, tmp_path):
    assert names(tmp_path, name) == [f"{safe}-4k.mp4"]


@pytest.mark.parametrize(("name", "safe"), UNSAFE)
@pytest.mark.parametrize("field", ["stem", "label", "provider"])
def test_unsafe_values_of_placeholders_are_made_safe(name, safe, field, tmp_path):
    values = Values(**{**VALUES.__dict__, field: name})
    template = f"{tmp_path}/a{{{field}}}/{{{field}}}/{{{field}}}.mp4"
    assert target(template, values) == f"{tmp_path}/a{safe}/{safe}/{safe}.mp4"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text() | st.text("./\\:~{}", max_size=12) | st.text(min_size=200),
    count=st.integers(1, 4),
    template=st.sampled_from(["", "/{stem}.mp4", "/{stem}/{stem}.mp4", "/{stem}/"]),
)
def test_no_source_name_leads_out_of_the_folder_or_is_refused_by_a_disk(
    name, count, template, tmp_path
):
    """What a store refuses would be found only after the purchase."""
    values = Values(name, "4k", "oxen", "ab" * 32, "2026-03-01")
    folder, found = target_names(Place(url=f"{tmp_path}{template}"), values, count)
    assert len(set(found)) == count
    inside = Path(folder.path).relative_to(tmp_path)
    assert len(inside.parts) == template.count("{stem}/")
    assert ".." not in inside.parts
    Path(folder.path).mkdir(exist_ok=True)
    for one in found:
        assert PurePosixPath(one).name == one
        path = Path(LocalFileSystem._strip_protocol(f"{folder.path}/{one}"))
        assert path.parent == Path(folder.path)
        assert len(f"{one}.json".encode()) <= 255
        path.touch()
        path.unlink()


def test_every_placeholder_stands_for_its_value_in_folders_and_file(tmp_path):
    template = f"{tmp_path}/{{date}}/{{provider}}/{{stem}}-{{label}}-{{work_key}}.mp4"
    assert target(template) == f"{tmp_path}/2026-03-01/oxen/clip-4k-{'ab' * 32}.mp4"


def test_a_folder_with_placeholders_takes_files_with_the_usual_names(tmp_path):
    assert target(f"{tmp_path}/{{date}}/") == f"{tmp_path}/2026-03-01/clip-4k.mp4"
    assert target(f"{tmp_path}/{{date}}") == f"{tmp_path}/2026-03-01/clip-4k.mp4"


def test_further_results_of_a_file_with_placeholders_are_numbered(tmp_path):
    assert names(f"{tmp_path}/{{stem}}.mov", count=3) == ["clip.mov", "clip-2.mov", "clip-3.mov"]


def test_doubled_braces_are_braces(tmp_path):
    assert target(f"{tmp_path}/{{{{x}}}}/{{stem}}.mp4") == f"{tmp_path}/{{x}}/clip.mp4"
    assert target(f"{tmp_path}/{{{{x}}}}.mp4") == f"{tmp_path}/{{x}}.mp4"


def test_braces_of_a_source_name_are_no_placeholders(tmp_path):
    assert names(f"{tmp_path}/{{stem}}.mp4", "{date}{{") == ["{date}{{.mp4"]


def test_the_day_is_that_of_the_purchase_in_utc():
    late = datetime(2026, 3, 1, 22, 30, tzinfo=timezone(timedelta(hours=-5)))
    source = Source(identity="sha256:1", label="clip.mp4", name="clip")
    order = Order(provider="oxen", model="m", label="4k")
    values = values_of(source, order, "key", late)
    assert values == Values("clip", "4k", "oxen", "key", "2026-03-02")


@pytest.mark.parametrize(
    "part", ["{}", "{name}", "{stem!r}", "{stem:>9}", "{stem.x}", "{0}", "{stem", "stem}", "a}{b"]
)
def test_braces_that_are_no_placeholder_are_refused_with_the_five_and_the_way_out(part, tmp_path):
    for ask in (target, lambda url: home_of(Place(url=url))):
        with pytest.raises(UnusableDestination, match="braces that are no placeholder") as caught:
            ask(f"{tmp_path}/{part}.mp4")
        for field in FIELDS:
            assert f"{{{field}}}" in str(caught.value)
        assert "double the braces of a name: {{ and }}" in str(caught.value)
        assert caught.value.billed == "no"


@pytest.mark.parametrize("url", ["s3://{stem}/x.mp4", "s3://{date}", "sftp://{stem}@host/x.mp4"])
def test_a_placeholder_for_a_server_or_bucket_is_refused(url):
    with pytest.raises(UnusableDestination, match="placeholder for its server or bucket"):
        home_of(Place(url=url))


@pytest.mark.parametrize(
    ("given", "home"),
    [
        ("out/{date}/{stem}.mp4", "out"),
        ("out/{date}/", "out"),
        ("out/a-{date}/b/c.mp4", "out"),
        ("out/a/{stem}.mp4", "out/a"),
        ("{stem}.mp4", ""),
        ("out/{{a}}/{stem}.mp4", "out/{a}"),
        ("out/clip.mp4", "out"),
        ("out/{{a}}.mp4", "out"),
        ("out/", "out"),
    ],
)
def test_the_home_of_a_destination_is_before_the_first_placeholder(given, home, memory, tmp_path):
    memory_home = f"memory:///base/{home}".rstrip("/")
    assert home_of(Place(url=f"memory://base/{given}")).url == memory_home
    assert home_of(Place(url=f"{tmp_path}/{given}")).url == str(tmp_path / home)


def test_the_home_of_a_relative_name_is_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert home_of(Place(url="{stem}.mp4")).url == str(tmp_path)
    assert home_of(Place(url="/{stem}.mp4")).url == "/"


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ("out/", {"stem"}),
        ("out/{date}/", {"stem"}),
        ("out/clip.mp4", set()),
        ("out/{date}.mp4", set()),
        ("out/{stem}/x.mp4", {"stem"}),
        ("out/{work_key}.mp4", {"work_key"}),
        ("out/{work_key}/", {"stem", "work_key"}),
    ],
)
def test_it_is_known_what_tells_the_results_of_two_sources_apart(given, fields):
    assert tells_apart(Place(url=given)) == fields


@pytest.mark.parametrize(
    ("given", "folder", "name"),
    [
        ("out/", "out", None),
        ("out", "out", None),
        ("out/v1.2", "out/v1.2", None),
        ("out/.hidden", "out/.hidden", None),
        ("out/clip.mp4", "out", "clip.mp4"),
        ("out/clip.mp4/", "out/clip.mp4", None),
        ("out/clip.final.MP4", "out", "clip.final.MP4"),
        ("out/clip.webm", "out", "clip.webm"),
        ("clip.mp4", "", "clip.mp4"),
        ("there", "there", None),
        ("there.mp4", "there.mp4", None),
        ("there.mp4/clip.mp4", "there.mp4", "clip.mp4"),
        ("out/clip [1] 100%#?.mp4", "out", "clip [1] 100%#?.mp4"),
    ],
)
def test_a_destination_is_a_folder_if_it_says_so_or_exists_or_does_not_end_as_a_video(
    given, folder, name, tmp_path
):
    (tmp_path / "there").mkdir()
    (tmp_path / "there.mp4").mkdir()
    given = f"{tmp_path}/{given}"
    assert split(given) == (str(tmp_path / folder), name)
    assert split(f"file://{given}") == (str(tmp_path / folder), name)


@pytest.mark.parametrize(
    ("given", "folder", "name"),
    [
        ("memory://", "memory:///", None),
        ("memory://out/", "memory:///out", None),
        ("memory://out", "memory:///out", None),
        ("memory://out/clip.mp4", "memory:///out", "clip.mp4"),
        ("memory://there.mp4", "memory:///there.mp4", None),
        ("memory://clip.mp4", "memory://", "clip.mp4"),
    ],
)
def test_destinations_in_memory_are_split_alike(given, folder, name, memory):
    memory.makedirs("/there.mp4")
    assert split(given) == (folder, name)


@pytest.mark.parametrize(
    ("given", "folder", "name"),
    [
        ("", "", None),
        ("/", "", None),
        ("/out/", "/out", None),
        ("/out", "/out", None),
        ("/out/clip.mp4", "/out", "clip.mp4"),
        ("/clip.mp4", "", "clip.mp4"),
        ("/there.mp4", "/there.mp4", None),
        ("/there.mp4/clip.mp4", "/there.mp4", "clip.mp4"),
    ],
)
def test_destinations_on_s3_are_split_alike(given, folder, name, s3):
    s3.fs.pipe_file(f"{s3.url}/there.mp4/x", b"x")
    assert split(s3.url + given, **s3.options) == (s3.url + folder, name)


def test_a_relative_destination_lies_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split("out/clip.mp4") == (str(tmp_path / "out"), "clip.mp4")
    assert split("clip.mp4") == (str(tmp_path), "clip.mp4")
    assert split("/clip.mp4")[1] == "clip.mp4"
    folder, _ = split_destination(Place(url="/clip.mp4"))
    assert folder.file("clip.mp4") == "/clip.mp4"
    assert split("/") == ("/", None)


@pytest.mark.parametrize("url", ["", "  "])
def test_an_empty_destination_is_refused(url):
    with pytest.raises(UnusableDestination, match="empty"):
        split(url)


def test_a_store_that_does_not_answer_is_one_clear_error(monkeypatch):
    store = RemoteStore()
    store.broken["isdir"] = PermissionError("no access to https://host/x?sig=CANARY")
    monkeypatch.setattr(naming, "open_place", lambda _: (store, "/out/clip.mp4"))
    with pytest.raises(UnusableDestination, match=r"looked at \(PermissionError") as caught:
        split("remote://out/clip.mp4")
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_bucket_that_refuses_is_one_clear_error(s3):
    with pytest.raises(UnusableDestination, match="s3://bucket/out cannot be looked at"):
        split("s3://bucket/out", client_kwargs={"endpoint_url": "http://127.0.0.1:9"})


def test_a_name_that_is_as_long_as_stores_take_is_taken_with_all_that_lies_beside_it(tmp_path):
    name = "é" * 123 + ".mp4"
    assert len(name.encode()) == 250
    assert names(tmp_path / name) == [name]
    (tmp_path / f"{name}.json").touch()


@pytest.mark.parametrize("url", ["{tmp}/{long}.mp4", "{tmp}/x/{{work_key}}-{stem}{stem}.mp4"])
def test_a_name_that_no_store_takes_is_refused(url, tmp_path):
    url = url.format(tmp=tmp_path, long="x" * 247, stem="{stem}").replace("{{", "{")
    with pytest.raises(UnusableDestination, match=r"bytes, and stores take no more than 250"):
        names(url, "s" * 200)


def test_the_second_of_several_results_may_not_be_too_long_either(tmp_path):
    place = tmp_path / f"{'x' * 246}.mp4"
    assert len(names(place)) == 1
    with pytest.raises(UnusableDestination, match="252 bytes"):
        names(place, count=2)


@pytest.mark.parametrize(
    ("url", "most"),
    [
        ("{tmp}", 4096),
        ("memory://", 4096),
        ("sftp://127.0.0.1:9", 4096),
        ("ftp://127.0.0.1:9", 4096),
        ("s3://bucket", 1024),
    ],
)
def test_a_path_that_no_store_takes_is_refused_without_asking_the_store(url, most, tmp_path):
    folders = "/".join(["f" * 99] * 50)
    with pytest.raises(
        UnusableDestination, match=f"no more than {most - 128}, with room"
    ) as caught:
        split(f"{url.format(tmp=tmp_path)}/{folders}/clip.mp4")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("char", ["\n", "\x00", "\x7f", "\x85"])
def test_a_control_character_in_a_destination_is_refused(char, tmp_path):
    for base in (str(tmp_path), "memory://base", "sftp://127.0.0.1:9/base"):
        with pytest.raises(UnusableDestination, match="control characters"):
            split(f"{base}/a{char}b/clip.mp4")


def test_a_folder_without_a_name_is_refused_where_it_would_be_one(tmp_path, memory):
    for url in ("memory://a//clip.mp4", "s3://bucket//clip.mp4", "sftp://127.0.0.1:9/a//clip.mp4"):
        with pytest.raises(UnusableDestination, match="remove the second slash"):
            split(url)
    assert split(f"{tmp_path}//clip.mp4")[1] == "clip.mp4"
