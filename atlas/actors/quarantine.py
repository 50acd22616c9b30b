"""Keeps exports that crash a stage, unchanged, until the bug is fixed.

An export that crashes decode or flatten would crash it again whenever its phone retries. So it is
kept at its first crash, answered as set aside, and equal ones never reach the stage again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from atlas.core import names
from atlas.core.errors import AtlasError
from atlas.core.events import ExportQuarantined, Watch
from atlas.core.messages import Decoded, Export, Original, Part, Receipt, Replayed, unbound
from atlas.core.ports import Aside, Clock
from atlas.runtime import Acknowledgement, Address, CompletionRegistry, Lock


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keeps crashing exports, and answers that they are set aside."""

    aside: Aside
    completions: CompletionRegistry[Receipt]
    now: Clock
    watch: Watch
    known: set[str] = field(default_factory=set)
    passing: set[str] = field(default_factory=set)  # those of them that are being replayed

    async def remember(self) -> None:
        """Load the ids that were kept before this start."""
        self.known.update(await self.aside.originals())

    def contains(self, export: Original) -> bool:
        """Whether an equal export is kept, and not being replayed."""
        if not self.known:
            return False
        id = names.original_id(export)
        return id in self.known and id not in self.passing

    @contextmanager
    def let_through(self, id: str) -> Iterator[None]:
        """Let an export pass inside this context."""
        self.passing.add(id)
        try:
            yield
        finally:
            self.passing.discard(id)

    async def forget(self, id: str) -> None:
        """Drop an export that has passed. Equal ones may pass, even if the journal fails here."""
        self.known.discard(id)
        await self.aside.forget(id)

    async def handle(self, export: Original, /) -> Acknowledgement[Receipt]:
        """Keep an export. Its receipt says that it is set aside."""
        id = names.original_id(export)
        receipt = await self.aside.keep(export, id, self.now())
        if not receipt.replayed:
            self.watch(ExportQuarantined(id, export.head.correlation_id, export.head.user.sub))
        self.known.add(id)
        completion = self.completions.get(id)
        completion.resolve(receipt)
        return Acknowledgement(receipt, completion)


@dataclass(frozen=True, slots=True)
class Replay:
    """Sends exports that were set aside through the flow again.

    It holds the lock `alone`, as the user of an export may be being erased.
    """

    quarantine: Quarantine
    decode: Address[Export | Part, Acknowledgement[Receipt]]
    flatten: Address[Decoded, Acknowledgement[Receipt]]
    notify: Callable[[], None]
    alone: Lock

    async def one(self, id: str) -> Replayed:
        """Replay one export. Raises the error of the flow if it is refused after all."""
        aside = self.quarantine.aside
        async with self.alone:
            original = await aside.original(id)
            if original is None:
                again = await aside.accept(id)
                self.notify()
                return Replayed(again, 0)
            with self.quarantine.let_through(id):
                pending = await self.send(original)
                if pending.receipt.status == "set_aside":
                    return Replayed(0, 1)
                await self.quarantine.forget(id)
        return Replayed(1, 0)

    async def all(self) -> Replayed:
        """Replay all, those that Foundry refused as well. A failure does not stop the others."""
        aside = self.quarantine.aside
        again, failed = await aside.accept(None), 0
        self.notify()
        for id in await aside.originals():
            try:
                replayed = await self.one(id)
            except AtlasError:
                failed += 1
            else:
                again, failed = again + replayed.again, failed + replayed.failed
        return Replayed(again, failed)

    async def send(self, original: Original) -> Acknowledgement[Receipt]:
        original = unbound(original)  # its Idempotency-Key may name another export by now
        if isinstance(original, Export | Part):
            return await self.decode.ask(original)
        return await self.flatten.ask(original)
