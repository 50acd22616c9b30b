"""The log on stderr: JSON for machines, text for people.

messages.py            the level and the message of each event
fields.py              the fields of each event, in camelCase
outages.py             failures that repeat: one line when they begin, and one when they are over
event_log.py           logs events
writers.py             writes lines as JSON or as text
library_messages.py    messages and warnings of libraries, and bugs
"""

from atlas.outside.log.event_log import EventLog
from atlas.outside.log.library_messages import capture_library_messages, log_bug
from atlas.outside.log.messages import MESSAGES, TEXT_LEVELS, choose_message
from atlas.outside.log.outages import RECOVERIES
from atlas.outside.log.writers import (
    ERROR,
    INFO,
    LogFormat,
    LogWriter,
    build_logger,
    is_json,
    warn,
)

__all__ = [
    "ERROR",
    "INFO",
    "MESSAGES",
    "RECOVERIES",
    "TEXT_LEVELS",
    "EventLog",
    "LogFormat",
    "LogWriter",
    "build_logger",
    "capture_library_messages",
    "choose_message",
    "is_json",
    "log_bug",
    "warn",
]
