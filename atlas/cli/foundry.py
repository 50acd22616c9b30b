"""`atlas foundry`: creates resources in Foundry beside the dataset."""

import os
import re
from typing import Annotated

import anyio
import msgspec
import typer

from atlas import service
from atlas.cli.configuration import ConfigOption, JsonOption, load_settings
from atlas.cli.main import build_group
from atlas.cli.progress_meter import show_activity
from atlas.cli.schema import format_json
from atlas.core.errors import ConfigurationError
from atlas.core.stream import StreamKind
from atlas.settings import require_foundry
from atlas.settings.values import RID

app = build_group(
    """Create resources in Foundry beside the dataset.

    Example: atlas foundry make-view --folder ri.compass.main.folder.1 --dry-run
    """
)

FolderOption = Annotated[
    str, typer.Option(metavar="RID", help="The folder in Foundry to create it in.")
]
NameOption = Annotated[str, typer.Option(metavar="NAME", help="Its name in the folder.")]
BranchOption = Annotated[
    str | None,
    typer.Option(metavar="BRANCH", help="The branch of the View. Default: FOUNDRY_BRANCH."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the request, and create nothing.")
]
KindOption = Annotated[
    StreamKind,
    typer.Option(
        "--type", metavar="TYPE", help="LOW_LATENCY, or HIGH_THROUGHPUT for many MB a second."
    ),
]


@app.command()
def make_view(
    folder: FolderOption,
    name: NameOption = "healthkit_samples",
    branch: BranchOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Create a View that has the latest row of each sample.

    The rows need 23 columns, and the dataset their schema. A View has no build and no code:
    Foundry keeps it up to date. Its key cannot be changed, and Atlas never deletes it.

    Example: atlas foundry make-view --folder ri.compass.main.folder.1
    """
    settings = load_settings(config, os.environ)
    require_foundry(settings)
    require_folder(folder)
    request = service.build_view_request(settings, folder, name, branch)
    with show_activity("Looking at the dataset"):
        plan = anyio.run(service.plan_view, settings, request)
    for warning in plan.warnings:
        typer.echo(f"atlas: {warning}", err=True)
    if dry_run:
        typer.echo(format_json(plan.request))
        return
    with show_activity("Creating the View"):
        view = anyio.run(service.create_view, settings, request)
    if json:
        typer.echo(msgspec.json.encode(view).decode())
    else:
        typer.echo(f"{view.rid}\nIn Foundry: {view.url}")


@app.command()
def make_stream(
    folder: FolderOption,
    name: NameOption = "healthkit_stream",
    kind: KindOption = "LOW_LATENCY",
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Create a stream for rows as they are accepted.

    Then set FOUNDRY_STREAM_RID to its RID, and restart Atlas. Foundry bills the compute of a
    stream also while nothing arrives.

    Example: atlas foundry make-stream --folder ri.compass.main.folder.1
    """
    settings = load_settings(config, os.environ)
    require_folder(folder)
    if dry_run:
        typer.echo(format_json(service.build_stream_request(folder, name, kind)))
        return
    require_foundry(settings)
    with show_activity("Creating the stream"):
        rid = anyio.run(service.create_stream, settings, folder, name, kind)
    if json:
        typer.echo(msgspec.json.encode({"rid": rid}).decode())
    else:
        typer.echo(rid)
        typer.echo("atlas: Set FOUNDRY_STREAM_RID to this RID, and restart Atlas.", err=True)


def require_folder(folder: str) -> None:
    """Raise ConfigurationError if this is not a RID."""
    if not re.match(RID, folder):
        raise ConfigurationError(
            "--folder must be a RID: in Foundry, the folder, Details, RID (ri.compass.main...)."
        )
