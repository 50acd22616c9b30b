"""Decodes the body of a request into the text of an export."""

from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

from atlas.core import ndjson
from atlas.core.events import ClientStuck, EventSink
from atlas.core.messages import DecodedExport, RawExport, StreamPart
from atlas.core.ports import CpuExecutor

STUCK_TIMES = 10  # identical exports from a device, after which it counts as stuck
RECENT_MAX = 10_000  # exports that are counted; the oldest is dropped


@dataclass(frozen=True, slots=True)
class Decode:
    """Stage that checks the encoding and size of an export, and computes its id.

    `recent` counts how often each device sent the same export.
    """

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
            decoded = await self.compute(
                len(export.body), ndjson.decode, export, self.bytes_max, self.lines_max
            )
        if self.detect_stuck_client(decoded):
            return msgspec.structs.replace(decoded, is_stuck=True)
        return decoded

    def detect_stuck_client(self, decoded: DecodedExport) -> bool:
        """Return True for a device that keeps sending the same export, and report it.

        It does not receive our response, or does not understand it.
        """
        head = decoded.head
        key = (head.user.sub, head.device, decoded.likeness)
        times = self.recent.pop(key, 0) + 1
        self.recent[key] = times
        if len(self.recent) > RECENT_MAX:
            self.recent.popitem(last=False)
        if times % STUCK_TIMES == 0:
            self.emit(ClientStuck(head.correlation_id, head.user.sub, times))
        return times >= STUCK_TIMES
