"""The tables of the journal in version 1, and their upgrade.

Two versions of Atlas run side by side while replicas are replaced. So a start only adds to the
tables, which the older version can still use; `contract` excludes it once its replicas are gone.
"""

from atlas.core.errors import ConfigurationError, JournalInUse
from atlas.outside.postgres import expansions
from atlas.outside.postgres.database import Database

VERSION = 1 + len(expansions.EXPANSIONS)
MOVED = "moved"  # the secret that names the journal to which this one was moved

TABLES = """
CREATE TABLE @.export (               -- the ledger: a row is a receipt
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,    -- digest of the content
    sender      text COLLATE "C" NOT NULL,           -- keyed hash of the sub
    at          timestamptz NOT NULL,                -- time of acceptance
    ingested    integer NOT NULL,                    -- rows; with `rejected`, all lines received
    rejected    integer NOT NULL,
    bytes       bigint NOT NULL,                     -- size of the rows as NDJSON
    moment      bigint NOT NULL,                     -- time in the path of its own file, in ms
    label       bytea NOT NULL,                      -- encrypted private fields
    tries       smallint NOT NULL DEFAULT 0,         -- failures that count
    status      text NOT NULL DEFAULT 'accepted'
                CHECK (status IN ('accepted', 'committed', 'set_aside', 'abandoned')),
    since       bigint,                              -- newest committed export at the last failure
    reason      text,                                -- of the last failure, or of being set aside
    rid         text,                                -- the transaction
    file        text,                                -- format, or path of a file that is shared
    file_bytes  bigint,                              -- size of that file
    isolation   smallint NOT NULL DEFAULT 0,         -- 0 fresh, 1 refused, 2 on: smaller groups
    turn        bigint NOT NULL DEFAULT 0,           -- position in the queue of failed exports
    is_doubtful boolean NOT NULL DEFAULT false,      -- a failover may have lost its commit
    CONSTRAINT place UNIQUE (sender, moment)
);
CREATE TABLE @.payload (              -- deleted when the export is committed
    number      bigint PRIMARY KEY REFERENCES @.export ON DELETE CASCADE,
    sealed      bytea NOT NULL                       -- the rows, compressed and encrypted
);
ALTER TABLE @.payload ALTER sealed SET STORAGE EXTERNAL;
CREATE TABLE @.binding (              -- exports sent under an Idempotency-Key
    sender      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,           -- keyed hash of the key
    position    integer NOT NULL,
    length      integer NOT NULL,
    export      text COLLATE "C" NOT NULL REFERENCES @.export (id) ON DELETE CASCADE,
    PRIMARY KEY (sender, key, position)
);
CREATE TABLE @.digest (               -- old receipts, reduced to the id and transaction
    id          text COLLATE "C" PRIMARY KEY,
    sender      text COLLATE "C" NOT NULL,
    rid         text,
    day         integer NOT NULL                     -- of acceptance, since 1970-01-01
);
CREATE TABLE @.intent (               -- attempts to begin a transaction
    epoch       bigint NOT NULL,                     -- of the replica that made it
    kind        text NOT NULL,
    head        text NOT NULL,
    at          timestamptz NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (epoch, kind, head)
);
CREATE TABLE @.lease (                -- one row: the replica that uploads, and what it has in hand
    is_only     boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch       bigint NOT NULL DEFAULT 0,
    holder      text NOT NULL DEFAULT '',
    until       timestamptz NOT NULL DEFAULT '-infinity',
    wanted_by   text NOT NULL DEFAULT '',
    wanted_at   timestamptz NOT NULL DEFAULT '-infinity',
    numbers     bigint[] NOT NULL DEFAULT '{}',      -- claimed exports
    transaction text,                                -- ours, until it is concluded
    drained     double precision NOT NULL DEFAULT 0  -- bytes committed per second
);
CREATE TABLE @.replica (
    name        text PRIMARY KEY,
    version     text NOT NULL,
    schema      integer NOT NULL,
    seen_at     timestamptz NOT NULL,
    clock_skew  double precision NOT NULL DEFAULT 0  -- seconds that its clock is ahead of ours
);
CREATE TABLE @.total (                -- kept by triggers; slots, so that replicas do not queue
    slot        integer NOT NULL,
    status      text NOT NULL,
    exports     bigint NOT NULL DEFAULT 0,
    bytes       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (slot, status)
);
CREATE TABLE @.erased (               -- keyed hashes of ids, for an hour: for waiting requests
    name        text PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNLOGGED TABLE @.busy (        -- senders near the rate limit, and when their debt is paid
    sender      text PRIMARY KEY,
    until       timestamptz NOT NULL
);
CREATE TABLE @.secret (name text PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE @.version (is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    present     integer NOT NULL,                    -- of the tables
    writers     integer NOT NULL                     -- the oldest version that may write
);
"""
ROWS = """
INSERT INTO @.lease DEFAULT VALUES;
INSERT INTO @.total (slot, status) SELECT slot, status FROM generate_series(0, 15) slot,
    unnest(ARRAY['accepted', 'committed', 'set_aside', 'abandoned']) status;
"""
INDEXES = """
CREATE INDEX mailbox ON @.export (number) INCLUDE (bytes)
    WHERE status = 'accepted' AND isolation = 0;
CREATE INDEX failed ON @.export (turn, number) INCLUDE (isolation, bytes)
    WHERE status = 'accepted' AND isolation > 0;
CREATE INDEX aside ON @.export (number) INCLUDE (bytes) WHERE status = 'set_aside';
CREATE INDEX given_up ON @.export (number) WHERE status = 'abandoned';
CREATE INDEX done ON @.export (number) WHERE status = 'committed';
CREATE INDEX filed ON @.export (file) WHERE file LIKE '%/%';
CREATE INDEX doubtful ON @.export (number) WHERE is_doubtful;
CREATE INDEX bound ON @.binding (export);
CREATE INDEX digested ON @.digest (sender);
CREATE INDEX aged ON @.digest (day);
"""
# Tables that change with every export are vacuumed long before they are large.
VACUUM = """
ALTER TABLE @.export SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE @.payload SET (autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE @.lease SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE @.total SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
"""
# One execution for a statement, not for each row. The slot is that of the connection.
TRIGGERS = """
CREATE FUNCTION @.count_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE @.total SET exports = total.exports + sums.exports, bytes = total.bytes + sums.bytes
    FROM (SELECT status, count(*) AS exports, sum(bytes) AS bytes FROM added GROUP BY status) sums
    WHERE total.slot = pg_backend_pid() % 16 AND total.status = sums.status;
    RETURN NULL;
END $$;
CREATE FUNCTION @.count_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE @.total SET exports = total.exports - sums.exports, bytes = total.bytes - sums.bytes
    FROM (SELECT status, count(*) AS exports, sum(bytes) AS bytes FROM removed GROUP BY status) sums
    WHERE total.slot = pg_backend_pid() % 16 AND total.status = sums.status;
    RETURN NULL;
END $$;
CREATE FUNCTION @.count_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE @.total SET exports = total.exports + sums.exports, bytes = total.bytes + sums.bytes
    FROM (
        SELECT status, sum(sign) AS exports, sum(sign * bytes) AS bytes FROM (
            SELECT status, bytes, 1 AS sign FROM added
            UNION ALL SELECT status, bytes, -1 FROM removed
        ) changes GROUP BY status HAVING sum(sign) <> 0 OR sum(sign * bytes) <> 0
    ) sums
    WHERE total.slot = pg_backend_pid() % 16 AND total.status = sums.status;
    RETURN NULL;
END $$;
CREATE TRIGGER comes AFTER INSERT ON @.export REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION @.count_added();
CREATE TRIGGER goes AFTER DELETE ON @.export REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION @.count_removed();
CREATE TRIGGER moves AFTER UPDATE ON @.export REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION @.count_changed();
"""
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('atlas ' || $1, 0))"
EXISTS = "SELECT to_regclass('@.version') IS NOT NULL"
HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
READ_VERSION = "SELECT present, writers FROM @.version"
CREATE_VERSION = "INSERT INTO @.version (present, writers) VALUES (1, $1)"
RAISE_PRESENT = "UPDATE @.version SET present = $1"
RAISE_WRITERS = "UPDATE @.version SET writers = greatest(writers, $1)"
READ_MOVED = f"SELECT convert_from(value, 'UTF8') FROM @.secret WHERE name = '{MOVED}'"
IS_LIVE = "seen_at > clock_timestamp() - interval '15 s'"  # a replica that runs
COUNT_OLDER = f"SELECT count(*) FROM @.replica WHERE schema < $1 AND {IS_LIVE}"


