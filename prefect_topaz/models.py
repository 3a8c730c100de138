"""The values that travel between the steps: frozen, JSON-safe, free of secrets."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from prefect_topaz.errors import Billed
from prefect_topaz.redaction import SignedUrl

Phase = Literal["queued", "processing", "succeeded", "failed", "cancelled", "unknown"]
Verify = Literal["standard", "strict", "off"]
Amount = Annotated[Decimal, PlainSerializer(str, return_type=str, when_used="json")]
Json = Any


class Frozen(BaseModel):
    """A value: immutable, and tolerant of fields that a later version wrote."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class MediaFacts(Frozen):
    """What is known of a video from its headers.

    Attributes:
        width: Pixels, as displayed (rotation and pixel aspect applied).
        height: Pixels, as displayed.
        fps: Average frames per second, None if unknown.
        duration: Seconds, None if unknown.
        has_audio: Whether there is at least one audio stream.
        codec: The video codec's name, such as `h264`.
        frames: Number of frames that the container announces, None if it does not.
    """

    width: int
    height: int
    fps: float | None
    duration: float | None
    has_audio: bool
    codec: str
    frames: int | None


class Expected(Frozen):
    """What the result of an order must look like.

    Attributes:
        source: Facts of the source; None if it could not be probed.
        factor: The result's frame size over the source's; None where not ordered so.
        resolution: The named frame size ordered; None where the model documents none.
        fps: Ordered frame rate; None keeps the source's.
    """

    source: MediaFacts | None
    factor: int | None = None
    resolution: str | None = None
    fps: float | None = None


class Cost(Frozen):
    """What a video costs: the estimate from a dated table, and what the provider told.

    Attributes:
        unit: `USD`, or the provider's `credits`.
        estimate: Computed here before the purchase; None if no price is known.
        reserved: What the provider set aside at submit; None if it did not say.
        charged: What the provider says it charged; None if it did not say.
        basis: Where the estimate comes from, with the date of the table.
    """

    unit: Literal["USD", "credits"] = "USD"
    estimate: Amount | None = None
    reserved: Amount | None = None
    charged: Amount | None = None
    basis: str = ""

    def __str__(self) -> str:
        """Say the best known figure, or that none is known.

        >>> str(Cost(estimate=Decimal("89.64"))), str(Cost())
        ('$89.64 (estimated)', 'unknown')
        """
        for value, word in (
            (self.charged, "charged"),
            (self.reserved, "reserved"),
            (self.estimate, "estimated"),
        ):
            if value is not None:
                amount = f"{value} credits" if self.unit == "credits" else f"${value}"
                return f"{amount} ({word})"
        return "unknown"


class Order(Frozen):
    """One upscale as a provider understands it, normalised by the provider's options.

    Attributes:
        provider: The provider's name, such as `oxen`.
        model: The provider's name of the model.
        options: What changes the output, as the provider takes it. Part of the work key.
        routing: What does not change the output, such as who pays. Not part of the work key.
        callback_url: Where the provider tells that it is done, if anywhere; never serialised whole.
        generations: How many results are ordered; each is billed.
        blocking: Whether the provider answers only when the result is there.
        resend_unknown: Whether the request goes out once more, with the same idempotency key, if
            the first answer is lost; for providers that replay. Not part of the work key.
        label: Short name of the outcome for file names, such as `4k` or `2x`.
        factor: Frame size of the result over the source's, where ordered so.
        resolution: Named frame size, where ordered so.
        fps: Ordered frame rate, if any.
    """

    provider: str
    model: str
    options: dict[str, Json] = {}
    routing: dict[str, Json] = {}
    callback_url: SignedUrl | None = None
    generations: int = 1
    blocking: bool = False
    resend_unknown: bool = False
    label: str
    factor: int | None = None
    resolution: str | None = None
    fps: float | None = None

    def expected(self, source: MediaFacts | None) -> Expected:
        """Say what the result must look like for a source."""
        return Expected(source=source, factor=self.factor, resolution=self.resolution, fps=self.fps)


class Source(Frozen):
    """A source as the journal knows it: who it is, never how to read it.

    Attributes:
        identity: Names the content, not the URL; part of the work key.
        label: The URL or path without its query, for people.
        name: File name without its ending, for the result's name.
        media: Facts from its headers; None if it could not be probed.
    """

    identity: str
    label: str
    name: str
    media: MediaFacts | None = None


