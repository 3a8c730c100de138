"""The part of the contract about answers: what they prove, and that none breaks a dialect."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_topaz import errors
from prefect_topaz.models import Order
from prefect_topaz.wire import Accepted, Refused, Reply, Unclear
from tests.providers.answers import BODIES, DEEP, anywhere, reply, thorough
from tests.providers.samples import SIGNED, UPLOAD, Samples


class ReadingContract:
    """The promises that need no server and no clock."""

    samples: ClassVar[Samples]

    # What an answer to an order proves.

    def test_an_accepted_order_gives_its_jobs(self):
        answer = Reply(200, {}, json.dumps(self.samples.accepted).encode())
        verdict = self.samples.make().read_submit(self.samples.order(), answer)
        assert isinstance(verdict, Accepted)
        assert verdict.job_ids == self.samples.job_ids

    def check_verdict(self, order: Order, answer: Reply) -> None:
        verdict = self.samples.make().read_submit(order, answer)
        if isinstance(verdict, Accepted):
            assert answer.ok
            assert order.blocking or verdict.job_ids
            assert all(isinstance(job_id, str) and job_id for job_id in verdict.job_ids)
        elif isinstance(verdict, Refused):
            assert not answer.ok
            # The body may quote a code of its own choice, so codes are looked for in its text.
            text = answer.body.decode("utf-8", "replace").lower()
            coded = any(code in text for code in self.samples.codes)
            assert answer.status in self.samples.proving or coded
            assert isinstance(verdict.error, errors.ProviderRefused)
            assert verdict.error.billed == "no"
        else:
            assert isinstance(verdict, Unclear)
            assert verdict.reason

    def test_every_status_has_a_verdict_that_it_proves(self):
        bodies = [*BODIES, json.dumps(self.samples.accepted).encode()]
        bodies += [json.dumps(body).encode() for _, body, _ in self.samples.faults]
        for order in self.samples.all_orders()[:3]:
            for status in range(100, 600):
                for body in bodies:
                    self.check_verdict(order, Reply(status, {}, body))

    @thorough
    @given(status=st.integers(100, 599), body=anywhere)
    def test_no_answer_breaks_the_verdict(self, status, body):
        for order in self.samples.all_orders()[:2]:
            self.check_verdict(order, Reply(status, {}, body))

    @pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 302])
    def test_a_server_in_trouble_has_refused_nothing(self, status):
        for body in (*BODIES, *DEEP):
            verdict = self.samples.make().read_submit(self.samples.order(), Reply(status, {}, body))
            assert isinstance(verdict, Unclear)

    def test_a_proving_code_is_a_refusal_whatever_the_status(self):
        for code in self.samples.codes:
            answer = reply(500, self.samples.coded(code))
            verdict = self.samples.make().read_submit(self.samples.order(), answer)
            assert isinstance(verdict, Refused), code

    # How a job is.

    def test_every_documented_word_has_its_phase(self):
        for word, phase in self.samples.words.items():
            status = self.samples.make().read_status("job", reply(200, self.samples.status(word)))
            assert (status.phase, status.word) == (phase, word)
            assert status.is_final == (phase in ("succeeded", "failed", "cancelled"))
            assert bool(status.results) == (phase == "succeeded")

    @thorough
    @given(word=st.text())
    def test_any_other_word_is_unknown_and_no_end(self, word):
        if word in self.samples.words:
            return
        status = self.samples.make().read_status("job", reply(200, self.samples.status(word)))
        assert (status.phase, status.word, status.is_final) == ("unknown", word, False)
        assert status.billed != "no"

    @pytest.mark.parametrize(
        "value",
        [10**400, float("nan"), float("inf"), -1, True, "1e9", []],
        ids=["huge", "nan", "infinite", "negative", "true", "text", "list"],
    )
    def test_no_absurd_number_breaks_an_answer(self, value):
        dialect, order = self.samples.make(), self.samples.order()
        taken = _numbered(self.samples.accepted, value)
        assert isinstance(dialect.read_submit(order, reply(200, taken)), Accepted)
        for word, phase in self.samples.words.items():
            shown = _numbered(self.samples.status(word), value)
            assert dialect.read_status("job", reply(200, shown)).phase == phase

    @thorough
    @given(status=st.integers(100, 599), body=anywhere)
    def test_no_answer_breaks_a_look(self, status, body):
        dialect, answer = self.samples.make(), Reply(status, {}, body)
        for read in (dialect.read_status, dialect.read_details):
            with contextlib.suppress(errors.TopazError):
                assert read("job", answer).job_id == "job"
                assert answer.ok

    @thorough
    @given(status=st.integers(100, 599), body=anywhere)
    def test_no_answer_breaks_a_listing(self, status, body):
        dialect, answer = self.samples.make(), Reply(status, {}, body)
        for read in (
            lambda: dialect.read_lookup(self.samples.order(), "digest", [answer]),
            lambda: dialect.read_batch(answer),
            lambda: dialect.read_upload(UPLOAD, answer),
            lambda: dialect.read_quota(answer),
        ):
            with contextlib.suppress(errors.TopazError):
                read()

    # Errors.

    def test_every_documented_error_is_typed_and_costs_nothing(self):
        for status, body, kind in self.samples.faults:
            error = self.samples.make().read_error(reply(status, body))
            assert type(error) is kind, (status, body)
            assert error.billed == "no"
            assert self.samples.dialect.name in str(error)

    def test_an_error_keeps_what_the_server_asks_for(self):
        error = self.samples.make().read_error(Reply(429, {"retry-after": "7"}, b""))
        assert isinstance(error, errors.RateLimited)
        assert error.retry_after == "7"

    @pytest.mark.parametrize("status", [400, 500])
    def test_no_error_shows_a_signature_that_the_provider_quotes(self, status):
        for _, body, _ in self.samples.faults:
            quoted = json.dumps(body).replace("$", "")
            for text in (f"cannot read {SIGNED}", f"'{SIGNED}'", f"<{SIGNED}>"):
                for answer in _quoting(quoted, text):
                    dialect = self.samples.make()
                    assert "CANARY" not in str(dialect.read_error(Reply(status, {}, answer)))
                    verdict = dialect.read_submit(self.samples.order(), Reply(status, {}, answer))
                    assert "CANARY" not in repr(verdict)


def _quoting(body: str, text: str) -> list[bytes]:
    """Put a text into every message of a body, and into bodies of no known shape."""
    filled = json.dumps(_filled(json.loads(body), text))
    strange = json.dumps({"detail": [{"msg": text}]})
    plain = [filled, strange, json.dumps(text), f"<p>{text}</p>", text]
    return [one.encode() for one in (*plain, *(one.replace("/", "\\/") for one in plain[:3]))]


def _numbered(value: Any, number: Any) -> Any:
    """Put a number, or what stands for one, wherever a body has one."""
    if isinstance(value, Mapping):
        return {name: _numbered(inner, number) for name, inner in value.items()}
    return number if isinstance(value, int | float) and not isinstance(value, bool) else value


def _filled(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, text) for name, inner in value.items()}
    return text if isinstance(value, str) else value
