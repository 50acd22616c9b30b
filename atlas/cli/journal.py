"""`atlas exports`: what stands in the journal. A running service is asked; else the file is."""

from typing import Annotated, Any

import anyio
import msgspec
import typer
from rich.console import Console
from rich.table import Table

from atlas.cli import configuration
from atlas.core.errors import CannotStart, JournalHeld
from atlas.core.messages import Entry, Status
from atlas.outside.sqlite.journal import opened

app = typer.Typer(no_args_is_help=True, help="The journal: accepted, committed, set aside.")
