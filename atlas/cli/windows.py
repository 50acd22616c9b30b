"""Sends an export window by window, and remembers after each that it is safe."""

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from atlas.apple import Conversion, Lines, Mark, Place, line
from atlas.cli.meter import Meter
from atlas.cli.phone import Target, summary, token_beside, url_of
from atlas.client import Balance, Client, connected
from atlas.core.errors import NOT_JSON

WINDOW_LINES = 64_000  # eight full batches, two for each of the client's workers
STEP_LINES = 1_000  # passed over before an interrupt is heard


class Sending:
    """One run. What an earlier run sent is passed over."""

    def __init__(self, begin: Callable[[], Conversion], window_lines: int = WINDOW_LINES) -> None:
        self.begin = begin
        self.window_lines = window_lines
        self.balance = Balance()
        self.safe_before = 0
        self.rewind()

    def rewind(self) -> None:
        self.conversion = self.begin()
        self.lines = Lines(map(line, self.conversion.samples()))

    @property
    def summary(self) -> str:
        text = summary(self.balance)
        return f"{text}, and {self.safe_before:,} safe before" if self.safe_before else text

    async def run(self, export: Path, target: Target) -> None:
        """Raises CannotStart. Whatever else happens stands in the balance."""
        url, token = url_of(target.to), target.token
        if token is None:
            token = await token_beside(url)
        place = Place.beside(export, str(url), whose(token), target.device or "")
        with Meter(self.conversion.size) as meter:
            await self.pass_over(place.mark(), meter)
            async with connected(target.to, token, target.device) as client:
                while await self.send_window(client, meter):
                    meter.tell_once(self.keep(place))
        if self.balance.trouble is None:
            place.forget()

    async def pass_over(self, mark: Mark | None, meter: Meter) -> None:
        """All that the mark stands for; nothing, if this is another export by now."""
        if mark is None:
            return
        while self.lines.taken < mark.lines:
            step = min(STEP_LINES, mark.lines - self.lines.taken)
            if sum(1 for _ in self.lines.take(step)) < step:
                break
            meter.show("passing over what is safe", self.conversion.bytes_read, self.lines.taken)
            await anyio.lowlevel.checkpoint()
        if self.lines.digest == mark.digest:
            self.safe_before = self.lines.taken
        else:
            self.rewind()

    async def send_window(self, client: Client, meter: Meter) -> bool:
        """Whether all of it is answered, and more may follow."""
        first, part = self.lines.taken, Balance()

        def tell(trouble: str) -> None:
            what = f"{trouble}; trying again" if trouble else "importing"
            meter.show(what, self.conversion.bytes_read, self.lines.taken)
            meter.tell_once(what if trouble else "")

        try:
            await client.send(self.lines.take(self.window_lines), part, tell)
        finally:
            add(self.balance, part, first)
        return part.trouble is None and self.lines.taken - first == self.window_lines

    def keep(self, place: Place) -> str:
        """Why it cannot be kept, if it cannot: then the next run begins at the beginning."""
        try:
            place.keep(self.lines.taken, self.lines.digest)
        except OSError as error:
            return f"{place.path} cannot be written ({error.strerror}): do not interrupt this"
        return ""


def add(balance: Balance, part: Balance, first: int) -> None:
    """A window, which begins behind so many lines, to the whole."""
    balance.read += part.read
    balance.committed += part.committed
    balance.accepted += part.accepted
    balance.unsent += part.unsent
    balance.replayed += part.replayed
    balance.bytes += part.bytes
    balance.reject(part.rejected, [(first + number, reason) for number, reason in part.rejects])
    balance.trouble = part.trouble


def whose(token: str) -> str:
    """The `sub` in it, so that a fresh token is the same sender; else the token itself."""
    with suppress(*NOT_JSON, binascii.Error, ValueError, IndexError):
        claims = token.split(".")[1]
        padded = claims + "=" * (-len(claims) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=Claims).sub
    return token


class Claims(msgspec.Struct):
    sub: str
