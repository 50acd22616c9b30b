"""Settings of the uploader."""

from dataclasses import dataclass

from atlas.core.messages import GroupLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPolicy:
    """How large groups are, how often they go, and how hard each export is tried.

    `uploads_at_once`: the files of one wave. `bytes_at_once`: of files in memory; the rest of a
    group waits on the disk. `tries_max`: failures that count until an export is set aside.
    `is_sole_writer`: nobody else writes to the branch.
    """

    group: GroupLimits
    interval_seconds: float = 5.0
    uploads_at_once: int = 64
    bytes_at_once: int = 56 * 1024 * 1024
    tries_max: int = 5
    is_sole_writer: bool = True
