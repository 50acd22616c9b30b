"""What makes us hold off from Foundry, and what ends that: metrics and picture tell the same."""

from datetime import datetime

from atlas.core.events import ExportSetAside, GroupCommitted, GroupRecovered, UploadPaused

Outcome = UploadPaused | GroupCommitted | GroupRecovered | ExportSetAside


class Pause:
    """Why last and since when nothing goes to Foundry; and when something was committed last."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.since: datetime | None = None
        self.last_commit: datetime | None = None

    def watch(self, event: Outcome, at: datetime) -> None:
        """What was of unknown outcome, and turns out not to be committed, ends no pause."""
        if isinstance(event, UploadPaused):
            self.reason = event.reason
            self.since = at if self.since is None else self.since
        elif isinstance(event, ExportSetAside):
            self.reason = self.since = None
        elif isinstance(event, GroupCommitted) or event.committed:
            self.reason = self.since = None
            self.last_commit = at
