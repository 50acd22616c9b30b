"""`atlas health`: checks a running Atlas, as the HEALTHCHECK of a container.

It uses the HTTP client of the standard library and no event loop, because it runs twice a minute
within the memory limit of the service.
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

from atlas.cli.configuration import ConfigOption, JsonOption, load_edge_settings
from atlas.core.errors import JSON_ERRORS, CommandError
from atlas.settings import EdgeSettings, is_url

TIMEOUT_SECONDS = 5.0
RESPONSE_BYTES_MAX = 64 * 1024
# the loopback address of a listener on all interfaces
LOOPBACK_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound

ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="URL",
        help="The URL of Atlas. Default: $ATLAS_URL, else this machine, at the configured port.",
    ),
]
ReadyOption = Annotated[
    bool,
    typer.Option(
        "--ready", help="Check that it can accept an export now, not only that it is running."
    ),
]


def health(
    to: ToOption = None,
    ready: ReadyOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the health of a running Atlas, for a container.

    Exits with 0 if it is healthy, else with 1 and the reason.

    Example: atlas health --ready
    """
    url = to or os.environ.get("ATLAS_URL") or get_local_url(load_edge_settings(config, os.environ))
    if not is_url(url):
        raise typer.BadParameter(f"{url} is not an http or https URL.", param_hint="--to")
    status = fetch_health(url, "/health/ready" if ready else "/health/live")
    typer.echo(msgspec.json.encode({"status": status}).decode() if json else status)


def get_local_url(edge: EdgeSettings) -> str:
    """Return the URL of a listener with these settings, from its own machine."""
    host = LOOPBACK_HOSTS.get(edge.host, edge.host)
    return f"http://[{host}]:{edge.port}" if ":" in host else f"http://{host}:{edge.port}"


class ReportedCheck(msgspec.Struct):
    ok: bool
    reason: Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = ""  # one line


class ReportedHealth(msgspec.Struct):
    """The body of a health response. Only that of readiness has `checks`."""

    status: Literal["healthy", "ready", "not ready"]
    checks: dict[str, ReportedCheck] = {}


class Unhealthy(CommandError):
    """Atlas does not respond, or reports that it is not healthy."""


def fetch_health(url: str, path: str, seconds: float = TIMEOUT_SECONDS) -> str:
    """Return the reported status. Raises Unhealthy, without a password from the URL."""
    address = urlsplit(url)
    shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
    try:
        with deadline(seconds):
            status, body = fetch(url, path)
        reply = msgspec.json.decode(body, type=ReportedHealth)
    except TimeoutError as error:
        raise Unhealthy(f"No response from {shown} within {seconds:g} s.") from error
    except OSError as error:
        raise Unhealthy(f"Cannot connect to {shown}: {error.strerror or error}.") from error
    except UnicodeError as error:
        raise Unhealthy(f"Cannot connect to {shown}: the host name is invalid.") from error
    except (HTTPException, *JSON_ERRORS) as error:
        raise Unhealthy(f"The server at {shown} is not Atlas.") from error
    if status == 200:
        return reply.status
    reasons = [f"{name}: {each.reason}" for name, each in reply.checks.items() if not each.ok]
    raise Unhealthy(f"Atlas at {shown} is {reply.status}. {' '.join(reasons)}".strip())


def fetch(url: str, path: str) -> tuple[int, bytes]:
    """Return status and body. Raises OSError, HTTPException."""
    address = urlsplit(url)
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    with closing(kind(address.hostname or "", address.port)) as connection:
        connection.request("GET", address.path.rstrip("/") + path)
        response = connection.getresponse()
        return response.status, response.read(RESPONSE_BYTES_MAX)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit the total time, including the DNS lookup and a slow body. Raises TimeoutError."""

    def raise_timeout(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, raise_timeout)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
