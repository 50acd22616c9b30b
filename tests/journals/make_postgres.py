"""Writes a journal in PostgreSQL of the present version, which every later version must open.

After a release, run `python -m tests.journals.make_postgres` and commit the output. The output
of earlier versions is never regenerated. It is plain SQL, for a schema named `atlas_dump`.
"""

from pathlib import Path

import anyio

from atlas.local.postgres import find_programs
from atlas.outside.postgres import expansions, schema
from tests.support.filled_journals import RETENTION, fill
from tests.support.postgres import open_postgres_journal, run_sql
from tests.support.temporary_postgres import run_temporary_server

NAME = "atlas_dump"
TABLES = {
    "export": "number id sender at ingested rejected bytes moment label tries status since reason "
    "rid file file_bytes isolation turn is_doubtful",
    "payload": "number sealed",
    "binding": "sender key position length export",
    "digest": "id sender rid day",
    "intent": "epoch kind head at noted_at",
    "secret": "name value",
    "version": "present writers",
}
LEASE = """
    SELECT format('UPDATE {0}.lease SET epoch = %L, numbers = %L, transaction = %L;',
        epoch, numbers, transaction) FROM {0}.lease
"""
SET_NUMBER = f"""
SELECT setval(pg_get_serial_sequence('{NAME}.export', 'number'), max(number)) FROM {NAME}.export;
"""


def build_query(table: str, columns: str) -> str:
    """Build the query whose result is the statement that inserts all rows of the table."""
    names = columns.split()
    values = " || ', ' || ".join(f"quote_nullable({name})" for name in names)
    override = " OVERRIDING SYSTEM VALUE" if table == "export" else ""
    return f"""
        SELECT 'INSERT INTO {NAME}.{table} ({", ".join(names)}){override} VALUES' || chr(10)
            || string_agg('    (' || {values} || ')', ',' || chr(10) ORDER BY {names[0]}) || ';'
        FROM {NAME}.{table}
    """


async def make() -> None:
    with run_temporary_server(find_programs(), {}) as server:
        async with open_postgres_journal(
            f"{server.url}?schema={NAME}", retention=RETENTION
        ) as store:
            await fill(store)
        queries = [build_query(table, columns) for table, columns in TABLES.items()]
        inserts = [text for text in await run_sql(server, *queries, LEASE.format(NAME)) if text]
    tables = schema.TABLES + schema.ROWS + schema.INDEXES + schema.VACUUM + schema.TRIGGERS
    tables += ";\n".join(["", *expansions.EXPANSIONS, ""]) if expansions.EXPANSIONS else ""
    head = f"CREATE SCHEMA {NAME};{tables}".replace("@.", f"{NAME}.")
    target = Path(__file__).parent / f"postgres-v{schema.VERSION}.sql"
    target.write_text("\n".join([head, *inserts, SET_NUMBER]), encoding="utf-8")


if __name__ == "__main__":
    anyio.run(make)
