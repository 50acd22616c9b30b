"""Runs commands in this process, as a shell would."""

import io
import sys
from dataclasses import dataclass

import msgspec
import pytest

from atlas.cli import main
from atlas.settings import VARIABLES


@dataclass
class Ended:
    code: int
    out: str
    err: str

    def in_one_line(self, code: int) -> str:
        """Return the reason for a failure, and check that it is the only output.

        It is JSON if the log would be, as that of `atlas serve` here.
        """
        assert (self.code, self.out) == (code, "")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        if self.err.startswith("{"):
            line = msgspec.json.decode(self.err)
            assert (line["level"], line["exitCode"]) == ("error", code)
            return f"atlas: {line['message']}\n"
        assert self.err.startswith("atlas: ")
        return self.err


@pytest.fixture
def atlas(monkeypatch, capsysbinary, tmp_path):
    """Run a command as a shell would: in an empty folder, with a minimal environment."""
    for name in (*VARIABLES, "ATLAS_CONFIG", "ATLAS_URL", "ATLAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, stdin: bytes | io.BufferedReader = b"", **environ: str) -> Ended:
        given = io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin
        monkeypatch.setattr(sys, "argv", ["atlas", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given))
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsysbinary.readouterr()
        return Ended(ended.value.code, out.decode(), err.decode())

    return run
