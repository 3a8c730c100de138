"""`python -m prefect_topaz.sandbox`: run the sandbox until Ctrl-C."""

import re
import signal
import sys
import threading
from typing import Any

from cyclopts import App

from prefect_topaz.sandbox.server import Sandbox

app = App(name="python -m prefect_topaz.sandbox", help="Run a local stand-in for both APIs.")

_CONSTANTS = {"true": True, "false": False, "none": None}


@app.default
def run(
    *,
    port: int = 8089,
    api_key: str = "sandbox-key",
    fault: list[str] | None = None,
    link_seconds: float = 3600,
    reads: int | None = None,
    credits: float | None = None,  # noqa: A002 - the vendor's word
) -> int:
    """Serve both APIs on loopback until Ctrl-C.

    Args:
        port: Where to listen, 0 for any free port.
        api_key: The key that both APIs want.
        fault: A fault to happen, such as submit:cut or status:429,retry_after=2,times=3.
        link_seconds: How long a result link works.
        reads: Status reads until a job shows its end; by default the real pace.
        credits: EvoLink's account; by default without limit.
    """
    sandbox = Sandbox(api_key, port, reads, link_seconds, credits)
    try:
        wishes = [parse_fault(text) for text in fault or []]
        with sandbox:
            for operation, kind, details in wishes:
                sandbox.fault(operation, kind, **details)
            _say(_how_to_use(sandbox))
            _wait_for_end()
    except (OSError, ValueError) as error:
        print(f"The sandbox did not start: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    _say("The sandbox has stopped.")
    return 0


def parse_fault(text: str) -> tuple[str, str, dict[str, Any]]:
    """Read a fault as it is written on the command line.

    Args:
        text: `operation:kind`, or `operation:kind,detail=value,...`.

    Raises:
        ValueError: If it has another form.
    """
    head, *pairs = re.split(r",(?=\w+=)", text)  # a comma in an HTTP date divides nothing
    operation, colon, kind = head.partition(":")
    if not colon:
        raise ValueError(f"a fault is written operation:kind,detail=value; got {text!r}")
    return operation, kind, {name: _value(v) for name, _, v in (p.partition("=") for p in pairs)}


def _value(text: str) -> Any:
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d*\.\d+", text) else text


def _how_to_use(sandbox: Sandbox) -> str:
    url, key = sandbox.url, sandbox.api_key
    return f"""The sandbox serves Oxen.ai and EvoLink at {url} (Ctrl-C stops it).

  OxenCredentials(api_key="{key}", base_url="{url}")
  EvoLinkCredentials(api_key="{key}", base_url="{url}", files_url="{url}")

What was bought: {url}/_sandbox/ledger"""


def _wait_for_end() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    # Without a time-out the wait would not let signals through on Windows.
    while not ended.wait(0.5):
        pass


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command speaks to its user


if __name__ == "__main__":
    sys.exit(app())
