"""The client guide: its table of responses, and the requests and responses that it shows."""

import re
from pathlib import Path
from typing import NamedTuple

GUIDE = (Path(__file__).parents[2] / "atlas" / "client" / "README.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """A row of the table of responses: status, codes, and the action of the app."""

    status: int
    codes: tuple[str, ...]
    app: str


class Message(NamedTuple):
    """A request or a response in the guide."""

    first: str
    headers: dict[str, str]
    body: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", GUIDE)


def message(text: str) -> Message:
    head, _, body = text.partition("\n\n")
    first, *lines = head.splitlines()
    return Message(first, dict(line.split(": ", 1) for line in lines), body)


def rows() -> list[Row]:
    found = re.findall(r"(?m)^\| (\d+) \|(.*?)\|.*\| \*\*(\w+)\*\* \|$", GUIDE)
    return [Row(int(status), tuple(re.findall(r"\w+", codes)), app) for status, codes, app in found]


ROWS = rows()
STREAM, SAFE, BATCH, SOME_SAFE = map(message, blocks("http"))
