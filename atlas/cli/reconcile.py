"""`atlas phones reconcile`: compares the samples that phones count with the dataset."""

import os
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Annotated

import anyio
import msgspec
import typer
from anyio import to_thread
from msgspec import Struct

from atlas import service
from atlas.cli.configuration import ConfigOption, JsonOption, load_settings
from atlas.cli.dataset_choice import (
    FromFoundryOption,
    FromOption,
    choose_dataset,
    require_same_atlas,
)
from atlas.cli.operator_client import JournalOption, OperatorRequest, ask, load_settings_for_journal
from atlas.cli.personal_data import parse_user
from atlas.cli.phone_tables import clean_text
from atlas.cli.progress_meter import build_progress
from atlas.core import identifiers
from atlas.core.errors import AtlasError, CommandError
from atlas.core.messages import User
from atlas.core.personal_data import DatasetFile
from atlas.core.phones import ReportPage
from atlas.core.ports import JournalPorts
from atlas.core.sample_counts import SampleGap, collect_counts, find_gaps
from atlas.service.subscribers import utc_now
from atlas.settings import Settings

EVERYBODY = "all"
UNREAD = (
    "Foundry does not serve these files: they are too large. They may have samples of all days up "
    "to the one in their names, and delete some: no count of these days is certain."
)
SubOption = Annotated[
    str,
    typer.Option(
        metavar="USER", help="The sub of a user, - to read it from standard input, or all."
    ),
]
DaysOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=36_500, help="Only counts of the last N days.")
]


class ReconcileResult(Struct):
    """The result of a comparison: how many counts were compared, and the gaps.

    `waiting` has the gaps that the user's rows may fill which are not committed yet. If they are
    too few for all gaps, they are counted towards the latest days. `unknown` has those of days of
    which a file may have samples that Foundry does not serve: `unread` has the paths of such files.
    Deletions may be in them, too, so that other counts may be too high.
    """

    users: int = 0
    counts: int = 0
    gaps: list[SampleGap] = []
    waiting: list[SampleGap] = []
    unknown: list[SampleGap] = []
    unread: list[str] = []

    @property
    def is_clean(self) -> bool:
        return not (self.gaps or self.unknown or self.unread)

    def add(
        self, gaps: Sequence[SampleGap], waiting_rows: int, unread: Sequence[DatasetFile]
    ) -> None:
        """Add the gaps of a user, which are in the order of their days."""
        unfilled, waiting = list[SampleGap](), list[SampleGap]()
        for gap in reversed(gaps):
            missing = gap.phone - gap.dataset
            if missing <= waiting_rows:
                waiting_rows -= missing
                waiting.append(gap)
            else:
                unfilled.append(gap)
        for gap in reversed(unfilled):
            is_unknown = any(service.may_have_samples(file, gap.day) for file in unread)
            (self.unknown if is_unknown else self.gaps).append(gap)
        self.waiting += reversed(waiting)

    def add_unread(self, user: str, files: Sequence[DatasetFile]) -> None:
        """Add the paths of files that were not read; the pseudonym stands for their user."""
        paths = [identifiers.pseudonymize_path(file.path, user) for file in files]
        self.unread += sorted(set(paths) - set(self.unread))


