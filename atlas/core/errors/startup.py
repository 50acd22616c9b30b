"""Errors that end a command with one line for the operator."""

from typing import ClassVar


class CommandError(Exception):
    """The command cannot run; the message is one line for the operator."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(CommandError):
    """A setting is unknown, missing or wrong."""

    exit_code = 78


class JournalInUse(CommandError):
    """Replicas or commands use a journal that is needed exclusively."""

    exit_code = 75


class JournalMissing(CommandError):
    """There is no journal yet: the first start creates it."""


class JournalLocked(CommandError):
    """Another process owns the journal. `owner` is the operator address of that process, or ""."""

    exit_code = 75

    def __init__(self, path: object, pid: str, owner: str) -> None:
        super().__init__(
            f"The journal {path} is held by another process (pid {pid or 'unknown'}): "
            "stop it, or set ATLAS_JOURNAL to another path."
        )
        self.owner = owner
