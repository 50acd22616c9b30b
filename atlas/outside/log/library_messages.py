"""Messages and warnings of libraries, and bugs, as lines of the log.

Texts of exceptions are left out, because they may quote a health value.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from atlas.outside.log.writers import ERROR, WARNING, LogWriter


class UnhandledException(Protocol):
    """The argument of `threading.excepthook` and `sys.unraisablehook`."""

    @property
    def exc_value(self) -> BaseException | None: ...


class LibraryLogHandler(logging.Handler):
    """Logs the messages of libraries, without the texts and values of exceptions."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(logging.WARNING)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        level = ERROR if record.levelno >= logging.ERROR else WARNING
        error = record.exc_info[1] if record.exc_info else None
        if error is None:  # the lines after the first show objects
            message = record.getMessage().partition("\n")[0]
            self._write(level, message, {"logger": record.name})
        else:
            fields = {"logger": record.name, **describe_error(error)}
            self._write(level, "Error in a library", fields)

    def log_exception(self, unhandled: UnhandledException) -> None:
        if unhandled.exc_value is not None:
            self._write(ERROR, "Unhandled error", describe_error(unhandled.exc_value))

    def _write(self, level: int, message: str, fields: dict[str, object]) -> None:
        with suppress(OSError, ValueError):  # a full or closed log
            if self._writer.is_enabled_for(level):
                self._writer.log(level, message, **fields)


@contextmanager
def capture_library_messages(writer: LogWriter) -> Iterator[None]:
    """Write messages and warnings of libraries to the log, instead of as text to stderr.

    So are exceptions that nothing handles: those of threads, and those that cannot be raised.
    """
    root, handler = logging.getLogger(), LibraryLogHandler(writer)
    hooks = threading.excepthook, sys.unraisablehook
    root.addHandler(handler)
    logging.captureWarnings(True)
    threading.excepthook = handler.log_exception
    sys.unraisablehook = handler.log_exception
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        root.removeHandler(handler)


def log_bug(writer: LogWriter, error: BaseException) -> None:
    """Log the exception that ended the process."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    message = "Ended by a bug. Please report this line."
    writer.log(ERROR, message, **describe_error(error))


def describe_error(error: BaseException) -> dict[str, object]:
    """Return the type of an exception and the lines of code that it passed, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "where": where}
