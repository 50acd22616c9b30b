"""The commands behind `just prove` and `just soak`."""

import typer

from tests.chaos.prove_command import prove
from tests.chaos.soak_command import soak

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(prove)
app.command()(soak)

if __name__ == "__main__":
    app()
