"""When a job is looked at: early enough, seldom enough, and never again after a pause of ages."""

from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from prefect_topaz.pace import looks

PACE = st.floats(0.1, 60)
EXPECTED = st.none() | st.floats(0, 1e6)
WAITED = st.floats(0, 1e6)


@given(PACE, EXPECTED, WAITED)
def test_the_first_look_comes_within_half_of_the_expected_time(pace, expected, waited):
    first = next(looks(pace, expected=expected, waited=waited))
    limit = pace if expected is None else min(expected / 2, 120)
    assert 0 <= first <= limit
    assert first + waited >= limit or first == 0


@given(PACE, EXPECTED, WAITED)
def test_further_looks_grow_from_the_providers_pace_to_a_cap(pace, expected, waited):
    _, *further = islice(looks(pace, expected=expected, waited=waited), 40)
    assert further[0] == pace
    assert further == sorted(further)
    assert further[-1] == further[-2] == pace * 6
    assert all(after <= before * 1.3 + 1e-9 for before, after in pairwise(further))


@given(PACE, EXPECTED, st.floats(121, 1e6))
def test_a_job_that_ran_for_long_is_looked_at_at_once(pace, expected, waited):
    assert next(looks(pace, expected=expected, waited=waited)) == 0


@given(PACE, EXPECTED)
def test_time_that_was_waited_is_not_waited_again(pace, expected):
    whole = next(looks(pace, expected=expected, waited=0))
    assert next(looks(pace, expected=expected, waited=whole / 2)) == whole - whole / 2


def test_an_hour_takes_few_looks():
    elapsed, count = 0.0, 0
    for delay in looks(10, expected=600, waited=0):
        elapsed += delay
        if elapsed > 3600:
            break
        count += 1
    assert 50 < count < 70
