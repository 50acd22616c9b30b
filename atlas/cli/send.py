"""`atlas send`: sends a file as the app would."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import aiohttp
import anyio
import typer
from yarl import URL

from atlas.cli import emulators, tokens
from atlas.cli.configuration import JsonOption
from atlas.cli.ndjson_input import NotRecords, Records, open_records
from atlas.cli.progress_meter import build_progress
from atlas.cli.transfer_report import fetch_emulator_folder, print_outcome
from atlas.client import CannotSend, LineAccounting, open_client, stream
from atlas.core.errors import CommandError
from atlas.settings import is_loopback

URL_DEFAULT = f"http://{emulators.HOST}:8080"
STREAM_BYTES = 1024 * 1024
PROBE_SECONDS = 10.0
PROBES, PROBE_PAUSE_SECONDS = 3, 1.0  # a restarting Atlas cuts a connection once
RENEWAL = "Pass a new token with --token or ATLAS_TOKEN."
INTERRUPTED = (
    "Interrupted: some of the lines counted as not sent may have arrived. "
    "Send the same file again: nothing is added twice."
)

FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="NDJSON; - is standard input."),
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Value of the column device.")
]
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
        metavar="TOKEN",
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
    json: JsonOption = False,
) -> None:
    """Send a file of HealthKit records, as the app would.

    Reports the outcome of its lines, and where the rows are. Sending the same file again adds
    nothing twice. Exits with 1 if not all lines could be sent, or all were rejected.

    Example: atlas send watch.ndjson --device 'Apple Watch'
    """
    balance, target = LineAccounting(), SendTarget(to, token, device, streamed)
    url = parse_url(to)
    with open_records(file) as records:
        if streamed and not records.file.seekable():
            raise typer.BadParameter("--stream requires a file: a retry cannot read a pipe again.")
        try:
            folder = anyio.run(send_records, url, records, balance, target)
        except KeyboardInterrupt:
            print_outcome(balance, None, json=json)
            typer.echo(f"atlas: {INTERRUPTED}", err=True)
            raise
    print_outcome(balance, folder, json=json)
    check_outcome(balance)
    if not balance.read:
        raise NotRecords("There are only blank lines: nothing was sent.")


def check_outcome(balance: LineAccounting, advice: str = "") -> None:
    """Raise CommandError if lines could not be sent, or all were rejected."""
    error = balance.last_error
    if error is not None:
        hint = RENEWAL if error.startswith("401 ") else ""
        raise CannotSend(" ".join(filter(None, (error, hint, advice))))
    if balance.read and balance.rejected == balance.read:
        raise CommandError(f"All lines were rejected ({balance.read:,}).")


@dataclass(frozen=True, slots=True)
class SendTarget:
    """The address, token and device of a transfer."""

    to: str
    token: str | None
    device: str | None
    is_streamed: bool


async def send_records(
    url: URL, records: Records, balance: LineAccounting, target: SendTarget
) -> Path | None:
    """Send all records, and return the folder of the datasets if that is `atlas local`'s.

    Raises CommandError.
    """
    token = await find_token(url, target)
    await check_presence(url)
    with build_progress("sending", records.size) as progress:
        task, warned = progress.task_ids[0], set[str]()

        def warn(warning: str) -> None:
            activity = f"{warning}; trying again" if warning else "sending"
            progress.update(task, completed=balance.bytes, description=activity)
            if progress.disable and warning and warning not in warned:
                warned.add(warning)
                typer.echo(f"atlas: {activity}", err=True)

        async with open_client(target.to, token, target.device) as client:
            if target.is_streamed:
                await stream(client, lambda: read_text_blocks(records.file), balance, warn)
            else:
                await client.send(records.lines, balance, warn)
    return await fetch_emulator_folder(url) if target.token is None else None


class NoServer(CommandError):
    """No Atlas is at the URL."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}: run atlas local, or name the URL of Atlas with --to.")


async def find_token(url: URL, target: SendTarget) -> str:
    """Return the token of the target, or one of `atlas local`. Raises CommandError."""
    return await fetch_emulator_token(url) if target.token is None else target.token


async def check_presence(url: URL) -> None:
    """Raise CommandError if nothing listens at the URL, or nothing that answers.

    Later, a connection that is refused or cut is tried again: then Atlas only restarts.
    """
    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for attempt in range(PROBES):
            try:
                with suppress(TimeoutError):
                    await session.get(url / "health/live", allow_redirects=False)
            except aiohttp.ClientSSLError:
                return  # the upload fails for the same reason, and says so
            except aiohttp.ClientConnectorDNSError as error:
                raise NoServer(f"The host of {url} is unknown") from error
            except aiohttp.ClientConnectorError as error:
                raise NoServer(f"Nothing listens at {url}") from error
            except aiohttp.ClientError as error:
                if attempt == PROBES - 1:
                    raise NoServer(f"What listens at {url} does not answer") from error
                await anyio.sleep(PROBE_PAUSE_SECONDS)
            else:
                return


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
        raise CommandError(
            f"{str(error).rstrip('.')}, name its URL with --to, or {otherwise}"
        ) from error
