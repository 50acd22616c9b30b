"""Tracks why uploads are paused and since when. Metrics and picture share it, so both agree."""

from datetime import datetime

from atlas.core.events import ExportSetAside, GroupCommitted, GroupRecovered, UploadPaused

Outcome = UploadPaused | GroupCommitted | GroupRecovered | ExportSetAside


class Pause:
    """Why last and since when nothing goes to Foundry; and when something was committed last.

    Nothing is paused as long as Foundry takes other exports than those that it refuses.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.since: datetime | None = None
        self.last_commit: datetime | None = None

    def watch(self, event: Outcome, at: datetime) -> None:
        """A group of unknown outcome that turns out not to be committed ends no pause."""
        if isinstance(event, UploadPaused) and event.is_outage:
            self.reason = event.reason
            self.since = at if self.since is None else self.since
        elif isinstance(event, UploadPaused | ExportSetAside):
            self.reason = self.since = None
        elif isinstance(event, GroupCommitted) or event.committed:
            self.reason = self.since = None
            self.last_commit = at
