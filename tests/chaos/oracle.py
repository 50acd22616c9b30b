"""Compares the promises that clients received with the rows in the dataset: the balance of a trial.

The oracle never asks Atlas. The promises are the answers that clients got over HTTP, and the rows
are those that the Foundry emulator shows to a reader. The uuid of a record names its export and its
line.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec import Struct

from atlas.core import identifiers
from atlas.local.foundry import FoundryEmulator
from atlas.local.foundry.branches import BranchState
from atlas.local.foundry.state import DATASET

BRANCH = "master"


class Reply(Struct):
    """The fields of an export's answer that matter here."""

    receipt_id: str
    status: Literal["committed", "accepted", "set_aside"]
    file_path: str | None
    transaction_rid: str | None
    ingestion_timestamp: str
    replayed: bool


class Row(Struct):
    uuid: str


def derive_uuid(export: str, line: int) -> str:
    return f"{export}/{line}"


@dataclass(slots=True)
class Sent:
    """An export that a client sent, and the promise that it received, if any."""

    lines: int
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """Counts of exports; `twice` counts lines. Balanced if every promise was kept."""

    accepted: int
    committed: int
    lost: tuple[str, ...]
    twice: tuple[str, ...]
    strange: tuple[str, ...]  # rows written by the service that were never sent
    untrue: tuple[str, ...]  # answered 200, but the file is not at the given path

    def list_failures(self) -> Iterator[str]:
        for what, affected in (
            ("lost", self.lost),
            ("lines twice", self.twice),
            ("rows that were never sent", self.strange),
            ("answered 200 and not there", self.untrue),
        ):
            if affected:
                yield f"{len(affected)} {what}: {', '.join(affected[:3])}"


@dataclass(slots=True)
class Oracle:
    """Remembers every export sent and every promise received.

    `excused` exports were damaged by the disk; `given_up` exports were refused and not sent again,
    so their rows may or may not exist, but none of them twice.
    """

    sent: dict[str, Sent] = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    surprises: Counter[str] = field(default_factory=Counter)

    def record_sent(self, export: str, lines: int) -> None:
        self.sent.setdefault(export, Sent(lines))

    def record_answer(self, export: str, reply: Reply) -> None:
        self.sent[export].reply = reply

    def list_unanswered(self) -> list[str]:
        """List the exports for which a client still waits."""
        silent = (export for export, sent in self.sent.items() if sent.reply is None)
        return [export for export in silent if export not in self.given_up]

    def draw_balance(self, foundry: FoundryEmulator) -> Balance:
        """Read every committed file and compare. Call this in a thread."""
        branch = foundry.branches.get_branch(DATASET, BRANCH)
        rows, strange = Counter[str](), []
        for owner, uuid in read_uuids(foundry, branch):
            if self.is_known(uuid):
                rows[uuid] += 1
            elif owner == "client":
                strange.append(uuid)
        promised = {name: sent for name, sent in self.sent.items() if sent.reply is not None}
        lost = {
            name
            for name, sent in promised.items()
            if any(derive_uuid(name, line) not in rows for line in range(sent.lines))
        }
        return Balance(
            accepted=len(promised),
            committed=len(promised) - len(lost),
            lost=tuple(sorted(lost - self.excused)),
            twice=tuple(uuid for uuid, count in rows.items() if count > 1),
            strange=tuple(strange),
            untrue=tuple(
                name
                for name, sent in promised.items()
                if sent.reply is not None and not is_true(sent.reply, branch)
            ),
        )

    def is_known(self, uuid: str) -> bool:
        export, _, line = uuid.rpartition("/")
        sent = self.sent.get(export)
        return sent is not None and line.isdecimal() and int(line) < sent.lines


def read_uuids(foundry: FoundryEmulator, branch: BranchState) -> Iterator[tuple[str, str]]:
    """Yield the uuid of every row that a reader of the branch sees, with the rid of its
    transaction.
    """
    for path, transaction in branch.view.items():
        content = foundry.branches.read_content(transaction, path)
        for uuid in parse_uuids(path, content):
            yield transaction.owner, uuid


def parse_uuids(path: str, content: bytes) -> Iterator[str]:
    """Yield the uuid of each row of a file. Parquet is not read with the library that writes it."""
    if identifiers.detect_format(path) == "parquet":
        from pyarrow import BufferReader, parquet  # noqa: PLC0415 - an extra, and large

        table = parquet.read_table(BufferReader(content), columns=["uuid"])
        yield from table.column("uuid").to_pylist()
        return
    decode = msgspec.json.Decoder(Row).decode
    for line in content.splitlines():
        yield decode(line).uuid


def is_true(reply: Reply, branch: BranchState) -> bool:
    """True if a `committed` reply names an existing transaction and the path of its file."""
    if reply.status != "committed":
        return True
    if reply.file_path is None or reply.transaction_rid is None:
        return False
    owner = branch.view.get(reply.file_path)
    return owner is not None and owner.rid == reply.transaction_rid
