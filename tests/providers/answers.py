"""Answers of every kind: what a provider, a proxy or a broken server may say."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from prefect_topaz.wire import Reply

BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"0",
    b'"text"',
    b"<html><body>Bad gateway</body></html>",
    b"\xff\xfe not utf-8",
    b'{"error": null}',
    b'{"error": "text"}',
    b'{"error": {}}',
    b'{"error": {"code": 402, "message": 7}}',
    b'{"generations": []}',
    b'{"generations": [{}]}',
    b'{"generations": [{"generation_id": ""}]}',
    b'{"id": ""}',
    b'{"id": 7}',
    b'{"videos": []}',
    b'{"videos": [{}]}',
    b'{"videos": [{"url": "nonsense"}]}',
    b'{"status": "ok"}',
]
# Nested more deeply than a parser goes.
DEEP = [b"[" * 100_000, b'{"id": ' * 100_000, b'{"a":' * 100_000]

_words = st.sampled_from(
    [
        *("id", "status", "error", "code", "message", "type", "title", "detail", "generations"),
        *("generation_id", "generation", "result_url", "results", "result_data", "video_url"),
        *("usage", "billing", "credits_reserved", "credits_used", "charge_status", "task_info"),
        *("estimated_time", "progress", "data", "created_at", "enqueued_at", "cost", "model"),
        *("model_name", "input_video", "videos", "video", "url", "b64_json", "success", "msg"),
        *("file_url", "status_message", "error_message", "job", "ref", "state", "file", "jobs"),
    ]
)
_numbers = st.integers() | st.just(10**400) | st.floats() | st.sampled_from(["NaN", "1E+9", "²"])
_links = st.sampled_from(["", "http://[bad", "https://h/x.mp4?sig=1", "ftp://h", "https://h:p"])
_values = st.recursive(
    st.none() | st.booleans() | _numbers | st.text() | _links | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=5),
    max_leaves=12,
)
# Bodies: JSON that looks like an answer and is none, and bytes that are no JSON at all.
anywhere = (
    st.dictionaries(_words, _values, max_size=6).map(lambda value: json.dumps(value).encode())
    | _values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
)

# The tests are inherited, so one function is run by several classes.
thorough = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


def reply(status: int, body: Any) -> Reply:
    """Make an answer of JSON."""
    return Reply(status, {}, json.dumps(body).encode())
