"""Runs programs as an account that PostgreSQL accepts: it refuses to run as root."""

import os
import pwd
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STEP_SECONDS_MAX = 60.0
# in there, root's files belong to nobody
NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


class PostgresFailed(Exception):
    """A PostgreSQL program failed; the message ends with a line of its output."""


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """The account that a server runs as: by a command in front of it, or by its ids."""

    prefix: tuple[str, ...] = ()
    ids: tuple[int, int] | None = None

    def own(self, path: Path) -> None:
        """Give the account a file or folder."""
        if self.ids is not None:
            os.chown(path, *self.ids)

    def spawn(
        self, command: tuple[object, ...], log: int, environ: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, out of reach of the terminal's Ctrl-C.

        Raises PostgresFailed.
        """
        user, group = self.ids or (None, None)
        try:
            return subprocess.Popen(  # noqa: S603 # nosec B603
                [*self.prefix, *map(str, command)],
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=group,
                extra_groups=None if self.ids is None else [],
                start_new_session=True,
            )
        except OSError as error:
            raise PostgresFailed(f"{command[0]} cannot be run: {error.strerror}.") from error

    def run(self, *command: object, environ: Mapping[str, str]) -> None:
        """Run a program to its end. Raises PostgresFailed."""
        with self.spawn(command, subprocess.PIPE, environ) as process:
            try:
                output, _ = process.communicate(timeout=STEP_SECONDS_MAX)
            finally:
                process.terminate()  # initdb then removes the files that it has made
        if process.returncode:
            raise PostgresFailed(describe_failure(str(command[0]), output))


def choose_account() -> ServerAccount:
    """Return the account of this process, or a replacement for root's."""
    if os.geteuid() != 0:
        return ServerAccount()
    return choose_namespace() or choose_nobody()


def choose_namespace() -> ServerAccount | None:
    """Return root in a user namespace, None if the system permits none."""
    account = ServerAccount(NAMESPACE)
    try:
        account.run("true", environ={})
    except PostgresFailed:
        return None
    return account


def choose_nobody() -> ServerAccount:
    """Return nobody, who must be able to reach the programs and the folder of the data."""
    nobody = pwd.getpwnam("nobody")
    return ServerAccount(ids=(nobody.pw_uid, nobody.pw_gid))


def describe_failure(program: str, output: bytes) -> str:
    """Describe it by the last line that names an error, or else by the last line."""
    lines = output.decode(errors="replace").strip().splitlines() or ["without a message"]
    errors = [line for line in lines if re.search(r"\b(FATAL|PANIC|error):", line)]
    return f"{Path(program).name} failed: {(errors or lines)[-1]}"
