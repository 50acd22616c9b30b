"""`atlas where` and `atlas forget`: what is there of one person, and how it is forgotten."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from atlas import service
from atlas.cli.configuration import ConfigOption
from atlas.cli.owner import JournalOption, Question, ask, settings_of
from atlas.core import names
from atlas.core.errors import AtlasError, CannotStart
from atlas.core.messages import User
from atlas.core.people import Erasure, Shared, Whereabouts
from atlas.core.ports import People
from atlas.service import Store
from atlas.settings import Settings, require_foundry

T = TypeVar("T")

UserArgument = Annotated[
    str,
    typer.Argument(metavar="USER", help="The sub of their tokens; - reads it from standard input."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for a program.")]


def where(
    user: UserArgument,
    files: Annotated[bool, typer.Option("--files", help="List each of their files.")] = False,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """All that Atlas knows of a person: files in the dataset, exports in the journal.

    Example: atlas where 'auth0|687a' --files
    """
    person = named(user)
    found = found_of(person, settings_of(config, journal), lists=files)
    typer.echo(msgspec.json.encode(found) if json else "\n".join(shown(found)))


def forget(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    receipt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the receipt there too, as JSON.")
    ] = None,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Takes a person's files out of the dataset, and all that is theirs out of the journal.

    It may be said again, as after a failure. What it prints says what is still to be done by
    others. Example: atlas forget 'auth0|687a' --receipt forgotten.json
    """
    if user == "-" and not yes:
        raise typer.BadParameter(
            "With the user from standard input nobody can be asked: say --yes."
        )
    person, settings = named(user), settings_of(config, journal)
    if not yes:
        typer.echo("\n".join(shown(found_of(person, settings, lists=False))))
        typer.confirm("Forget all of this for good?", abort=True)
    with kept(receipt) as keep:
        done = ask(
            settings,
            Question("/forget", {}, "POST", {"user": person.sub}),
            Erasure,
            alone(settings, lambda persons: persons.forget(person)),
        )
        typer.echo("\n".join(told(done)))  # first: the disk of the file may be full by now
        keep(msgspec.json.format(msgspec.json.encode(done)) + b"\n")


def named(user: str) -> User:
    """Raises BadParameter for what is no sub."""
    try:
        sub = sys.stdin.readline().rstrip("\r\n") if user == "-" else user
        sub.encode()
    except UnicodeError as error:
        raise typer.BadParameter("USER is no text in UTF-8.") from error
    if not sub:
        raise typer.BadParameter("USER is empty: it is the sub of somebody's tokens.")
    return User(sub)


def found_of(person: User, settings: Settings, *, lists: bool) -> Whereabouts:
    return ask(
        settings,
        Question("/where", {}, "POST", {"user": person.sub, "files": lists}),
        Whereabouts,
        alone(settings, lambda persons: persons.where(person, lists=lists)),
    )


def alone(
    settings: Settings, question: Callable[[People], Awaitable[T]]
) -> Callable[[Store], Awaitable[T]]:
    """The question, put to the journal that nobody holds and to the Foundry of the settings."""

    async def look(store: Store) -> T:
        require_foundry(settings)
        try:
            async with service.persons(settings, store) as persons:
                return await question(persons)
        except AtlasError as error:
            raise CannotStart(str(error)) from error

    return look


@contextmanager
def kept(receipt: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Where the receipt is kept: seen to before anything is done. Raises CannotStart."""
    if receipt is None:
        yield keep_nothing
        return
    try:
        file = receipt.open("xb")
    except FileExistsError as error:
        raise CannotStart(f"{receipt} is there already: --receipt writes over nothing.") from error
    except OSError as error:
        raise CannotStart(f"{receipt} cannot be written: {error.strerror}.") from error
    is_kept = False

    def keep(told: bytes) -> None:
        nonlocal is_kept
        file.write(told)
        file.flush()
        is_kept = True

    with file:
        try:
            yield keep
        finally:
            if not is_kept:
                receipt.unlink()  # or the same command would not be obeyed again


def keep_nothing(_receipt: bytes) -> None:
    """Nobody has named a file for it."""


def shown(found: Whereabouts) -> Iterator[str]:
    """What there is, with totals; then each file, if they were asked for."""
    yield f"User       {found.user}  (as the log calls them)"
    if found.is_nothing:
        yield "Nothing of this user is there."
        return
    yield f"Files      {found.files:,} of their own, {found.bytes:,} bytes{span(found)}"
    exports = ", ".join(f"{count:,} {status}" for status, count in found.exports.items())
    yield f"Journal    {exports or 'no receipt'}, {found.digests:,} digests"
    yield from in_shared(found.shared)
    for each in found.aside:
        yield f"Set aside  {each.id}  {each.bytes:,} bytes, {each.reason}"
    for file in found.listed:
        since = "" if file.at is None else f"  since {names.timestamp(file.at)}"
        yield f"{file.path}  {file.bytes:,} bytes{since}  {file.transaction}"


def span(found: Whereabouts) -> str:
    if found.first is None or found.last is None:
        return ""
    return f", put there from {names.timestamp(found.first)} to {names.timestamp(found.last)}"


def in_shared(shared: tuple[Shared, ...]) -> Iterator[str]:
    if shared:
        exports = sum(each.exports for each in shared)
        yield f"Shared     {exports:,} exports in {len(shared):,} files with rows of others:"
    for each in shared:
        yield f"           {each.path}  {each.exports:,} exports"


def told(done: Erasure) -> Iterator[str]:
    """The receipt, as text."""
    purged = ", ".join(f"{count:,} {kind}" for kind, count in done.purged.items())
    yield f"At         {names.timestamp(done.at)}"
    yield f"User       {done.user}  (as the log calls them)"
    yield f"Removed    {done.files:,} files, {done.bytes:,} bytes"
    for transaction in done.transactions:
        yield f"           {transaction}"
    if done.rewritten:
        rows = sum(each.rows for each in done.rewritten)
        yield f"Rewritten  {len(done.rewritten):,} shared files, without {rows:,} rows of theirs:"
    yield from (f"           {each.path}" for each in done.rewritten)
    yield f"Purged     {purged or 'nothing'}"
    yield from in_shared(done.shared)
    yield "Still to be done:"
    for number, each in enumerate(done.to_do, 1):
        yield f"  {number}. {each}"
