"""Sends an export in windows, and writes a checkpoint after each."""

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
import typer

from atlas.apple import (
    IDENTITY_DEFAULT,
    Checkpoint,
    CheckpointFile,
    Conversion,
    CountedLines,
    IdentityChoice,
    encode_line,
)
from atlas.cli.progress_meter import ImportMeter
from atlas.cli.send import SendTarget, check_presence, find_token, parse_url
from atlas.cli.transfer_report import fetch_emulator_folder
from atlas.client import Client, LineAccounting, open_client
from atlas.core.errors import JSON_ERRORS

WINDOW_LINES = 64_000  # eight full batches: two for each worker of the client
SKIPPED_AT_ONCE = 1_000  # lines between two checks for Ctrl-C


class ImportRun:
    """One run of an import. It skips the lines that an earlier run has sent."""

    def __init__(
        self,
        begin: Callable[[IdentityChoice], Conversion],
        window_lines: int = WINDOW_LINES,
        choice: IdentityChoice | None = None,
    ) -> None:
        self.begin = begin
        self.window_lines = window_lines
        self.choice = IdentityChoice() if choice is None else choice
        self.balance = LineAccounting()
        self.already_safe = 0
        self.rewind()

    def rewind(self) -> None:
        self.conversion = self.begin(self.choice)
        self.lines = CountedLines(map(encode_line, self.conversion.samples()))

    async def run(self, export: Path, target: SendTarget) -> Path | None:
        """Send everything that is left. `balance` holds the outcome. Raises CommandError.

        Returns the folder of the datasets if it is that of `atlas local`.
        """
        url = parse_url(target.to)
        token = await find_token(url, target)
        if next(iter(self.begin(self.choice).samples()), None) is not None:  # else nothing to send
            await check_presence(url)
        checkpoint_file = CheckpointFile.for_export(
            export, str(url), find_sender(token), target.device or ""
        )
        checkpoint = checkpoint_file.read()
        self.adopt_identity(checkpoint)
        with ImportMeter(self.conversion.size) as meter:
            await self.skip_sent(checkpoint, meter)
            async with open_client(target.to, token, target.device) as client:
                while await self.send_window(client, meter):
                    meter.warn_once(self.write_checkpoint(checkpoint_file))
        if self.balance.last_error is None:
            checkpoint_file.delete()
        return await fetch_emulator_folder(url) if target.token is None else None

    def adopt_identity(self, checkpoint: Checkpoint | None) -> None:
        """Go on with the identity that the interrupted import began with. Raises CommandError."""
        given, self.choice = self.choice, self.choice.resolve(checkpoint)
        if checkpoint and given.identity is None and self.choice.identity != IDENTITY_DEFAULT:
            typer.echo(f"atlas: continuing with --identity {self.choice.identity}", err=True)
        self.rewind()

    async def skip_sent(self, checkpoint: Checkpoint | None, meter: ImportMeter) -> None:
        """Skip the lines of the checkpoint; none, if the export has changed since."""
        if checkpoint is None:
            return
        while self.lines.taken < checkpoint.lines:
            step = min(SKIPPED_AT_ONCE, checkpoint.lines - self.lines.taken)
            if sum(1 for _ in self.lines.take(step)) < step:
                break
            meter.show("skipping sent lines", self.conversion.bytes_read, self.lines.taken)
            await anyio.lowlevel.checkpoint()
        if self.lines.digest == checkpoint.digest:
            self.already_safe = self.lines.taken
        else:
            self.rewind()

    async def send_window(self, client: Client, meter: ImportMeter) -> bool:
        """Send a window. False if it was not answered completely, or was the last one."""
        first, part = self.lines.taken, LineAccounting()

        def warn(warning: str) -> None:
            activity = f"{warning}; trying again" if warning else "importing"
            meter.show(activity, self.conversion.bytes_read, self.lines.taken)
            meter.warn_once(activity if warning else "")

        try:
            await client.send(self.lines.take(self.window_lines), part, warn)
        finally:
            add_window(self.balance, part, first)
        return part.last_error is None and self.lines.taken - first == self.window_lines

    def write_checkpoint(self, checkpoint_file: CheckpointFile) -> str:
        """Write the checkpoint, and return a warning if that fails, or ""."""
        try:
            checkpoint_file.write(self.lines.taken, self.lines.digest, self.choice)
        except OSError as error:
            path = checkpoint_file.path
            return f"Cannot write {path} ({error.strerror}): do not interrupt this import"
        return ""


def add_window(balance: LineAccounting, window: LineAccounting, first: int) -> None:
    """Add a window, which starts after `first` lines, to the total."""
    balance.read += window.read
    balance.committed += window.committed
    balance.accepted += window.accepted
    balance.unsent += window.unsent
    balance.replayed += window.replayed
    balance.bytes += window.bytes
    balance.exports += window.exports
    balance.record_rejected(
        window.rejected, [(first + number, reason) for number, reason in window.rejects]
    )
    balance.last_error = window.last_error


def find_sender(token: str) -> str:
    """Return the token's `sub`, which a renewed token has, too; else the token itself."""
    with suppress(*JSON_ERRORS, binascii.Error, ValueError, IndexError):
        claims = token.split(".")[1]
        padded = claims + "=" * (-len(claims) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=TokenClaims).sub
    return token


class TokenClaims(msgspec.Struct):
    """The claims of a token that are used here."""

    sub: str
