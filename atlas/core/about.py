"""The facts about a service that its status begins with."""

from msgspec import Struct


class About(Struct, frozen=True):
    """Facts that do not change while the service runs. The limits are the journal's.

    `is_shared`: several replicas may share the journal. `is_streamed`: rows are published to a
    stream, too. `dataset_url`: see StatusSnapshot.
    """

    version: str
    dataset: str
    branch: str
    bytes_max: int
    exports_max: int
    is_shared: bool = False
    dataset_url: str | None = None
    is_streamed: bool = False
