"""Read a few frames of a result, and of its source what it shows around the same moments.

Of a result, which is large, one key frame a moment is decoded where there is one; of its source,
which may be far away, the frames within the tolerance. Only where these do not settle it, the
seconds around are searched too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from prefect_topaz.media.comparison import Verdict, frame_seconds
from prefect_topaz.media.fidelity import Moment, judge
from prefect_topaz.media.frames import Film, Timed, film
from prefect_topaz.media.looks import Look, likeness, look
from prefect_topaz.media.picture import Picture
from prefect_topaz.media.reading import File
from prefect_topaz.models import MediaFacts, Verify

MOMENTS = 5
# Seconds by which a good result may be off: codecs delay, and rates are rounded to frames.
TOLERANCE = 0.3
_FRAMES = 2.5  # of the slower video
_AROUND = 2.5  # seconds beyond the tolerance in which a shifted picture is looked for
_STEP = 0.03  # seconds; frames that follow each other faster are hardly different
_EDGE = 0.1
_SETTLED = 0.8  # this alike, there is no need to look around
_NEARER = 0.01  # so much likeness is worth a second

_Span = tuple[float, float]  # since and until, seconds


@dataclass(frozen=True)
class Comparison:
    """How the frames compare.

    Attributes:
        verdict: What they tell.
        moments: What was compared.
        rows: The source's and the result's picture at the first and the last moment and, of
            those between, at the one that is least alike.
    """

    verdict: Verdict
    moments: tuple[Moment, ...] = ()
    rows: tuple[tuple[Picture, Picture], ...] = ()


def compare_frames(
    before: File, after: File, facts: MediaFacts, source: MediaFacts | None, *, verify: Verify
) -> Comparison:
    """Compare frames of a result with its source's.

    Args:
        before: The source.
        after: The result.
        facts: The result's facts.
        source: The source's facts, if they are known.
        verify: `standard` or `strict`.

    Raises:
        NotAVideo: One of them holds no video.
        OSError: One of them cannot be read; stores raise other errors, too.
    """
    with film(before) as films, film(after) as results:
        sampler = _Sampler(films, results, facts, source)
        moments = tuple(sampler.moments())
        return Comparison(judge(moments, verify), moments, sampler.rows())


class _Sampler:
    """The comparison of two open videos; used by `compare_frames` alone."""

    def __init__(
        self, before: Film, after: Film, facts: MediaFacts, source: MediaFacts | None
    ) -> None:
        self.before, self.after = before, after
        self.seconds = facts.duration or (source and source.duration) or 0.0
        theirs = (source and source.duration) or self.seconds
        self.stretch = theirs / self.seconds if self.seconds else 1.0
        slowest = max(frame_seconds(before.rate), frame_seconds(after.rate))
        self.tolerance = max(TOLERANCE, _FRAMES * slowest)
        # One that starts with its sound may be made to start with its picture, or the reverse.
        self.delay = min(max(after.delay - before.delay, -_AROUND), _AROUND)
        self.seen: list[tuple[float, tuple[Picture, Picture]]] = []

    def moments(self) -> Iterator[Moment]:
        """Give the moments at which both could be read."""
        step = self.seconds / (MOMENTS + 1)
        for number in range(1, MOMENTS + 1):
            at = number * step
            shown = next(self.after.frames(at - step / 2, until=at), None)
            if shown is not None:
                yield self._compared(shown)

    def _compared(self, shown: Timed) -> Moment:
        seen = look(shown.frame, shown.time)
        places = {shown.time, shown.time * self.stretch, shown.time + self.delay}
        near, likest = self._near(seen, _spans(places, self.tolerance))
        if likest is None:
            return Moment(seen)
        moment = Moment(seen, near)
        pictures = Picture.of(self.before, likest).small(), Picture.of(self.after, shown).small()
        self.seen.append((moment.likeness, pictures))
        inner = _spans(places, self.tolerance - _EDGE)
        central = any(since <= likest.time <= until for since, until in inner)
        if not moment.clear or (moment.likeness >= _SETTLED and central):
            return moment
        around = self._looks(_spans(places, self.tolerance + _AROUND))
        return replace(moment, around=[one for one, _ in around])

    def rows(self) -> tuple[tuple[Picture, Picture], ...]:
        """Choose the moments to be shown."""
        between = sorted(self.seen[1:-1], key=lambda one: one[0])
        return tuple(row for _, row in (*self.seen[:1], *between[:1], *self.seen[1:][-1:]))

    def _near(self, seen: Look, spans: list[_Span]) -> tuple[list[Look], Timed | None]:
        near: list[Look] = []
        likest, most = None, -math.inf
        for one, timed in self._looks(spans):
            near.append(one)
            # Still pictures are alike anywhere; there the nearer one counts.
            rank = likeness(seen, one) - _NEARER * abs(one.time - seen.time)
            if rank > most:
                likest, most = timed, rank
        return near, likest

    def _looks(self, spans: list[_Span]) -> Iterator[tuple[Look, Timed]]:
        last = -math.inf
        for since, until in spans:
            for timed in self.before.frames(max(since, 0.0)):
                if timed.time > until:
                    break
                if timed.time >= last + _STEP:
                    last = timed.time
                    yield look(timed.frame, timed.time), timed


def _spans(places: Iterable[float], margin: float) -> list[_Span]:
    """Give the times around some places, without reading any of them twice."""
    spans: list[_Span] = []
    for place in sorted(places):
        since, until = place - margin, place + margin
        if spans and since <= spans[-1][1]:
            since = spans.pop()[0]
        spans.append((since, until))
    return spans
