"""Options of `atlas local` for how its stand-in of Foundry behaves."""

from collections.abc import Iterable
from typing import Annotated

import typer

from atlas.local.foundry.behaviour import Behaviour, InvalidMode

OPTION = "--foundry-behaviour"

BehaviourOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Plays a behaviour of Foundry that is not documented, such as open_listing=listed; "
        f"may be repeated. Modes: {', '.join(Behaviour.list_values())}. "
        "A wrong value lists the valid ones.",
    ),
]
RefuseOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="Foundry refuses uploads whose path contains this, with 400 InvalidFilePath; "
        "may be repeated.",
    ),
]


def parse_behaviour(options: Iterable[str] | None) -> Behaviour:
    """Parse options NAME=VALUE; of two for one mode, the later. Raises typer.BadParameter."""
    modes = {}
    for option in options or ():
        name, separator, value = option.partition("=")
        if not separator:
            raise typer.BadParameter(f"{option!r} is not NAME=VALUE.", param_hint=OPTION)
        modes[name] = value
    try:
        return Behaviour().change(modes, strict=False)
    except InvalidMode as error:
        raise typer.BadParameter(str(error), param_hint=OPTION) from error
