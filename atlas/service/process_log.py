"""The lines of the log that are not events: what libraries say, and what ends the process."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TextIO

from atlas.outside import log
from atlas.service.store import build_log_writer
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class JsonProcessLog:
    """Writes lines of JSON about the process, whatever the level of the log is."""

    stream: TextIO

    def report_ready(self, url: str) -> None:
        self._build_writer().log(log.INFO, "ready", url=url)

    def report_failure(self, message: str, exit_code: int) -> None:
        self._build_writer().log(log.ERROR, message, exitCode=exit_code)

    def report_bug(self, error: BaseException) -> None:
        log.log_bug(self._build_writer(), error)

    def _build_writer(self) -> log.LogWriter:
        return log.build_logger(self.stream, "info", "json")


def is_json_log(log_format: str, stderr: TextIO) -> bool:
    """True if the log on this stream is JSON."""
    return log.is_json(stderr, log_format)


def capture_library_messages(settings: Settings, stderr: TextIO) -> AbstractContextManager[None]:
    """Write messages and warnings of libraries to the log, as long as the context is open."""
    return log.capture_library_messages(build_log_writer(settings, stderr))