def reconcile(
    sub: SubOption = EVERYBODY,
    days: DaysOption = None,
    json: JsonOption = False,
    source: FromOption = None,
    from_foundry: FromFoundryOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Compare the samples that phones count with the dataset.

    Counts come from the phones' reports, samples from committed files of the same Atlas. Exits
    with 1 if the dataset has fewer samples of a type and day, and not just because rows still wait
    in the journal; also if Foundry does not serve a file, as it may have some of them.

    Example: atlas phones reconcile --sub 'auth0|687a' --from-foundry
    """
    user = None if sub == EVERYBODY else parse_user(sub)
    choose = partial(choose_dataset, load_settings(config, os.environ), from_foundry=from_foundry)
    dataset = anyio.run(choose, source)
    settings = load_settings_for_journal(config, journal)
    if source is None or journal is None:  # otherwise, both are named
        require_same_atlas(dataset, settings)
    reports = iterate_reports(settings, user)
    first = date.min if days is None else utc_now().date() - timedelta(days=days - 1)
    result = anyio.run(compare, dataset.settings, reports, first)
    typer.echo(msgspec.json.encode(result).decode() if json else render(result))
    if not result.is_clean:
        raise typer.Exit(1)


def iterate_reports(settings: Settings, user: User | None) -> Iterator[ReportPage]:
    """Yield the reports with counts of one user after another. Raises CommandError."""
    after = ""
    while True:
        page = fetch_page(settings, user, after)
        if page.reports:
            yield page
        if user is not None or not page.next_user:
            return
        after = page.next_user


def fetch_page(settings: Settings, user: User | None, after: str) -> ReportPage:
    async def read(store: JournalPorts) -> ReportPage:
        return await store.phones.list_counts(after, user)

    body: dict[str, str | bool] = {"after": after} if user is None else {"user": user.sub}
    return ask(settings, OperatorRequest("/phones/reports", {}, "POST", body), ReportPage, read)


async def compare(settings: Settings, pages: Iterator[ReportPage], first: date) -> ReconcileResult:
    """Compare the latest counts of each user with the dataset. Raises CommandError."""
    result = ReconcileResult()
    progress = build_progress("reading", 0)

    def advance(file: DatasetFile) -> None:
        progress.advance(progress.task_ids[0], file.bytes)

    try:
        async with service.open_row_reader(settings) as reader:
            with progress:
                # in a thread, because reading a page runs an event loop of its own
                while (page := await to_thread.run_sync(next, pages, None)) is not None:
                    counts = collect_counts(page.reports, first)
                    if not counts:
                        continue
                    zones = {count.time_zone for count in counts.values()}
                    oldest = min(key.day for key in counts)
                    user, sub = page.reports[0].user, page.reports[0].sub
                    stored = await reader.count_samples(User(sub), zones, oldest, advance)
                    result.users += 1
                    result.counts += len(counts)
                    gaps = find_gaps(user, counts, stored.samples)
                    result.add(gaps, page.waiting_rows, stored.unread)
                    result.add_unread(user, stored.unread)
    except AtlasError as error:
        raise CommandError(str(error)) from error
    return result


def render(result: ReconcileResult) -> str:
    """Render the gaps, one in a line, and a summary."""
    has_users = result.users > 1
    lines = [render_gap(gap, has_user=has_users) for gap in result.gaps]
    unknown = [render_gap(gap, has_user=has_users) for gap in result.unknown]
    users = "1 user" if result.users == 1 else f"{result.users:,} users"
    if not result.counts:
        return "No phone has reported counts: see POST /api/v1/healthkit/reports."
    counts = "1 count" if result.counts == 1 else f"{result.counts:,} counts"
    gaps = {0: "no gaps", 1: "1 gap"}.get(len(lines), f"{len(lines):,} gaps")
    summary = f"{counts} of {users} compared: {gaps}."
    if result.waiting:
        summary += (
            f" {len(result.waiting):,} more may be filled by rows that are not committed yet."
        )
    if unknown:
        summary += f" {len(unknown):,} more may be in files that were not read."
    return "\n".join(
        [
            *lines,
            *(f"{line} in the files that were read" for line in unknown),
            *(f"Not read: {path}" for path in result.unread),
            *([UNREAD] if result.unread else []),
            summary,
        ]
    )


def render_gap(gap: SampleGap, *, has_user: bool) -> str:
    user = f"{gap.user} " if has_user else ""
    return f"{user}{clean_text(gap.type)}, {gap.day}: phone {gap.phone:,}, dataset {gap.dataset:,}"
