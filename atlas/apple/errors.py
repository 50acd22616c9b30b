"""The one way in which an export fails: one line that says what is wrong, and what to do."""

from atlas.core.errors import CannotStart


class Unreadable(CannotStart):
    """The export cannot be read, or not to its end. Nothing in the message is from the data."""
