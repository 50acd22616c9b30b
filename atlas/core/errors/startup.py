"""Reasons not to start."""

from typing import ClassVar


class CannotStart(Exception):
    """Atlas cannot start; the message is one line for whoever started it."""

    exit_code: ClassVar[int] = 1


class BadSetting(CannotStart):
    """A setting is unknown, missing or wrong."""

    exit_code = 78


class JournalHeld(CannotStart):
    """Another process owns the journal; `owner` is where that can be asked, if it said so."""

    exit_code = 75

    def __init__(self, path: object, pid: str, owner: str) -> None:
        super().__init__(f"The journal {path} is held by another process (pid {pid or 'unknown'}).")
        self.owner = owner
