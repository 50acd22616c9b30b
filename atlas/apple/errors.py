"""The error for an export that cannot be read: one line that says what is wrong and what to do."""

from atlas.core.errors import CommandError


class Unreadable(CommandError):
    """The export cannot be read to its end. The message quotes nothing of the data."""
