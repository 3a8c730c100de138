"""The mistakes that would cost somebody money, each with the tests that must notice it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant
from tests.mutants.resending import RESENDING
from tests.mutants.settling import SETTLING
from tests.mutants.staging import STAGING


def _one(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


_CORE: Final = "tests/core/test_{}.py::test_{}".format
_ENGINE: Final = "tests/engine/test_{}.py::test_{}".format

_SENDING: Final = (
    _one(
        "the POST is repeated on any transport error",
        "transport.py",
        'if problem == "unknown" and not repeatable:',
        'if problem == "unknown" and not repeatable and last:',
        _CORE("sending", "a_paid_call_whose_answer_is_lost_arrives_exactly_once[reset]"),
    ),
    _one(
        "the POST is repeated on 5xx",
        "transport.py",
        "(refused or (faulty and repeatable))",
        "(refused or faulty)",
        _CORE("sending", "a_paid_call_repeats_429_and_takes_any_other_answer"),
    ),
    _one(
        "a read time-out is taken for a request that never left",
        "transport.py",
        "httpx.ConnectTimeout,",
        "httpx.ConnectTimeout, httpx.ReadTimeout,",
        _ENGINE("lost_answers", "an_answer_that_comes_too_late_is_looked_up"),
    ),
    _one(
        "5xx is taken for a refusal (Oxen)",
        "providers/oxen.py",
        "if reject_reason(reply.status):",
        "if reject_reason(reply.status) or reply.status >= 500:",
        _ENGINE("lost_answers", "oxen_finds_its_job_by_the_echo_of_the_request[bad gateway]"),
    ),
    _one(
        "5xx is taken for a refusal (EvoLink)",
        "providers/evolink.py",
        "reply.status in _REFUSING_STATUSES",
        "(reply.status in _REFUSING_STATUSES or reply.status >= 500)",
        _ENGINE("lost_answers", "evolink_asks_and_never_sends_again[bad gateway]"),
    ),
    _one(
        "the idempotency key is not sent",
        "providers/evolink.py",
        'headers={"Idempotency-Key": key},',
        "headers={},",
        "tests/providers/test_evolink.py::test_every_order_carries_a_key_of_the_allowed_form",
    ),
)

_BUYING: Final = (
    _one(
        "submitted again when an intent is found",
        "engine/purchase.py",
        "if record.may_buy: bought",
        'if record.may_buy or record.state == "intended":\n            bought',
        _ENGINE("intents", "an_owner_that_died_before_it_sent_is_never_replaced[oxen]"),
    ),
    _one(
        "submitted again when the outcome is unknown",
        "engine/purchase.py",
        "if record.may_buy: bought",
        'if record.may_buy or record.state == "unknown":\n            bought',
        _ENGINE("lost_answers", "evolink_asks_and_never_sends_again[bad gateway]"),
    ),
    _one(
        "no intent before the send",
        "engine/purchase.py",
        "intended = await staging.intend(context, journal, readable, intent)",
        'intended = record.model_copy(update={"events": (*record.events, intent)})',
        _ENGINE("lost_answers", "evolink_asks_and_never_sends_again[bad gateway]"),
    ),
    _one(
        "sent although somebody else wrote the intent",
        "engine/purchase.py",
        "if intended is None: return None",
        'if intended is None:\n        intended = record.model_copy(update={"events": (intent,)})',
        _ENGINE("intents", "of_two_that_have_read_an_empty_journal_one_orders[oxen]"),
    ),
    _one(
        "a caller who leaves interrupts the purchase",
        "engine/purchase.py",
        "bought = await _uninterrupted(post(), answered)",
        "bought = await post()",
        _ENGINE("intents", "a_caller_who_leaves_in_mid_purchase_finds_the_job_later[oxen]"),
    ),
    _one(
        "a refusal undoes what others found meanwhile",
        "engine/purchase.py",
        'return record.state in ("intended", "unknown")',
        "return True",
        _ENGINE("intents", "a_refusal_after_the_lease_does_not_undo_what_others_found"),
    ),
    _one(
        "a failure that may have been charged is bought anew",
        "journal.py",
        'unbilled = self.state == "failed" and self.last.billed == "no"',
        'unbilled = self.state == "failed"',
        _ENGINE("failures", "a_failure_that_may_have_been_charged_is_told_and_not_bought"),
    ),
    _one(
        "`again` is not in the work key",
        "models.py",
        '"again": again,',
        "",
        _CORE("models", "source_realm_and_a_wish_to_buy_again_make_other_work"),
    ),
    _one(
        "the signature of a presigned URL is in the identity",
        "sources/identity.py",
        "if not _SIGNING.fullmatch(pair[0])",
        "",
        _CORE("sources", "two_signatures_of_one_object_are_one_source"),
    ),
)

_CREATING: Final = (
    Mutant(
        "exclusive create replaced by check-then-write (local)",
        "places.py",
        (
            (
                'with temporary.open("xb") as file:',
                'if path.exists():\n            raise FileExistsError(path)\n        with temporary.open("xb") as file:',
            ),
            ("os.link(temporary, path)", "temporary.replace(path)"),
        ),
        (_CORE("places", "of_twenty_threads_one_creates[local]"),),
    ),
    _one(
        "exclusive create replaced by check-then-write (memory)",
        "places.py",
        "with _memory_lock:",
        "with suppress():",
        _CORE("places", "of_twenty_threads_one_creates[slow memory]"),
    ),
    _one(
        "exclusive create replaced by check-then-write (other stores)",
        "places.py",
        'fs.pipe_file(path, data, mode="create")',
        "fs.exists(path) or fs.pipe_file(path, data)",
        _CORE("places", "a_second_create_changes_nothing[remote]"),
    ),
)

_STORING: Final = (
    _one(
        "the key is sent to any host of a result",
        "transport.py",
        "if origin_of(url) not in self.origins: return {}",
        "del url",
        _ENGINE("storing", "a_redirected_result_takes_no_key_to_another_host[oxen]"),
    ),
    _one(
        "the key follows a redirect",
        "download/route.py",
        "**self._headers_for(url)}",
        "**self._headers_for(self.link.reveal())}",
        _CORE("download", "redirects_are_followed_and_the_key_stays_at_home"),
    ),
    _one(
        "the receipt is written after the video",
        "engine/storing.py",
        'await in_thread(publish_bytes, text, one.folder, f"{one.name}.json")'
        " await in_thread(outgoing.commit, fetched.path)",
        "await in_thread(outgoing.commit, fetched.path)\n"
        '    await in_thread(publish_bytes, text, one.folder, f"{one.name}.json")',
        _ENGINE("order", "a_video_without_its_receipt_never_has_its_name"),
    ),
    _one(
        "parts of two files are joined",
        "download/ranges.py",
        "if wanted.version is not None and (_differs(header, wanted.version) or size != wanted.size):",
        "if wanted.version is None and size == -1:",
        _CORE("download", "a_server_that_ignores_the_tag_does_not_mix_two_files[tags0]"),
    ),
    _one(
        "parts are joined without a proof",
        "download/ranges.py",
        "if tag or changed is None or now is None or now - changed < _SETTLED:",
        "if changed is None:",
        _CORE("download", "a_file_that_nothing_proves_is_read_as_one_stream[a date of just now]"),
    ),
    _one(
        "what was delivered is not read",
        "delivery/outgoing.py",
        "return _facts(file) == _facts(sent)",
        "return True",
        _CORE("outgoing", "a_store_that_spoils_a_video_is_given_it_once_more"),
    ),
    _one(
        "the verification is skipped",
        "engine/checking.py",
        'if mismatches and one.verify == "off":',
        "if mismatches:",
        _ENGINE("mismatches", "a_wrong_result_is_kept_and_never_published[oxen-size]"),
    ),
)

_CANCELLING: Final = (
    _one(
        "a cancel is not read back",
        "client.py",
        "return await self._read_back(job_id, said)",
        'return CancelOutcome(outcome="cancelled", job_id=job_id, reply=said)',
        _ENGINE("cancelling", "a_cancel_that_takes_no_effect_is_no_cancel"),
    ),
    _one(
        "the job is cancelled on any CancelledError",
        "cancellation.py",
        "if reason.cancelled: outcome",
        "if reason:\n        outcome",
        "tests/prefect/test_cancel_wait.py::test_without_a_flow_run_an_interrupt_leaves_the_job",
    ),
)

# The slow one of Prefect first, so that the others run beside it.
_BOUGHT: Final = (*_BUYING, *RESENDING, *_CREATING, *SETTLING, *STAGING)
MUTANTS: Final = (*_CANCELLING[::-1], *_SENDING, *_BOUGHT, *_STORING)
