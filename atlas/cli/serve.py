"""`atlas serve`: runs the service."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import TracebackType

import typer

from atlas.cli.configuration import ConfigOption, load_settings
from atlas.core.errors import CommandError
from atlas.server import ServiceManager, run
from atlas.service import JsonProcessLog, is_json_log
from atlas.settings import REQUIRED


def serve(config: ConfigOption = None) -> None:
    """Run the service. Environment variables override the settings of the file.

    Example: AUTH0_DOMAIN=x.eu.auth0.com FOUNDRY_HOST=x.palantirfoundry.com
    FOUNDRY_CLIENT_ID=... FOUNDRY_CLIENT_SECRET=... atlas serve
    """
    with report_failures(os.environ.get("ATLAS_LOG_FORMAT", "auto")):
        settings = load_settings(config, os.environ, REQUIRED)
    log_format = settings.log.format
    with report_failures(log_format):
        manager = ServiceManager(os.environ.get("NOTIFY_SOCKET", ""))
        run(settings, nullcontext, partial(report_ready, log_format), manager=manager)


def print_ready(at: str) -> None:
    typer.echo(f"ready {at}")


def report_ready(log_format: str, at: str) -> None:
    """Print the URL of a service that is ready: as JSON if its log is JSON."""
    if is_json_log(log_format, sys.stderr):
        JsonProcessLog(sys.stdout).report_ready(at)
    else:
        print_ready(at)


@contextmanager
def report_failures(log_format: str) -> Iterator[None]:
    """If the log is JSON, so is the line that says why the process ends."""
    if not is_json_log(log_format, sys.stderr):
        yield
        return
    process_log = JsonProcessLog(sys.stderr)
    sys.excepthook = partial(report_bug, process_log)
    try:
        yield
    except CommandError as error:
        process_log.report_failure(str(error), error.exit_code)
        sys.exit(error.exit_code)
    except OSError as error:  # such as a full disk
        process_log.report_failure(f"{error.strerror or repr(error)}.", 1)
        sys.exit(1)


def report_bug(
    process_log: JsonProcessLog,
    _kind: type[BaseException],
    error: BaseException,
    _trace: TracebackType | None,
) -> None:
    process_log.report_bug(error)
