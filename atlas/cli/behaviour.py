"""Options of `atlas local` for the behaviour of its Foundry emulator."""

from collections.abc import Iterable
from typing import Annotated

import typer

from atlas.local.foundry.behaviour import Behaviour, InvalidMode

OPTION = "--foundry-behaviour"

BehaviourOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Emulate an undocumented behaviour of Foundry, such as open_listing=listed. "
        f"May be repeated. Modes: {', '.join(Behaviour.list_values())}. "
        "An invalid value lists the valid ones.",
    ),
]
RefuseOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="Foundry rejects uploads whose path contains TEXT, with 400 InvalidFilePath. "
        "May be repeated.",
    ),
]


def parse_behaviour(options: Iterable[str] | None, option_name: str = OPTION) -> Behaviour:
    """Parse options NAME=VALUE; the last one for a mode wins. Raises typer.BadParameter."""
    modes = {}
    for option in options or ():
        name, separator, value = option.partition("=")
        if not separator:
            raise typer.BadParameter(f"{option!r} is not NAME=VALUE.", param_hint=option_name)
        modes[name] = value
    try:
        return Behaviour().change(modes, strict=False)
    except InvalidMode as error:
        raise typer.BadParameter(str(error), param_hint=option_name) from error
