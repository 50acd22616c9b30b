"""What the edge asks of the flow: an export in, a receipt out, and how long it waits for that."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio
import msgspec
from starlette.requests import Request

from atlas.core.errors import AtlasError, FoundryError, Rejected, Unavailable
from atlas.core.messages import Export, Part, Receipt
from atlas.edge.admission import Crowd
from atlas.runtime import Address, Pending

WAIT_SECONDS_MAX = 50.0  # iOS sends again after 60
COUNT = re.compile(r"[0-9]{1,9}")
KEY = re.compile(r"[\x21-\x7e]{1,255}")
PREFERENCE = re.compile(r"([A-Za-z-]+)\s*(?:=\s*\"?([^\";,]*)\"?)?")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The flow behind the edge. Only a durable journal may answer that an export is safe."""

    exports: Address[Export | Part, Pending[Receipt]]
    crowd: Crowd
    reply_seconds: float
    is_durable: bool

    async def accepted(self, export: Export | Part) -> Pending[Receipt]:
        """Raises Unavailable when there is no room in the flow for too long."""
        with self.crowd.one(), self.deadline():
            return await self.exports.ask(export)

    async def committed(self, pending: Pending[Receipt], until: float) -> Receipt:
        """The receipt; committed, or, when that takes too long or we end, that it is safe.

        `until` is a moment of the loop's clock. Raises FoundryError where there is no disk to be
        safe on, Forgotten.
        """
        receipt = pending.now
        with anyio.move_on_after(until - anyio.current_time()), suppress(Unavailable):
            later = await pending.later.outcome()
            receipt = msgspec.structs.replace(later, replayed=receipt.replayed)
        if receipt.status != "committed" and not self.is_durable:
            raise FoundryError("Not committed in time. The same request joins it.")
        return receipt

    async def outcome(
        self, accepted: Pending[Receipt] | AtlasError, until: float
    ) -> Receipt | AtlasError:
        """Committed, or that it is safe, or why it is neither."""
        if isinstance(accepted, AtlasError):
            return accepted
        try:
            return await self.committed(accepted, until)
        except AtlasError as error:
            return error

    def wait_seconds(self, request: Request) -> float:
        """How long the sender waits for the commit: as he wants to (RFC 7240), or has to."""
        preferences = ",".join(request.headers.getlist("prefer"))
        found = {match[1].lower(): match[2] for match in PREFERENCE.finditer(preferences)}
        wait = found.get("wait") or ""
        if not self.is_durable:
            return self.reply_seconds
        if COUNT.fullmatch(wait):
            return min(float(wait), WAIT_SECONDS_MAX)
        return 0.0 if "respond-async" in found else self.reply_seconds

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Backpressure ends here: a sender that cannot be served in time is told so."""
        try:
            with anyio.fail_after(self.reply_seconds):
                yield
        except TimeoutError as error:
            raise Unavailable("There is no room in the flow now.") from error


def idempotency_key(request: Request) -> str | None:
    """Raises Rejected for what cannot be a key."""
    key = request.headers.get("idempotency-key") or None  # an empty one is none
    if key is not None and not KEY.fullmatch(key):
        raise Rejected("Idempotency-Key has 1 to 255 printable ASCII characters and no space.")
    return key
