"""How the uploader works."""

from dataclasses import dataclass

from atlas.core.messages import GroupLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much, how often, how hard, and whether others write to the branch, too."""

    group: GroupLimits
    interval_seconds: float = 5.0
    uploads_at_once: int = 64
    bytes_at_once: int = 56 * 1024 * 1024  # in memory; the rest of a group waits on the disk
    tries_max: int = 5
    is_sole_writer: bool = True
