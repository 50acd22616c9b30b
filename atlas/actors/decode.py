"""The decoder: an export as it was sent in, its text out."""

from collections import OrderedDict
from dataclasses import dataclass, field

from atlas.core import ndjson
from atlas.core.events import ClientStuck, EventSink
from atlas.core.messages import DecodedExport, RawExport, StreamPart
from atlas.core.ports import CpuExecutor

STUCK_TIMES = 10
RECENT_MAX = 10_000  # exports; the oldest is forgotten


@dataclass(frozen=True, slots=True)
class Decode:
    """Is it base64, and not too much of it? Which export is it, and have we seen it too often?"""

    compute: CpuExecutor
    bytes_max: int
    lines_max: int
    emit: EventSink
    recent: OrderedDict[tuple[str, str, int], int] = field(default_factory=OrderedDict)

    async def handle(self, export: RawExport | StreamPart, /) -> DecodedExport:
        if isinstance(export, StreamPart):
            decoded = await self.compute(
                len(export.text), ndjson.decode_part, export, self.lines_max
            )
        else:
            size, bounds = len(export.body), (self.bytes_max, self.lines_max)
            decoded = await self.compute(size, ndjson.decode, export, *bounds)
        self.detect_stuck_client(decoded)
        return decoded

    def detect_stuck_client(self, decoded: DecodedExport) -> None:
        """A phone that never moves on: it does not understand our answer, or does not get it."""
        head = decoded.head
        key = (head.user.sub, head.device, decoded.likeness)
        times = self.recent.pop(key, 0) + 1
        self.recent[key] = times
        if len(self.recent) > RECENT_MAX:
            self.recent.popitem(last=False)
        if times % STUCK_TIMES == 0:
            self.emit(ClientStuck(head.correlation_id, head.user.sub, times))
