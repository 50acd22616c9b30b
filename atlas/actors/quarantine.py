"""What no stage can bear stands here as it came, until somebody has mended the stage.

An export that crashes decode or flatten would crash it again whenever its phone tries. So it is
kept at its first crash, answered as set aside, and its twins never reach the stage again.
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
    """What does somebody get for what crashes us? That it is kept, and stands aside."""

    aside: Aside
    completions: CompletionRegistry[Receipt]
    now: Clock
    watch: Watch
    known: set[str] = field(default_factory=set)
    passing: set[str] = field(default_factory=set)  # of those, what is let through now

    async def remember(self) -> None:
        """What stands here from an earlier life."""
        self.known.update(await self.aside.originals())

    def knows(self, export: Original) -> bool:
        """Whether it has to stay here."""
        if not self.known:
            return False
        id = names.original_id(export)
        return id in self.known and id not in self.passing

    @contextmanager
    def let_through(self, id: str) -> Iterator[None]:
        """As long as this lasts. It stands here again behind it, unless it has been forgotten."""
        self.passing.add(id)
        try:
            yield
        finally:
            self.passing.discard(id)

    async def forget(self, id: str) -> None:
        """It went through, and so may its twins, even if the journal does not hear of it."""
        self.known.discard(id)
        await self.aside.forget(id)

    async def handle(self, export: Original, /) -> Acknowledgement[Receipt]:
        """Its receipt, which is as good as it gets."""
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
    """Sends what was set aside through the flow once more, by the way that it came.

    It does so `alone`: somebody may be about to forget whose it is.
    """

    quarantine: Quarantine
    decode: Address[Export | Part, Acknowledgement[Receipt]]
    flatten: Address[Decoded, Acknowledgement[Receipt]]
    ring: Callable[[], None]
    alone: Lock

    async def one(self, id: str) -> Replayed:
        """Raises what the flow has against it, if it is a reject after all."""
        aside = self.quarantine.aside
        async with self.alone:
            original = await aside.original(id)
            if original is None:
                again = await aside.accept(id)
                self.ring()
                return Replayed(again, 0)
            with self.quarantine.let_through(id):
                pending = await self.send(original)
                if pending.receipt.status == "set_aside":
                    return Replayed(0, 1)
                await self.quarantine.forget(id)
        return Replayed(1, 0)

    async def all(self) -> Replayed:
        """Those that Foundry did not take, too. One that fails again is in nobody's way."""
        aside = self.quarantine.aside
        again, failed = await aside.accept(None), 0
        self.ring()
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
