"""PostgreSQL servers on this machine, for `atlas local` and tests.

A server listens on 127.0.0.1 only, with a password, and does not outlive this process.
"""

from atlas.local.postgres.accounts import PostgresFailed
from atlas.local.postgres.programs import PostgresMissing, find_programs
from atlas.local.postgres.server import PostgresServer

__all__ = [
    "PostgresFailed",
    "PostgresMissing",
    "PostgresServer",
    "find_programs",
]
