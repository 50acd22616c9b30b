"""`atlas send`: sends a file as the app would."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import anyio
import typer
from yarl import URL

from atlas.cli import emulators, tokens
from atlas.cli.progress_meter import build_progress
from atlas.client import CannotSend, LineAccounting, open_client, stream
from atlas.core.errors import CommandError
from atlas.settings import is_loopback

URL_DEFAULT = f"http://{emulators.HOST}:8080"
STREAM_BYTES = 1024 * 1024
INTERRUPTED = (
    "Interrupted: some of the lines counted as not sent may have arrived. "
    "Send the same file again: nothing is added twice."
)

FileArgument = Annotated[
    typer.FileBinaryRead, typer.Argument(metavar="FILE", help="NDJSON; - is standard input.")
]
DeviceOption = Annotated[str | None, typer.Option(help="Value of the column device.")]
ToOption = Annotated[
    str, typer.Option("--to", envvar="ATLAS_URL", metavar="URL", help="The URL of Atlas.")
]


def clean_token(token: str | None) -> str | None:
    """Remove whitespace around a token, such as a newline. Raises typer.BadParameter."""
    token = None if token is None else token.strip()
    if token is not None and not (token.isascii() and token.isprintable()):
        raise typer.BadParameter("A token must be one line of printable ASCII.")
    return token


TokenOption = Annotated[
    str | None,
    typer.Option(
        envvar="ATLAS_TOKEN",
        callback=clean_token,
        help="Default: a token from the Auth0 emulator of `atlas local`.",
    ),
]
StreamOption = Annotated[
    bool, typer.Option("--stream", help="Send one request, as for a first sync of years of data.")
]


def send(
    file: FileArgument,
    device: DeviceOption = None,
    to: ToOption = URL_DEFAULT,
    token: TokenOption = None,
    streamed: StreamOption = False,
) -> None:
    """Send a file of HealthKit records as the app would, and report the outcome of its lines.

    Sending the same file again adds nothing twice.

    Example: atlas send watch.ndjson --device 'Apple Watch'
    """
    balance = LineAccounting()
    try:
        anyio.run(send_file, file, balance, SendTarget(to, token, device, streamed))
    except KeyboardInterrupt:
        typer.echo(render_summary(balance))
        typer.echo(f"atlas: {INTERRUPTED}", err=True)
        raise
    typer.echo(render_summary(balance))
    for line, reason in balance.rejects:
        typer.echo(f"line {line}: {reason}" if line else reason, err=True)
    if balance.last_error:
        raise CannotSend(balance.last_error)


@dataclass(frozen=True, slots=True)
class SendTarget:
    """The address, token and device of a transfer."""

    to: str
    token: str | None
    device: str | None
    is_streamed: bool


async def send_file(file: BinaryIO, balance: LineAccounting, target: SendTarget) -> None:
    url, token = parse_url(target.to), target.token
    if target.is_streamed and not file.seekable():
        raise typer.BadParameter("--stream requires a file: a retry cannot read a pipe again.")
    if token is None:
        token = await fetch_emulator_token(url)
    with build_progress("sending", get_size(file)) as progress:
        task, warned = progress.task_ids[0], set[str]()

        def warn(warning: str) -> None:
            activity = f"{warning}; trying again" if warning else "sending"
            progress.update(task, completed=balance.bytes, description=activity)
            if progress.disable and warning and warning not in warned:
                warned.add(warning)
                typer.echo(f"atlas: {activity}", err=True)

        async with open_client(target.to, token, target.device) as client:
            if target.is_streamed:
                await stream(client, lambda: read_text_blocks(file), balance, warn)
            else:
                await client.send(file, balance, warn)


def parse_url(to: str, option: str = "--to") -> URL:
    """Parse an http or https URL. Raises typer.BadParameter."""
    try:
        url = URL(to)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{to} is not an http or https URL.", param_hint=option) from None
    return url


def read_text_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the whole file in blocks of whole lines."""
    file.seek(0)
    while block := file.readlines(STREAM_BYTES):
        yield b"".join(block)


async def fetch_emulator_token(url: URL) -> str:
    """Fetch a token from the Auth0 emulator of the `atlas local` at this URL.

    Raises CommandError.
    """
    otherwise = "set --token or ATLAS_TOKEN."
    port = (url.port or 0) + 2
    if not is_loopback(url.host or "") or port > 65_535:
        raise CommandError(f"{url} is not `atlas local`, which has an Auth0 emulator: {otherwise}")
    try:
        return await tokens.fetch_token(str(url.with_port(port).origin()), emulators.SUB)
    except CommandError as error:
        raise CommandError(f"{error} Or {otherwise}") from error


def get_size(file: BinaryIO) -> int | None:
    """Return the size in bytes, or None if it is unknown, as for a pipe."""
    path = Path(file.name) if isinstance(file.name, str) else None
    return path.stat().st_size if path is not None and path.is_file() else None


def render_summary(balance: LineAccounting) -> str:
    parts = [
        f"{balance.committed:,} rows committed",
        f"{balance.accepted:,} accepted",
        f"{balance.rejected:,} rejected",
    ]
    if balance.unsent:
        parts.append(f"{balance.unsent:,} not sent")
    text = f"{balance.read:,} lines read = " + " + ".join(parts)
    return f"{text}  ({balance.replayed:,} already stored)" if balance.replayed else text
