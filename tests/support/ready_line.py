"""Reads the line that a service prints once it is ready, and the line in its log before that."""

import time
from pathlib import Path

import msgspec

SECONDS = 20.0


def read_ready_url(line: str) -> str:
    """Return the URL in the line, which is JSON if the log is; "" if it is another line."""
    if not line.startswith("{"):
        return line.removeprefix("ready ").strip() if line.startswith("ready ") else ""
    told = msgspec.json.decode(line)
    return str(told["url"]) if told["message"] == "ready" else ""


def wait_for_url(log: Path) -> str:
    """Return the URL in the log, also of a service that is not ready."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines():
            if '"Listening"' in line:
                return str(msgspec.json.decode(line)["url"])
        time.sleep(0.02)
    raise AssertionError(f"It does not start: {log.read_text(encoding='utf-8')}")
