"""Puts the rooms together. The only room that knows them all.

store.py      the journal, for a service or for one command
world.py      the systems that the settings name, time, chance, processors
readers.py    the subscribers to events: traces, status, log
flow.py       the actors between them, from the edge to the uploader
listeners.py  what is served where
diagnosing.py the walk through all of it
drain.py      how it ends
alone.py      where no service runs: for one command
"""

from atlas.service.alone import diagnosed, holder, persons, remove
from atlas.service.diagnosing import fix_schema, old_json
from atlas.service.flow import Service, serving
from atlas.service.readers import Readers, reading
from atlas.service.store import Store, abandon, opened, stored, unheld
from atlas.service.world import World, connected

__all__ = [
    "Readers",
    "Service",
    "Store",
    "World",
    "abandon",
    "connected",
    "diagnosed",
    "fix_schema",
    "holder",
    "old_json",
    "opened",
    "persons",
    "reading",
    "remove",
    "serving",
    "stored",
    "unheld",
]
