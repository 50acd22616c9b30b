"""`atlas sample`: prints synthetic records."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas.synthetic import generate_lines

DAYS_MAX = 366
YEAR_MIN = 1970

DaysOption = Annotated[
    int, typer.Option(metavar="N", min=1, max=DAYS_MAX, help="Number of days, some 320 lines each.")
]
SeedOption = Annotated[
    int, typer.Option(metavar="N", help="Each seed is another person, always the same one.")
]
EndOption = Annotated[
    datetime | None,
    typer.Option(
        metavar="DATE", formats=["%Y-%m-%d"], help="The day after the last one. Default: today."
    ),
]


def sample(days: DaysOption = 7, seed: SeedOption = 1, end: EndOption = None) -> None:
    """Print synthetic records of one phone and watch, as NDJSON.

    The same seed and days give the same lines: sending them again adds nothing twice.

    Example: atlas sample --days 30 | atlas send -
    """
    if end is not None and end.year < YEAR_MIN:
        raise typer.BadParameter(f"{end:%Y-%m-%d} is before {YEAR_MIN}.", param_hint="--end")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = today if end is None else end.replace(tzinfo=UTC)
    sys.stdout.buffer.writelines(generate_lines(days, seed, until))
    sys.stdout.flush()
