"""The limits of a listener."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """What a connection may take, in bytes and seconds; and how many there may be.

    A header block counts with its request line. `slow_seconds`: of an answer that is not taken.
    """

    header_bytes_max: int = 16 * 1024
    header_seconds: float = 10.0
    slow_seconds: float = 10.0
    idle_seconds: float = 75.0
    connections_max: int = 10_000
