"""Observed behaviour of Foundry that its documentation leaves open.

`atlas diagnose` shows it to the operator; no decision depends on it.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from atlas.outside.foundry.responses import ApiResponse, FilePage, Time, UploadedFile

Topic = Literal[
    "open transaction's listing",
    "answer to commit",
    "answer to abort",
    "Date header",
    "createdTime against Date",
    "FileAlreadyExists",
    "sizeBytes",
    "expires_in",
    "head after abort",
]


class Observations:
    """Stores the latest observation of each topic as a short text."""

    def __init__(self) -> None:
        self._latest = dict[str, str]()
        self._aborted = ""  # the transaction that was aborted last, until a head is noted

    def note(self, topic: Topic, value: str) -> None:
        self._latest[topic] = value

    def note_close(
        self, action: Literal["commit", "abort"], response: ApiResponse, status: str | None
    ) -> None:
        """Record the answer to a commit or an abort: its own status, and the transaction's."""
        outcome = response.error.name or status or ("unreadable" if response.body else "empty")
        topic: Topic = "answer to commit" if action == "commit" else "answer to abort"
        self.note(topic, add_status(response, outcome))

    def note_upload(self, response: ApiResponse) -> None:
        """Record the type of a file's size, and the attempt on which FileAlreadyExists occurs."""
        if response.has_error("FileAlreadyExists"):
            attempt = "after an unanswered" if response.is_repeat else "on the first"
            self.note("FileAlreadyExists", add_status(response, f"{attempt} attempt"))
        stored = response.read_if_valid(UploadedFile)
        if stored is not None:
            size = stored.size_bytes
            kind = "absent" if size is None else "text" if isinstance(size, str) else "number"
            self.note("sizeBytes", kind)

    def note_open_listing(self, response: ApiResponse, page: FilePage | None, own: int) -> None:
        """Record the listing of an open transaction; `own` is the number of its own files."""
        outcome = response.error.name or "unreadable"
        if page is not None:
            outcome = "lists its files" if own else "lists other files" if page.data else "empty"
        self.note("open transaction's listing", add_status(response, outcome))

    def note_date(self, response: ApiResponse) -> None:
        kind = "readable" if response.answered_at else "unreadable"
        self.note("Date header", kind if response.date else "absent")

    def note_created(self, created: object, response: ApiResponse) -> None:
        """Record the difference of a new transaction's createdTime and the Date of the response."""
        answered_at = response.answered_at
        try:
            created_at = msgspec.convert(created, Time)
        except msgspec.ValidationError:
            self.note("createdTime against Date", "no readable createdTime")
            return
        if answered_at is not None:
            seconds = (created_at - answered_at).total_seconds()
            self.note("createdTime against Date", f"{seconds:+.0f} s")

    def note_abort(self, transaction: str) -> None:
        self._aborted = transaction

    def note_head(self, head: str) -> None:
        """Record, once after each abort, if the head of the branch is still that transaction."""
        if self._aborted:
            is_same = head == self._aborted
            self.note("head after abort", "the aborted one" if is_same else "another or none")
            self._aborted = ""

    def get_latest(self) -> Mapping[str, str]:
        return dict(self._latest)


def add_status(response: ApiResponse, text: str) -> str:
    return f"{response.status} {text}"