def work_key(source_identity: str, order: Order, *, realm: str = "", again: int = 0) -> str:
    """Name a piece of work: the same content, provider, model and options give the same key.

    Args:
        source_identity: The content's identity, see `Source.identity`.
        order: The normalised order.
        realm: Which account of servers does the work: empty for the vendor's own, `loopback` for
            a sandbox. A sandbox's result must never be taken for a bought one.
        again: 0, or a higher number to buy the same work again on purpose.
    """
    parts = {
        "version": 1,
        "source": source_identity,
        "provider": order.provider,
        "realm": realm,
        "model": order.model,
        "options": order.options,
        "generations": order.generations,
        "again": again,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class JobStatus(Frozen):
    """One look at a remote job.

    Attributes:
        job_id: The provider's id.
        phase: What the provider's word means; `unknown` for a word that is not documented.
        word: The provider's own word.
        progress: 0 to 100, None where the provider gives none.
        results: Links to the results, signed and short-lived; never serialised with their query.
        error: The provider's message, redacted.
        code: The provider's error code.
        billed: Whether this job costs money, as far as this answer tells.
        cost: What the answer says of money, if anything.
    """

    job_id: str
    phase: Phase
    word: str
    progress: float | None = None
    results: tuple[SignedUrl, ...] = ()
    error: str | None = None
    code: str | None = None
    billed: Billed = "maybe"
    cost: Cost | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended; a success without its result has not, yet."""
        if self.phase == "succeeded":
            return bool(self.results)
        return self.phase in ("failed", "cancelled")


class Place(Frozen):
    """A folder or file on an fsspec store.

    Attributes:
        url: An fsspec URL or a path, without secrets.
        block: Slug of the saved Prefect block that holds the store's settings, if any.
        options: The store's settings; never serialised, because keys live there.
    """

    url: str
    block: str | None = None
    options: dict[str, Any] = Field(default={}, exclude=True, repr=False)

    def __getstate__(self) -> dict[Any, Any]:
        """Pickle without the settings: a persisted result must not hold keys."""
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "options": {}}}


class StagedCopy(Frozen):
    """A copy of a source, made so that the provider can read it, and removed when it has.

    Attributes:
        name: Its own name, which no other copy has.
        place: The file at a staging location; None in the provider's own store.
        provider: Whose own store holds it; None at a staging location.
        reference: What the provider's own store deletes it by; None at a staging location, and as
            long as the store has not told.
        expires_at: When nobody can read it any more, because its link or the file itself expires;
            None if that never happens.
    """

    name: str
    place: Place | None = None
    provider: str | None = None
    reference: str | None = None
    expires_at: datetime | None = None


class UpscaleJob(Frozen):
    """A bought job: the record in the journal, as the steps hand it on.

    Attributes:
        provider: The provider's name.
        work_key: The journal's name of this work.
        job_ids: The provider's ids, one a generation; empty for the blocking endpoint, which
            gives none.
        order: What was ordered.
        source: What it was ordered for.
        journal: Where the journal is.
        destination: Where the result goes unless said otherwise.
        staging: The folder for copies of sources that its caller named, if any.
        submitted_at: When the provider accepted it.
        reattached: Whether it was found in the journal rather than bought by this call.
        cost: The estimate, and what the provider said at submit.
        expected_seconds: How long the provider said that it takes; None if it did not say.
        warnings: What is doubtful about the purchase, for the receipt.
    """

    provider: str
    work_key: str
    job_ids: tuple[str, ...]
    order: Order
    source: Source
    journal: Place
    destination: Place
    staging: Place | None = None
    submitted_at: datetime
    reattached: bool = False
    cost: Cost = Cost()
    expected_seconds: float | None = None
    warnings: tuple[str, ...] = ()


class FinishedUpscale(Frozen):
    """A job whose results can be stored.

    Attributes:
        job: The job.
        results: How each generation ended; at least one succeeded.
        finished_at: When this was seen.
    """

    job: UpscaleJob
    results: tuple[JobStatus, ...]
    finished_at: datetime


class StoredVideo(Frozen):
    """An upscaled video that was verified and published.

    Attributes:
        url: Where the video is.
        receipt_url: Where its receipt (JSON, a superset of this value) is.
        preview_url: Where the before | after | difference picture is; None if none could be made.
        bytes: Size of the file.
        sha256: Hex digest of the file.
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        fps: Frames per second, None if unknown.
        duration: Seconds, None if unknown.
        has_audio: Whether it has sound.
        provider: The provider's name.
        job_id: The provider's id; None for the blocking endpoint, which gives none.
        work_key: The journal's name of this work.
        cached: Whether it was there already, so that this call bought nothing.
        cost: Estimate and, where the provider tells, the charge.
        warnings: What differs from the order without making the result useless.
        others: The further results when more than one generation was ordered.
    """

    url: str
    receipt_url: str
    preview_url: str | None
    bytes: int
    sha256: str
    width: int
    height: int
    fps: float | None
    duration: float | None
    has_audio: bool
    provider: str
    job_id: str | None
    work_key: str
    cached: bool = False
    cost: Cost = Cost()
    warnings: tuple[str, ...] = ()
    others: tuple[StoredVideo, ...] = ()


class Receipt(StoredVideo):
    """What is written beside a video: the stored video and how it came about."""

    format: Literal["prefect-topaz receipt 1"] = "prefect-topaz receipt 1"
    source: Source
    order: Order
    submitted_at: datetime
    stored_at: datetime
    flow_run_id: str | None = None
