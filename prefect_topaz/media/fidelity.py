"""Is a result the same video as its source? Frames at a few moments of both are compared.

The thresholds stand far from both sides of what was measured: docs/fidelity.md has the table, and
`benchmarks/fidelity.py` makes it. Whatever cannot be told is a warning and never a mismatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from prefect_topaz.media.comparison import Verdict
from prefect_topaz.media.looks import Look, likeness
from prefect_topaz.models import Verify

# Below this likeness a moment shows something else: another video, a mirrored or an empty one.
# Good upscales have 0.75 and more, cropped ones and those with invented frames among them.
DIFFERENT = 0.4
UNLIKE = 0.7  # a mismatch for `strict`, a warning for `standard`
# Grey levels. A fainter pattern of a source proves nothing: other contrast or coding may drown it.
FAINT = 4.0
_EMPTY = 1.0  # grey levels: a result with less shows nothing at all
# A source that is less like its own neighbouring frames is noise, or a storm of cuts.
_STEADY = 0.5
# A shifted moment must be found again so well, and so much better than where it belongs.
_FOUND = 0.6
_BETTER = 3.0
_GRAIN = 0.01
_MOVED = 0.05
_GRAINIER = 1.5
_STILL = 0.05  # of the source's change
_AGREEING = 0.3  # seconds
_DARK = 40  # grey level
_ENOUGH = 2  # moments: one alone may be an accident
_SAME = 0.005


@dataclass(frozen=True)
class Moment:
    """One moment of a result, and what the source shows around it.

    Args:
        shown: The result's frame.
        near: The source's frames that it may rightly be, none if none could be read.
        around: The source's frames for some seconds before and after, if the near ones do not
            settle it.
    """

    shown: Look
    near: Sequence[Look] = ()
    around: Sequence[Look] = field(default=(), repr=False)

    @property
    def best(self) -> Look:
        """The source's frame that is most like it, among those it may be."""
        return max(self.near, key=self.likeness_to)

    @property
    def likeness(self) -> float:
        """How like it is to what it should show."""
        return self.likeness_to(self.best)

    @property
    def expected(self) -> Look:
        """The source's frame at the same time."""
        return min(self.near, key=lambda one: abs(one.time - self.shown.time))

    @property
    def steadiness(self) -> float:
        """How like the source's frame is to its neighbours; 1 without any."""
        at = self.expected
        return max((likeness(at, one) for one in self.near if one is not at), default=1.0)

    @property
    def clear(self) -> bool:
        """Whether the source shows enough there, and steadily, to tell it from other pictures."""
        return (
            bool(self.near)
            and min(one.contrast for one in self.near) >= FAINT
            and self.steadiness >= _STEADY
        )

    @property
    def lag(self) -> float | None:
        """Seconds by which it shows the source too early; None if it does not, or is not found."""
        if not self.around:
            return None
        found = max(map(self.likeness_to, self.around))
        if found < _FOUND or 1 - self.likeness <= _BETTER * (1 - found + _GRAIN):
            return None
        lags = [
            one.time - self.shown.time
            for one in self.around
            if self.likeness_to(one) >= found - _SAME
        ]
        return min(lags, key=abs)

    def likeness_to(self, other: Look) -> float:
        """Compare it with one frame of the source."""
        return likeness(self.shown, other)


def judge(moments: Sequence[Moment], verify: Verify) -> Verdict:
    """Say what the compared moments tell.

    Args:
        moments: In their order.
        verify: With `standard`, two clear moments that are wrong, or all there are, make a
            mismatch; with `strict` one does, and the frames must be more alike.
    """
    clear = [one for one in moments if one.clear]
    if not clear:
        return Verdict(warnings=("the pictures hold too little to be compared with the source",))
    if frozen := _frozen(moments):
        return Verdict(mismatches=(frozen,))
    unlike = [one for one in clear if one.likeness < UNLIKE or one.lag is not None]
    wrong = [one for one in unlike if one.likeness < DIFFERENT or one.lag is not None]
    if verify == "strict" and unlike:
        return Verdict(mismatches=(_text(unlike, clear),))
    if len(wrong) >= min(_ENOUGH, len(clear)):
        return Verdict(mismatches=(_text(wrong, clear),))
    return Verdict(warnings=(_text(unlike, clear),) if unlike else ())


def _text(wrong: Sequence[Moment], clear: Sequence[Moment]) -> str:
    times = ", ".join(f"{one.shown.time:.1f}" for one in wrong)
    return f"{_what(wrong)} (seen at {times} s; {len(wrong)} of {len(clear)} moments)"


def _what(wrong: Sequence[Moment]) -> str:
    lags = [one.lag for one in wrong if one.lag is not None]
    if 2 * len(lags) > len(wrong):
        return _shifted(lags)
    empty = [one for one in wrong if one.shown.contrast < _EMPTY]
    if 2 * len(empty) > len(wrong):
        dark = median(one.shown.level for one in empty) < _DARK
        return "it is black" if dark else "it is a single colour"
    likest = max(one.likeness for one in wrong)
    what = "something else than" if likest < DIFFERENT else "something not very like"
    return f"it shows {what} the source: likeness {likest:.2f} of 1 or less"


def _shifted(lags: Sequence[float]) -> str:
    least, most = min(lags), max(lags)
    if most - least > _AGREEING:
        return f"it is shifted in time, by {least:+.1f} s to {most:+.1f} s"
    way = "early" if most > 0 else "late"
    return f"it is shifted in time: it shows the source about {abs(median(lags)):.1f} s too {way}"


def _frozen(moments: Sequence[Moment]) -> str | None:
    """Tell whether the result stands still where the source moves."""
    pairs = [(one, two) for one, two in pairwise(moments) if one.clear and two.clear]
    moved = [(one, two) for one, two in pairs if _moved(one, two)]
    still = [
        (one, two)
        for one, two in moved
        if 1 - likeness(one.shown, two.shown) < _STILL * (1 - likeness(one.expected, two.expected))
    ]
    if len(still) < min(_ENOUGH, max(1, len(moved))):
        return None
    since, until = still[0][0].shown.time, still[-1][1].shown.time
    return f"it is frozen: the same picture at {since:.1f} s and {until:.1f} s, the source moves on"


def _moved(one: Moment, two: Moment) -> bool:
    # Grain differs from frame to frame already; what moves has changed by more after seconds.
    change = 1 - likeness(one.expected, two.expected)
    return change > _MOVED + _GRAINIER * (1 - min(one.steadiness, two.steadiness))
