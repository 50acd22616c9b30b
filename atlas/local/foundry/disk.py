"""The folder of an emulator: its log, files of open transactions, and committed files.

{state}/{dataset rid}/{branch}/{path}   committed files
{state}/.log                            events, one JSON object a line, replayed at start
{state}/.open/{transaction rid}/{n}     files of open transactions
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec


class Disk:
    """Reads and writes that folder: paths and bytes, without rules."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._state = state
        self._log: BinaryIO = (state / ".log").open("ab", buffering=0)

    def close(self) -> None:
        self._log.close()

    def read_log(self) -> list[dict[str, Any]]:
        """Read all events. A truncated last line, left by a kill, is removed."""
        log = self._state / ".log"
        text = log.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            os.truncate(log, len(whole))
        return [msgspec.json.decode(line) for line in whole.splitlines()]

    def append(self, event: dict[str, Any]) -> None:
        self._log.write(msgspec.json.encode(event) + b"\n")

    def stage(self, rid: str, staged: str, content: bytes) -> None:
        folder = self._state / ".open" / rid
        if staged == "0":
            folder.mkdir(parents=True, exist_ok=True)
        (folder / staged).write_bytes(content)

    def read_staged(self, rid: str, staged: str) -> bytes:
        return (self._state / ".open" / rid / staged).read_bytes()

    def read(self, branch: Path, path: str) -> bytes:
        return (self._state / branch / path).read_bytes()

    def remove(self, branch: Path, paths: Iterable[str]) -> None:
        for path in paths:
            (self._state / branch / path).unlink(missing_ok=True)

    def publish(self, rid: str, branch: Path, files: dict[str, str]) -> None:
        """Move staged files, by path, to the folder of the branch."""
        for path, staged in files.items():
            source, target = self._state / ".open" / rid / staged, self._state / branch / path
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
            if source.exists():
                source.replace(target)

    def discard(self, rid: str) -> None:
        shutil.rmtree(self._state / ".open" / rid, ignore_errors=True)
