"""The mistakes around an order that is sent once more, each with the tests that must notice it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant


def _one(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, file, ((old, new),), (test,))


_RESEND: Final = "tests/engine/test_resend.py::test_{}".format

RESENDING: Final = (
    _one(
        "sent once more without being asked",
        "engine/sending.py",
        "may_repeat = order.resend_unknown and",
        "may_repeat =",
        "tests/engine/test_lost_answers.py::test_evolink_asks_and_never_sends_again[bad gateway]",
    ),
    _one(
        "sent once more to a provider without replays",
        "engine/sending.py",
        "order.resend_unknown and context.client.dialect.replays and",
        "order.resend_unknown and",
        _RESEND("a_provider_without_replays_is_never_sent_an_order_twice"),
    ),
    _one(
        "sent twice more",
        "engine/sending.py",
        'raise OutcomeLost(f"{twice}: {error}") from None',
        "return await _again(context, sending, lost)",
        _RESEND("two_lost_answers_are_the_end_of_it[cut]"),
    ),
    _one(
        "the second sending is repeated on 429",
        "engine/sending.py",
        "attempts=1 if second else ATTEMPTS,",
        "",
        _RESEND("no_refusal_of_the_second_sending_tells_of_the_first[busy]"),
    ),
    _one(
        "a refusal of the second sending is taken for one of the first",
        "engine/sending.py",
        'if isinstance(verdict, Refused): raise OutcomeLost(f"{twice}: {verdict.error.message}")',
        "if isinstance(verdict, Refused):\n        return answer",
        _RESEND("no_refusal_of_the_second_sending_tells_of_the_first[no credits left]"),
    ),
    _one(
        "a second job that may be another one is not told",
        "engine/sending.py",
        "if verdict.replayed: return replace",
        "if True:\n        return replace",
        _RESEND("a_second_job_that_may_be_another_one_is_told_and_kept_in_the_receipt"),
    ),
    _one(
        "work whose first sending is in doubt is bought anew",
        "engine/waiting.py",
        'kinds == {"no"} and not job.warnings',
        'kinds == {"no"}',
        _RESEND("work_whose_first_sending_is_in_doubt_is_not_bought_anew"),
    ),
)
