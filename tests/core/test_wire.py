"""Calls and replies as values, and base64 out of a JSON text of any size."""

import base64
import itertools
import json
import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefect_topaz.wire import Call, Reply, Truncated, Upload, decode_base64_field

NAME = "b64_json"
MEBIBYTE = 2**20


def decoded(chunks):
    return b"".join(decode_base64_field(chunks, NAME))


def split(text, cuts):
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


@st.composite
def answers(draw):
    """Some bytes, and a JSON text that holds them in the field, cut anywhere."""
    data = draw(st.binary(max_size=200))
    value = json.dumps(base64.b64encode(data).decode())[1:-1]
    for character, escape in (("/", "\\/"), ("+", "\\u002B"), ("=", "\\u003d"), ("A", "\\u0041")):
        if draw(st.booleans()):
            value = value.replace(character, escape)
    if draw(st.booleans()):
        value = re.sub(r"((?:\\u.{4}|\\?.){8})", r"\1\\n", value)
    before = draw(st.dictionaries(st.text(max_size=4), st.text(max_size=80), max_size=2))
    before.pop(NAME, None)
    after = draw(st.dictionaries(st.text(max_size=4), st.integers(), max_size=2))
    space = draw(st.sampled_from(["", " ", "\n  "]))
    inside = [*(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in before.items())]
    inside += [f'"{NAME}"{space}:{space}"{value}"']
    inside += [*(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in after.items())]
    text = ('{"videos": [{' + ", ".join(inside) + "}]}").encode()
    cuts = draw(st.lists(st.integers(0, 10_000), max_size=8))
    return data, split(text, cuts)


@given(answers())
def test_any_bytes_come_back_from_any_chunks(answer):
    data, chunks = answer
    assert decoded(chunks) == data
    assert decoded([bytes([byte]) for byte in b"".join(chunks)]) == data


@given(answers(), st.integers(0, 10_000))
def test_a_text_that_ends_inside_the_field_is_truncated(answer, cut):
    _, chunks = answer
    text = b"".join(chunks)
    value = re.search(rb'"b64_json"\s*:\s*"[^"]*', text)
    end = cut % (value.end() + 1)
    with pytest.raises(Truncated):
        decoded(split(text[:end], [cut // 2]))


@given(
    st.sampled_from(["aGVs bG8=", "aGVsbG8", "aG=VsbG8", "aGVsbG8=aGVs", "a", "=", "*abc", "äbcd"])
    | st.just("aGV\\tsbG8=")
    | st.just("aGV\\u00e4")
    | st.just("aGV\\x")
    | st.just("aGVs\\u00"),
    st.lists(st.integers(0, 60), max_size=5),
)
@example("aGVsbG8=aGVs", [23])
def test_what_is_not_base64_is_never_taken_for_it_however_it_is_cut(value, cuts):
    text = f'{{"{NAME}": "{value}"}}'.encode()
    with pytest.raises(Truncated, match="not base64"):
        decoded(split(text, cuts))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"other": "aGVsbG8="}',
        b'{"b64_json": null}',
        b'{"x": "\\"b64_json\\": \\"YQ=="}',
    ],
)
def test_a_missing_field_is_truncated(text):
    with pytest.raises(Truncated, match="no field"):
        decoded([text])


def test_an_empty_field_is_no_bytes():
    assert decoded([b'{"b64_json": ""}']) == b""


def test_the_first_field_of_that_name_is_taken():
    assert decoded([b'[{"b64_json": "YQ=="}, {"b64_json": "Yg=="}]']) == b"a"


def large(pieces):
    yield b'{"note": "' + b" " * MEBIBYTE + b'", "b64_json": "'
    line = base64.b64encode(b"\x00\xffvideo" * 150_000)[:MEBIBYTE]
    for _ in range(pieces):
        yield line
    yield b'"}'


def test_64_mebibytes_are_decoded_in_a_few():
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in decode_base64_field(large(64), NAME))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 64 * MEBIBYTE * 3 // 4
    assert peak < 12 * MEBIBYTE


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_only_2xx_is_ok(status):
    assert Reply(status).ok


@pytest.mark.parametrize("status", [100, 199, 300, 302, 400, 429, 500])
def test_anything_else_is_not_ok(status):
    assert not Reply(status).ok


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe{", b'{"a": ', b"[" * 100_000, b"1" * 10_000]
)
def test_an_unreadable_answer_is_no_answer(body):
    assert Reply(200, body=body).json() is None
    assert Reply(200, body=body).object() == {}


@given(st.binary())
def test_reading_any_body_never_raises(body):
    assert isinstance(Reply(200, body=body).object(), dict)


def test_an_object_is_read_and_anything_else_is_an_empty_one():
    assert Reply(200, body=b'{"a": 1}').object() == {"a": 1}
    assert Reply(200, body=b"[1]").json() == [1]
    assert Reply(200, body=b"[1]").object() == {}


def test_a_call_and_a_reply_show_neither_address_nor_content(tmp_path):
    call = Call(
        "POST",
        "https://host/a?sig=CANARY",
        json={"input_video": "CANARY"},
        headers={"Authorization": "CANARY"},
        upload=Upload((tmp_path / "clip.mp4").open, part="file", name="clip.mp4", size=1),
    )
    assert "CANARY" not in repr(call)
    assert "CANARY" not in repr(Reply(200, body=b"CANARY"))


def test_a_call_is_repeatable_unless_it_says_otherwise():
    assert Call("POST", "https://host").repeatable
