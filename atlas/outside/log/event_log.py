"""Logs events."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from atlas.core import identifiers
from atlas.core.events import Event, EventSink
from atlas.outside.log.fields import LogField, build_fields, round_duration
from atlas.outside.log.messages import MESSAGES, TEXT_LEVELS, choose_message
from atlas.outside.log.outages import RECOVERIES, REPEATED, Outages
from atlas.outside.log.writers import DEBUG, INFO, LEVEL_NUMBERS, JsonLogger, LogWriter


@dataclass(frozen=True, slots=True)
class EventLog:
    """Logs events. `key` is the key of the user hashes."""

    writer: LogWriter
    key: bytes
    shows_users: bool = False
    outages: Outages = field(default_factory=lambda: Outages(time.monotonic))
    _fields: dict[type[Event], tuple[LogField, ...]] = field(init=False, default_factory=dict)

    def find_handler(self, kind: type[Event]) -> EventSink | None:
        """Return the handler of this kind of event, or None if it is never logged."""
        if kind in RECOVERIES:
            return self.handle_recovery
        if kind in REPEATED:
            return self.handle_repeated
        if kind not in MESSAGES:
            return self.handle
        level, message = MESSAGES[kind]
        number = self._find_level(kind, level)
        return partial(self.write, number, message) if self.writer.is_enabled_for(number) else None

    def handle(self, event: Event) -> None:
        level, message = choose_message(event)
        number = self._find_level(type(event), level)
        if self.writer.is_enabled_for(number):
            self.write(number, message, event)

    def handle_repeated(self, event: Event) -> None:
        level, message = choose_message(event)
        is_first = self.outages.record_failure(event)
        number = self._find_level(type(event), level) if is_first else DEBUG
        if self.writer.is_enabled_for(number):
            self.write(number, message, event)

    def handle_recovery(self, event: Event) -> None:
        """Log what was wrong and is over, then the event."""
        for message, seconds, tries in self.outages.end(event):
            self._log(INFO, message, {"outageSeconds": round_duration(seconds), "tries": tries})
        self.handle(event)

    def write(self, level: int, message: str, event: Event) -> None:
        fields = {}
        for name, label, convert, is_optional in self._get_fields(type(event)):
            value = getattr(event, name)
            if is_optional and not value:
                continue
            converted = value if convert is None else convert(value)
            if converted is not None or not is_optional:
                fields[label] = converted
        self._log(level, message, fields)

    def _log(self, level: int, message: str, fields: dict[str, object]) -> None:
        with suppress(OSError, ValueError):  # a full or closed log must not fail an export
            if self.writer.is_enabled_for(level):
                self.writer.log(level, message, **fields)

    def _find_level(self, kind: type[Event], level: str) -> int:
        is_text = not isinstance(self.writer, JsonLogger)
        return LEVEL_NUMBERS[TEXT_LEVELS.get(kind, level) if is_text else level]

    def _get_fields(self, kind: type[Event]) -> tuple[LogField, ...]:
        if kind not in self._fields:
            pseudonymize = partial(identifiers.pseudonymize, self.key)
            is_debug = self.writer.is_enabled_for(DEBUG)
            shown = None if self.shows_users else pseudonymize
            self._fields[kind] = tuple(build_fields(kind, shown, is_debug=is_debug))
        return self._fields[kind]
