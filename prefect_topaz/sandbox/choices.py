"""How the sandbox behaves where the vendors' contracts are silent or disagree."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choices:
    """Answers to what is [unknown] in the contracts, each with the sandbox's default.

    Attributes:
        resign_links: Whether each status read signs the result link anew.
        cancel_terminal_status: HTTP status of Oxen's DELETE on a finished row.
        charge_cancelled: Whether a job cancelled while processing is charged.
        open_models: Whether Oxen's models endpoints answer without a key, as two third parties
            saw them do.
        history_shows_active: Whether `GET /api/ai/generations` lists rows that are not finished.
        sync_in_history: Whether blocking generations appear in Oxen's history.
        conflict_status: HTTP status of EvoLink's `idempotency_conflict` and `paid_outcome_unknown`.
        idempotency: Whether EvoLink heeds `Idempotency-Key` for plain API keys.
        default_fps: Oxen's frame rate when `target_fps` is left out; None keeps the source's
            (the vendor's pages say 24 and, later, 30).
        upload_video: Whether EvoLink's files API takes videos; its pages name images only.
        upload_limit: Largest upload in bytes.
        file_seconds: How long an uploaded file is served.
        max_files: How many uploaded files EvoLink keeps at a time.
        files_delete: Whether EvoLink's files API lists and deletes; only older pages say so.
        private_status: HTTP status for a stranger who asks for a file of a private repository.
        private_inputs: Whether Oxen reads an input out of the caller's own private repository.
        commit_fields: Whether a change of a repository needs message, name and email; one page
            requires them, another does not.
        denied_models: EvoLink models that the key has no access to.
    """

    resign_links: bool = True
    cancel_terminal_status: int = 200
    charge_cancelled: bool = False
    open_models: bool = False
    history_shows_active: bool = True
    sync_in_history: bool = True
    conflict_status: int = 409
    idempotency: bool = True
    default_fps: float | None = None
    upload_video: bool = True
    upload_limit: int = 95 * 2**20  # [E8] its CLI stops at 95 MiB
    file_seconds: float = 72 * 3600  # [E3] files expire after 72 hours
    max_files: int = 2000  # [E4]
    files_delete: bool = True  # [E9]
    private_status: int = 404
    private_inputs: bool = False
    commit_fields: bool = True  # [O8]
    denied_models: frozenset[str] = frozenset()
