"""Ports of the stream beside the dataset: Foundry's end of it, and the journal's."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from atlas.core.stream import StreamBacklog, UnpublishedExport


class Stream(Protocol):
    """One branch of a Foundry stream."""

    async def publish(self, records: Sequence[bytes]) -> None:
        """Append records, each of them a JSON object. A repeated call appends them again.

        Raises RecordsRefused if Foundry blames the records, of which it has then stored none:
        RecordTooLarge if it blames the size of one, and RequestTooLarge if it blames that of all.
        Any other FoundryError is about the stream or about our access to it, and leaves open
        whether they were appended.
        """


class StreamQueue(Protocol):
    """The journal as the publisher uses it: a second position, behind which the commits never wait.

    An export is unpublished from its acceptance, if a stream is configured. Committed or not does
    not matter; one that is set aside waits until it is replayed, and is forgotten if it is
    discarded or its sender is erased. Any call raises Unavailable while the journal fails.
    """

    async def read_unpublished(
        self, exports_max: int, bytes_max: int
    ) -> Sequence[UnpublishedExport]:
        """Return the oldest unpublished exports, up to this number and size; at least one."""

    async def record_published(self, numbers: Collection[int]) -> None:
        """Forget these exports. It can be repeated."""

    async def trim(self, bytes_max: int, before: datetime) -> StreamBacklog:
        """Drop the oldest exports: those accepted before this time, and those beyond `bytes_max`.

        Up to 1,000 are dropped at once, so that other users of the journal do not wait for long.
        Returns what is left.
        """

    async def clear(self) -> int:
        """Drop all of them, because no stream is configured any more; return their number."""
