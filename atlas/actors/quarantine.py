"""Stores exports that crash a stage, unchanged, until the bug is fixed.

An export that crashes decode or flatten would crash it again at every retry. So it is stored at its
first crash and acknowledged as set aside, and identical exports do not reach the stage again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from atlas.core import identifiers
from atlas.core.errors import AtlasError
from atlas.core.events import EventSink, ExportQuarantined
from atlas.core.messages import (
    DecodedExport,
    RawExport,
    Receipt,
    ReplayResult,
    StageInput,
    StreamPart,
    strip_idempotency,
)
from atlas.core.ports import Clock, DeadLetters
from atlas.runtime import Acknowledgement, Address, CompletionRegistry, Lock


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Stores exports that crash a stage, and acknowledges them as set aside.

    `known`: ids of stored exports. `bypassed`: those of them that are being replayed.
    """

    dead_letters: DeadLetters
    completions: CompletionRegistry[Receipt]
    clock: Clock
    emit: EventSink
    known: set[str] = field(default_factory=set)
    bypassed: set[str] = field(default_factory=set)

    async def load(self) -> None:
        """Load the ids of the stored exports. Other replicas may have added and deleted some."""
        known = set(await self.dead_letters.list_original_ids())
        self.known.intersection_update(known)
        self.known.update(known)

    def contains(self, export: StageInput) -> bool:
        """True if an identical export is stored and is not being replayed."""
        if not self.known:
            return False
        id = identifiers.derive_input_id(export)
        return id in self.known and id not in self.bypassed

    @contextmanager
    def bypass(self, id: str) -> Iterator[None]:
        """Let an export reach the stages inside this context."""
        self.bypassed.add(id)
        try:
            yield
        finally:
            self.bypassed.discard(id)

    async def release(self, id: str) -> None:
        """Delete a replayed export. Identical ones may pass even if the journal fails here."""
        self.known.discard(id)
        await self.dead_letters.delete(id)

    async def handle(self, export: StageInput, /) -> Acknowledgement[Receipt]:
        """Store an export, and return a receipt that says that it is set aside."""
        id = identifiers.derive_input_id(export)
        receipt = await self.dead_letters.store(export, id, self.clock())
        if not receipt.replayed:
            self.emit(ExportQuarantined(id, export.head.correlation_id, export.head.user.sub))
        self.known.add(id)
        completion = self.completions.get(id)
        completion.resolve(receipt)
        return Acknowledgement(receipt, completion)


@dataclass(frozen=True, slots=True)
class Replayer:
    """Replays exports that were set aside.

    It holds `erasure_lock`, because the data of the export's user may be being erased.
    """

    quarantine: Quarantine
    decode: Address[RawExport | StreamPart, Acknowledgement[Receipt]]
    flatten: Address[DecodedExport, Acknowledgement[Receipt]]
    wake_uploader: Callable[[], None]
    erasure_lock: Lock

    async def replay(self, id: str) -> ReplayResult:
        """Replay one export. Raises the error of the stage that rejects it."""
        dead_letters = self.quarantine.dead_letters
        async with self.erasure_lock:
            original = await dead_letters.read_original(id)
            if original is None:
                requeued = await dead_letters.requeue(id)
                self.wake_uploader()
                return ReplayResult(requeued, 0)
            with self.quarantine.bypass(id):
                acknowledgement = await self.send(original)
                if acknowledgement.receipt.status == "set_aside":
                    return ReplayResult(0, 1)
                await self.quarantine.release(id)
        return ReplayResult(1, 0)

    async def replay_all(self) -> ReplayResult:
        """Replay all, also exports rejected by Foundry. A failure does not stop the others."""
        dead_letters = self.quarantine.dead_letters
        requeued, failed = await dead_letters.requeue(None), 0
        self.wake_uploader()
        for id in await dead_letters.list_original_ids():
            try:
                replayed = await self.replay(id)
            except AtlasError:
                failed += 1
            else:
                requeued, failed = requeued + replayed.again, failed + replayed.failed
        return ReplayResult(requeued, failed)

    async def send(self, original: StageInput) -> Acknowledgement[Receipt]:
        original = strip_idempotency(original)  # its key may belong to another export by now
        if isinstance(original, RawExport | StreamPart):
            return await self.decode.ask(original)
        return await self.flatten.ask(original)
