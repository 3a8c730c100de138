"""Talk to a sandbox that runs in another process."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from prefect_topaz.sandbox.ledger import Purchase, RecordedRequest, Upload


class SandboxClient:
    """The methods of `Sandbox` over HTTP.

    Args:
        url: Where the sandbox is.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def host(self, source: str | Path | bytes, name: str = "clip.mp4") -> str:
        """Serve a file as a public source, and return its URL.

        Args:
            source: A path, or the content.
            name: Its name in the URL; a name that is taken gets the new content.
        """
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        return str(self._call("POST", "media", params={"name": name}, content=content)["url"])

    def fault(self, operation: str, kind: str, *, times: int = 1, **details: Any) -> None:
        """Ask for a fault; see `Sandbox.fault`.

        Args:
            operation: Which calls are hit.
            kind: What happens to them.
            times: How many of them.
            details: The kind's own details.

        Raises:
            ValueError: If anything is unknown; the message names what is allowed.
        """
        wish = {"operation": operation, "kind": kind, "times": times, **details}
        self._call("POST", "faults", json=wish)

    def purchases(self, provider: str | None = None) -> list[Purchase]:
        """Give the accepted jobs, oldest first.

        Args:
            provider: `oxen` or `evolink`; None for both.
        """
        rows = self._call("GET", "ledger")["purchases"]
        return [_purchase(row) for row in rows if provider in {None, row["provider"]}]

    def requests(self) -> list[RecordedRequest]:
        """Give every request from outside, oldest first."""
        return [RecordedRequest(*row) for row in self._call("GET", "ledger")["requests"]]

    def uploads(self) -> list[Upload]:
        """Give the files that the providers' own stores took in, oldest first."""
        rows = self._call("GET", "ledger")["uploads"]
        return [Upload(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows]

    def submits(self) -> int:
        """Give how many submits were accepted."""
        return int(self._call("GET", "ledger")["submits"])

    def jobs(self) -> dict[str, Any]:
        """Give the state of every job by its id."""
        return self._call("GET", "jobs")

    def _call(self, method: str, what: str, **options: Any) -> dict[str, Any]:
        # Loopback: a proxy from the environment cannot see it.
        with httpx.Client(trust_env=False) as client:
            reply = client.request(method, f"{self.url}/_sandbox/{what}", **options)
        answer: dict[str, Any] = reply.json()
        if reply.status_code == httpx.codes.BAD_REQUEST:
            raise ValueError(answer["error"])
        reply.raise_for_status()
        return answer


def _purchase(row: dict[str, Any]) -> Purchase:
    cost = None if row["cost"] is None else Decimal(row["cost"])
    return Purchase(**{**row, "cost": cost, "at": datetime.fromisoformat(row["at"])})
