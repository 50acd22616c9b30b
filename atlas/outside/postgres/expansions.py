"""The additions of later versions to the tables of version 1.

Each entry leads from one version to the next, in the transaction of a start, which gives up a lock
that it does not get within 2 s and tries again. Older replicas write at the same time and name
their columns, so an entry may add tables, columns that are nullable or have a constant default,
indexes of small tables, and triggers whose errors they repeat; it may not change or drop what they
use.
"""

STREAM = """
CREATE TABLE @.unpublished (          -- exports whose rows are not all in the stream
    number      bigint PRIMARY KEY REFERENCES @.export ON DELETE CASCADE,
    rows        integer NOT NULL,
    bytes       bigint NOT NULL
);
-- Of those that were committed meanwhile. It does not refer to `unpublished`, because a commit
-- would then wait for the publisher.
CREATE TABLE @.unpublished_payload (
    number      bigint PRIMARY KEY REFERENCES @.export ON DELETE CASCADE,
    sealed      bytea NOT NULL
);
ALTER TABLE @.unpublished_payload ALTER sealed SET STORAGE EXTERNAL;
ALTER TABLE @.unpublished SET (autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE @.unpublished_payload SET (autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
"""
PHONES = """
CREATE TABLE @.phone (                -- a user's device, kept up to date by the intake
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender      text COLLATE "C" NOT NULL,           -- keyed hash of the sub
    device      text COLLATE "C" NOT NULL,           -- keyed hash of the device
    at          bigint NOT NULL,                     -- last acceptance, in ms
    stuck       integer NOT NULL,                    -- 1 if it keeps sending the same export
    sealed      bytea NOT NULL,                      -- encrypted fields
    UNIQUE (sender, device)
);
CREATE INDEX recent ON @.phone (at, number) INCLUDE (stuck);
CREATE TABLE @.report (               -- of what a phone saw of its own synchronization
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender      text COLLATE "C" NOT NULL,
    device      text COLLATE "C" NOT NULL,
    at          bigint NOT NULL,                     -- arrival, in ms
    sealed      bytea NOT NULL
);
CREATE INDEX reported ON @.report (sender, device, number);
CREATE INDEX arrived ON @.report (at);
"""
# An insert that has waited for the pruning of its own receipt does not see the digest, because its
# snapshot is older. A statement of a function has a new one. Then the insert fails with a conflict,
# and is repeated. Not a join, which might read the whole table.
REDUCED = """
CREATE FUNCTION @.refuse_reduced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM @.digest
        WHERE id = ANY(ARRAY(SELECT id FROM added WHERE status = 'accepted'))
    ) THEN
        RAISE EXCEPTION 'its receipt was reduced meanwhile' USING ERRCODE = '40001';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuses AFTER INSERT ON @.export REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION @.refuse_reduced();
"""
EXPANSIONS: tuple[str, ...] = (STREAM + PHONES, REDUCED)
