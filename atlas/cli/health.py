"""`atlas health`: a container asks whether the Atlas in it is well.

It imports no HTTP client but the standard library's, and no event loop: it runs twice a minute
beside a service, in the memory of that.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
import typer

from atlas.cli.configuration import ConfigOption, load_settings
from atlas.core.errors import JSON_ERRORS, CommandError
from atlas.settings import EdgeSettings, is_url

ANSWER_SECONDS = 5.0
ANSWER_BYTES_MAX = 64 * 1024
WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it is asked, not bound

ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="URL",
        help="Where Atlas is; else $ATLAS_URL, else this machine, at the port of the settings.",
    ),
]
ReadyOption = Annotated[
    bool, typer.Option("--ready", help="Can it accept an export now? Else: does it turn at all?")
]


def health(to: ToOption = None, ready: ReadyOption = False, config: ConfigOption = None) -> None:
    """Ask a running Atlas how it is, as a container's HEALTHCHECK.

    Exit 0 when it is well, else 1, with one line that says why. Example: atlas health --ready
    """
    url = to or os.environ.get("ATLAS_URL") or local_url(load_settings(config, os.environ).edge)
    if not is_url(url):
        raise typer.BadParameter(f"{url} is no URL of http or https.", param_hint="--to")
    typer.echo(fetch_health(url, "/health/ready" if ready else "/health/live"))


def local_url(edge: EdgeSettings) -> str:
    """Where a listener with these settings is reached on its own machine."""
    host = WILDCARD_HOSTS.get(edge.host, edge.host)
    return f"http://[{host}]:{edge.port}" if ":" in host else f"http://{host}:{edge.port}"


class ReportedCheck(msgspec.Struct):
    ok: bool
    reason: Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = ""  # one line


class ReportedHealth(msgspec.Struct):
    """What the service says of itself: `checks` only when it was asked whether it is ready."""

    status: Literal["healthy", "ready", "not ready"]
    checks: dict[str, ReportedCheck] = {}


class Unhealthy(CommandError):
    """It does not answer, or says itself what is wrong."""


def fetch_health(url: str, path: str, seconds: float = ANSWER_SECONDS) -> str:
    """How it is, in a word. Raises Unwell, which does not tell a password that is in the URL."""
    address = urlsplit(url)
    shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
    try:
        with deadline(seconds):
            status, body = fetch(url, path)
        reply = msgspec.json.decode(body, type=ReportedHealth)
    except TimeoutError as error:
        raise Unhealthy(f"No answer from {shown} within {seconds:g} s.") from error
    except OSError as error:
        raise Unhealthy(f"Nobody answers at {shown}: {error.strerror or error}.") from error
    except UnicodeError as error:
        raise Unhealthy(f"Nobody answers at {shown}: no host has such a name.") from error
    except (HTTPException, *JSON_ERRORS) as error:
        raise Unhealthy(f"What answers at {shown} is no Atlas.") from error
    if status == 200:
        return reply.status
    reasons = [f"{name}: {each.reason}" for name, each in reply.checks.items() if not each.ok]
    raise Unhealthy(f"Atlas at {shown} is {reply.status}. {' '.join(reasons)}".strip())


def fetch(url: str, path: str) -> tuple[int, bytes]:
    """Raises OSError, HTTPException."""
    address = urlsplit(url)
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    with closing(kind(address.hostname or "", address.port)) as connection:
        connection.request("GET", address.path.rstrip("/") + path)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """For all of it, a name's look-up and an answer that trickles too. Raises TimeoutError."""

    def end(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
