"""Puts the rooms together. The only room that knows them all.

store.py      the journal, for a service or for one command
world.py      the systems that the settings name, time, chance, processors
flow.py       the actors between them, from the edge to the uploader
listeners.py  what is served where
drain.py      how it ends
alone.py      for one command, where no service runs
"""

from atlas.service.alone import persons
from atlas.service.flow import Service, errands, serving
from atlas.service.store import Store, abandon, opened, stored, unheld
from atlas.service.world import World, connected

__all__ = [
    "Service",
    "Store",
    "World",
    "abandon",
    "connected",
    "errands",
    "opened",
    "persons",
    "serving",
    "stored",
    "unheld",
]