async def lock_schema(database: Database) -> None:
    """Keep others from creating, upgrading or opening the journal until the transaction ends."""
    await database.fetch_value(LOCK, database.schema)


async def has_tables(database: Database) -> bool:
    return bool(await database.fetch_value(EXISTS))


async def create_or_upgrade(database: Database, shown: str) -> None:
    """Create the tables of a new journal, or add what this version needs, in a transaction.

    The schema itself may exist already, because a role may own a schema without being allowed to
    create one. Raises ConfigurationError.
    """
    await lock_schema(database)
    if not await has_tables(database):
        if not await database.fetch_value(HAS_SCHEMA, database.schema):
            await database.execute(f'CREATE SCHEMA "{database.schema}"')
        await database.execute(TABLES + ROWS + INDEXES + VACUUM + TRIGGERS)
        await database.execute(CREATE_VERSION, VERSION)
    present = await require_writable(database, shown)
    for statements in expansions.EXPANSIONS[present - 1 :]:
        await database.execute(statements)
    if present < VERSION:
        await database.execute(RAISE_PRESENT, VERSION)


async def require_writable(database: Database, shown: str) -> int:
    """Return the version of the tables. Raises ConfigurationError if this one may not write."""
    row = await database.fetch_row(READ_VERSION)
    if row is None:
        raise ConfigurationError(f"The journal {shown} has no version: restore it from a backup.")
    if row["writers"] > VERSION:
        raise ConfigurationError(
            f"The journal {shown} was upgraded by a newer Atlas, and this one cannot write it: "
            "use that version, or another schema."
        )
    moved_to = await database.fetch_value(READ_MOVED)
    if moved_to is not None:
        raise ConfigurationError(
            f"The journal {shown} was moved to {moved_to}: set ATLAS_JOURNAL to that."
        )
    present: int = row["present"]
    return present


async def contract(database: Database, shown: str) -> None:
    """Exclude older versions. Raises JournalInUse while a replica of one runs."""
    await lock_schema(database)
    older = await database.fetch_value(COUNT_OLDER, VERSION)
    if older:
        raise JournalInUse(
            f"{older:,} replicas of an older version used {shown} in the last 15 s: stop them."
        )
    await database.execute(RAISE_WRITERS, VERSION)
