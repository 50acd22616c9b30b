"""Publishes accepted rows to a Foundry stream, beside the commits and never in their way.

publisher.py  reads the unpublished rows from the journal, and publishes them
window.py     finds the records of a refused request that are at fault

Rows are published at least once: the journal forgets an export after Foundry has answered, so a
process that dies in between publishes it again. The key of a record makes that harmless.
"""

from atlas.actors.publish.publisher import PublishPolicy, PublishTiming, StreamPublisher
from atlas.actors.publish.window import PublishWindow

__all__ = ["PublishPolicy", "PublishTiming", "PublishWindow", "StreamPublisher"]
