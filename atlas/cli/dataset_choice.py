"""The dataset that a command reads: that of an `atlas local`, or of the settings."""

from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct
from yarl import URL

from atlas.cli.emulators import JOURNAL, STATE
from atlas.cli.send import URL_DEFAULT, parse_url
from atlas.cli.transfer_report import fetch_emulator_folder
from atlas.core.errors import CommandError
from atlas.settings import Settings, is_loopback, require_foundry

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        envvar="ATLAS_URL",
        metavar="URL",
        help="The URL of `atlas local`. Default: the Foundry of the settings if it is on this"
        f" machine, else {URL_DEFAULT}.",
    ),
]
FromFoundryOption = Annotated[
    bool, typer.Option("--from-foundry", help="Read the dataset of the settings instead.")
]


class DatasetChoice(Struct, frozen=True):
    """The settings of a dataset. `folder` is that of the `atlas local` that was found for it."""

    settings: Settings
    folder: Path | None = None


async def choose_dataset(
    settings: Settings, source: str | None, *, from_foundry: bool
) -> DatasetChoice:
    """Choose the dataset of the options. Raises CommandError, ConfigurationError.

    A Foundry on this machine is an emulator, or a tunnel that somebody has opened for these
    settings. One elsewhere is only read if that is said.
    """
    host = URL(settings.foundry.host).host or ""
    if from_foundry or (source is None and is_loopback(host)):
        require_foundry(settings)
        return DatasetChoice(settings)
    return await find_emulator(settings, URL_DEFAULT if source is None else source)


async def find_emulator(settings: Settings, source: str) -> DatasetChoice:
    """Return the settings for the Foundry emulator of `atlas local`. Raises CommandError."""
    # imported here, because it imports the whole service, which `atlas phones` would wait for
    from atlas.cli.local import build_local_settings  # noqa: PLC0415
    from atlas.cli.local_ports import Ports  # noqa: PLC0415

    url = parse_url(source, "--from")
    port = url.port or 0
    is_local = is_loopback(url.host or "") and port <= 65_532
    folder = await fetch_emulator_folder(url) if is_local else None
    if folder is None:
        raise CommandError(
            f"No `atlas local` responds at {url}: start it, name its URL with --from, or read the "
            "dataset of the settings with --from-foundry."
        )
    return DatasetChoice(
        build_local_settings(settings, Ports.count_from(port), STATE), folder.parent
    )


def require_same_atlas(dataset: DatasetChoice, settings: Settings) -> None:
    """Raise CommandError if the journal is not that of the Atlas that writes the dataset.

    `settings` are those with the journal. Without one, that of `atlas local` stands in for it.
    """
    foundry, journal = dataset.settings.foundry, settings.journal
    folder, path = dataset.folder, journal.path
    if folder is None:
        is_stand_in = path == STATE / JOURNAL != dataset.settings.journal.path
        if is_stand_in and not is_loopback(URL(foundry.host).host or ""):
            raise CommandError(
                f"There is no journal at {dataset.settings.journal.path}, and the one of `atlas "
                f"local` knows nothing of the dataset at {foundry.host}: see --journal."
            )
    elif foundry.host != settings.foundry.host and (
        path is None or path.parent.resolve() != folder.resolve()
    ):
        raise CommandError(
            f"The dataset is that of the `atlas local` in {folder}, and the journal is another's: "
            f"{path or 'a database'}. Name both with --config {folder / 'atlas.toml'}, or with "
            "--from and --journal; or read the dataset of the settings with --from-foundry."
        )
