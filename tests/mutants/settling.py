"""The mistakes around lost answers and rulings, each with the tests that must notice it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant


def _one(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, file, ((old, new),), (f"tests/engine/test_{test}",))


_ADOPTING: Final = (
    _one(
        "adopted without a look at what others claim",
        "engine/survey.py",
        "if is_free(one.job_id)",
        "",
        "lost_answers.py::test_a_job_that_belongs_to_other_work_is_never_adopted",
    ),
    _one(
        "adopted for two orders in one look",
        "engine/unknown.py",
        "others.adopted(record.key, proven)",
        "",
        "unknown.py::test_one_job_is_never_found_for_two_orders_in_one_look",
    ),
    _one(
        "adopted more than was ordered",
        "engine/unknown.py",
        "if len(proven) == _order(record).generations and",
        "if len(proven) >= _order(record).generations and",
        "lost_answers.py::test_two_jobs_that_could_be_it_are_named_and_none_is_taken",
    ),
    _one(
        "adopted while an equal order is open",
        "engine/unknown.py",
        "== _order(record).generations and not rivals:",
        "== _order(record).generations:",
        "interleavings.py::test_an_equal_order_in_flight_is_not_robbed_of_its_job",
    ),
    _one(
        "adopted without a proof",
        "engine/unknown.py",
        "for one in free if one.exact]",
        "for one in free]",
        "lost_answers.py::test_evolink_asks_and_never_sends_again[bad gateway]",
    ),
    _one(
        "adopted whatever its age",
        "engine/unknown.py",
        "for one in rows if _in_window(record, one)]",
        "for one in rows]",
        "lost_answers.py::test_an_old_job_of_the_same_kind_is_never_adopted",
    ),
    _one(
        "adopted although a record cannot be read",
        "engine/unknown.py",
        "if isinstance(one, JournalUnavailable): raise one",
        "if isinstance(one, JournalUnavailable):\n            continue",
        "unknown.py::test_a_record_that_cannot_be_read_may_own_any_job",
    ),
)

_RULING: Final = (
    _one(
        "a person may adopt the job of another work",
        "engine/rulings.py",
        "if theirs:",
        "if not owners:",
        "rulings.py::test_the_job_of_another_work_is_refused_by_that_works_name",
    ),
    _one(
        "a ruling undoes what a run found meanwhile",
        "engine/settling.py",
        "insist(journal, record, event, still=_is_undecided)",
        "insist(journal, record, event)",
        "settling.py::test_a_ruling_never_undoes_what_a_run_found_meanwhile[buy_again]",
    ),
    _one(
        "a purchase that is under way is given up by settling",
        "engine/settling.py",
        'if record.state == "intended" and outlived(context, record):',
        'if record.state == "intended":',
        "skew.py::test_settling_leaves_a_slow_owner_its_whole_lease[0.0]",
    ),
    _one(
        "a clock that is ahead robs a slow owner",
        "engine/lease.py",
        "timedelta(seconds=(record.last.lease or LEASE) + _SKEW)",
        "timedelta(seconds=record.last.lease or LEASE)",
        "skew.py::test_settling_leaves_a_slow_owner_its_whole_lease[-60.0]",
    ),
    _one(
        "an intent that nothing follows is left behind",
        "engine/intents.py",
        "return await asyncio.shield(writing)",
        "return await writing",
        "taking_back.py::test_an_intent_that_was_not_followed_by_an_order_is_taken_back[oxen]",
    ),
)

SETTLING: Final = (*_ADOPTING, *_RULING)
