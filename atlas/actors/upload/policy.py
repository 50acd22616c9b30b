"""Settings of the uploader."""

from dataclasses import dataclass

from atlas.core.messages import GroupLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPolicy:
    """The size and interval of groups, and the number of tries of an export.

    `interval_seconds`: time between the starts of two groups of fresh exports. `uploads_at_once`:
    number of concurrent uploads, called a wave. `bytes_at_once`: limit of the files in memory; the
    rest of a group stays on disk. `tries_max`: number of tries until an export is set aside.
    `is_sole_writer`: no other client writes to the branch.
    """

    group: GroupLimits
    interval_seconds: float = 5.0
    uploads_at_once: int = 64
    bytes_at_once: int = 56 * 1024 * 1024
    tries_max: int = 5
    is_sole_writer: bool = True
