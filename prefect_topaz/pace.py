"""When to look at a job next: few, patient, spread looks."""

from __future__ import annotations

from collections.abc import Iterator

_GROWTH = 1.3
_FIRST_SHARE = 0.5  # of the expected time, before the first look
_LONGEST_FIRST = 120.0  # seconds
_SLOWEST = 6.0  # times the provider's own pace


def looks(pace: float, *, expected: float | None, waited: float) -> Iterator[float]:
    """Give the seconds before each look at a job, without jitter.

    The first look comes after a fraction of the expected time, or at once for a job that has run
    for longer than that; the further ones grow from the provider's own pace to a cap.

    Args:
        pace: The provider's advised seconds between looks.
        expected: Seconds that the job is expected to take, None if nobody knows.
        waited: Seconds since it was submitted.

    >>> [round(delay) for _, delay in zip(range(5), looks(10, expected=100, waited=0))]
    [50, 10, 13, 17, 22]
    >>> next(looks(10, expected=None, waited=3600))
    0.0
    """
    first = pace if expected is None else min(_FIRST_SHARE * expected, _LONGEST_FIRST)
    yield max(first - waited, 0.0)
    delay = pace
    while True:
        yield delay
        delay = min(delay * _GROWTH, pace * _SLOWEST)
