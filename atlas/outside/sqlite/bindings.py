"""What an Idempotency-Key names, and which parts a streamed body has had so far.

Both are sequences of exports. A stream stands here under the id of the whole, and its length is
not known: a longer one may go on under its key.
"""

import sqlite3

from atlas.core import names
from atlas.core.errors import KeyReused
from atlas.core.messages import Head, Place
from atlas.outside.sqlite.seal import Seal

OPEN_END = 0  # the length of a stream
SEQUENCE = "SELECT position, length, export FROM binding WHERE user = ? AND key = ?"
BIND = "INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?)"


def check_names(db: sqlite3.Connection, seal: Seal, head: Head, id: str) -> None:
    """Raises KeyReused when the key of this export names another sequence."""
    user, binding, place = seal.user(head.user.sub), head.binding, head.place
    if binding is not None:
        for position, length, bound in db.execute(SEQUENCE, [user, seal.name(binding.key)]):
            if length != binding.length or (position == binding.position and bound != id):
                raise KeyReused
        stream = seal.name(names.whole_id(head.user, binding.key))
        if db.execute(SEQUENCE, [user, stream]).fetchone():
            raise KeyReused
    if place is not None and place.key is not None:
        if db.execute(SEQUENCE, [user, seal.name(place.key)]).fetchone():
            raise KeyReused
        for position, _, bound in db.execute(SEQUENCE, [user, seal.name(place.whole)]):
            if position == place.position and bound != id:
                raise KeyReused


def bind_names(db: sqlite3.Connection, seal: Seal, head: Head, id: str) -> None:
    user = seal.user(head.user.sub)
    if head.binding is not None:
        key = head.binding
        db.execute(BIND, [user, seal.name(key.key), key.position, key.length, id])
    if head.place is not None:
        place: Place = head.place
        db.execute(BIND, [user, seal.name(place.whole), place.position, OPEN_END, id])
