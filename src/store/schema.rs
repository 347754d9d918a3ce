//! The tables, and how a database is brought up to date.
//!
//! Compatibility: migrations only grow. A database of a newer schema is refused, because a program
//! that does not know what it means could break the signed logs in it.

use anyhow::{Context, ensure};
use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

/// One step a release that changed the schema; never edited once released.
const STEPS: &[&str] = &[
    "
-- The two logs. Entries are the exact leaf bytes; nothing here is ever updated or deleted.
CREATE TABLE accepted_entry (
    number INTEGER PRIMARY KEY,         -- position in the log, from 0
    text   BLOB NOT NULL
) STRICT;
CREATE TABLE claims_entry (
    number INTEGER PRIMARY KEY,
    text   BLOB NOT NULL
) STRICT;

-- Hash tiles of height 8. Only the rightmost tile of each level is ever rewritten.
CREATE TABLE tile (
    log    INTEGER NOT NULL,            -- 0 accepted, 1 claims
    level  INTEGER NOT NULL,
    idx    INTEGER NOT NULL,
    hashes BLOB NOT NULL CHECK (length(hashes) % 32 = 0 AND length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY (log, level, idx)
) STRICT;

-- The newest signed head of each log, once in each form that it is served in.
CREATE TABLE head (
    log    INTEGER NOT NULL,
    origin TEXT NOT NULL,               -- first line of the note
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL CHECK (length(root) = 32),
    note   TEXT NOT NULL,               -- the signed note as served
    PRIMARY KEY (log, origin)
) STRICT;

-- Every spec that anything is known of. Rows about specs use the id, so that only one small index is
-- written to in no order: that is what appending to a large log would cost most.
CREATE TABLE spec (
    id   INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,              -- half of the module, half of the whole text: see specs.rs
    text TEXT NOT NULL
) STRICT;
CREATE INDEX spec_by_hash ON spec (hash);

-- What the accepted log says, by spec.
CREATE TABLE record (
    number INTEGER PRIMARY KEY,         -- its entry in accepted_entry
    spec   INTEGER NOT NULL UNIQUE REFERENCES spec (id),
    size   INTEGER NOT NULL CHECK (size > 0),
    sum    BLOB NOT NULL CHECK (length(sum) = 20),
    at     INTEGER NOT NULL             -- when it was accepted, Unix seconds
) STRICT;

-- Whose words are kept.
CREATE TABLE party (
    id   INTEGER PRIMARY KEY,
    vkey TEXT NOT NULL UNIQUE           -- the whole verifier key: origins are shared, keys are not
) STRICT;

-- The latest proven word of each party on each spec: a sum with its file size, or a class.
CREATE TABLE word (
    spec   INTEGER NOT NULL REFERENCES spec (id),
    party  INTEGER NOT NULL REFERENCES party (id),
    number INTEGER NOT NULL,            -- entry in that party's log
    size   INTEGER,
    sum    BLOB CHECK (length(sum) = 20),
    class  TEXT,
    at     INTEGER NOT NULL,
    PRIMARY KEY (spec, party),
    CHECK ((sum IS NULL) = (size IS NULL) AND (sum IS NULL) <> (class IS NULL))
) STRICT, WITHOUT ROWID;

-- Binaries by the sum of their uncompressed bytes. A row without its file is an error,
-- so the row goes first when one is evicted and last when one arrives.
CREATE TABLE binary (
    id        INTEGER PRIMARY KEY,
    sum       BLOB NOT NULL UNIQUE CHECK (length(sum) = 20),
    size      INTEGER NOT NULL,
    sha256    BLOB NOT NULL CHECK (length(sha256) = 32),
    gz_size   INTEGER NOT NULL,
    gz_sha256 BLOB NOT NULL CHECK (length(gz_sha256) = 32),
    state     TEXT NOT NULL CHECK (state IN ('present', 'evicted')),
    served_at INTEGER NOT NULL          -- Unix seconds; the least recently served goes first
) STRICT;
CREATE INDEX binary_by_service ON binary (state, served_at);

-- Output of the latest build of a spec that ended in a claim, as gzip.
CREATE TABLE build_log (
    spec INTEGER PRIMARY KEY REFERENCES spec (id),
    gz   BLOB NOT NULL
) STRICT;

-- Builds that failed for a reason that may pass; each is tried again at its time.
CREATE TABLE trouble (
    spec    TEXT PRIMARY KEY,
    detail  TEXT NOT NULL,
    tries   INTEGER NOT NULL,
    next_at INTEGER NOT NULL            -- Unix seconds
) STRICT, WITHOUT ROWID;
CREATE INDEX trouble_by_time ON trouble (next_at);

-- Files of the module proxy that are kept, by path; the bytes are files named by their hash.
CREATE TABLE module_file (
    path    TEXT PRIMARY KEY,
    sha256  BLOB NOT NULL CHECK (length(sha256) = 32),
    size    INTEGER NOT NULL,
    used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX module_file_by_use ON module_file (used_at);
CREATE INDEX module_file_by_hash ON module_file (sha256);

-- The newest head of each checksum database that was proven consistent with those before.
CREATE TABLE sumdb_head (
    name TEXT PRIMARY KEY,
    note TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Toolchains that are unpacked, checked and tried.
CREATE TABLE toolchain (
    goversion TEXT PRIMARY KEY,
    h1        TEXT NOT NULL,            -- dirhash of the zip, as the checksum database has it
    targets   TEXT NOT NULL,            -- os/arch pairs, separated by spaces
    at        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
-- The index of specs in two parts, see specs.rs. The hash moves there from the rows.
CREATE TABLE spec_recent (
    hash INTEGER NOT NULL,              -- half of the module, half of the whole text
    id   INTEGER NOT NULL REFERENCES spec (id),
    PRIMARY KEY (hash, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE spec_settled (
    hash INTEGER NOT NULL,
    id   INTEGER NOT NULL REFERENCES spec (id),
    PRIMARY KEY (hash, id)
) STRICT, WITHOUT ROWID;
INSERT INTO spec_settled (hash, id) SELECT hash, id FROM spec ORDER BY hash, id;
DROP INDEX spec_by_hash;
ALTER TABLE spec DROP COLUMN hash;

-- In which of its party's logs a word stands.
ALTER TABLE word ADD COLUMN log INTEGER NOT NULL DEFAULT 1;   -- 0 accepted, 1 claims

-- The logs of peers, as far as they are proven. Their tiles are in the table tile, as log id + 1.
CREATE TABLE peer_log (
    id      INTEGER PRIMARY KEY,
    party   INTEGER NOT NULL REFERENCES party (id),
    log     INTEGER NOT NULL,           -- 0 accepted, 1 claims
    size    INTEGER NOT NULL,           -- entries that are proven and stored
    head    TEXT,                       -- the largest signed head whose entries are all stored
    head_at INTEGER NOT NULL,           -- Unix seconds
    met_at  INTEGER,                    -- size of the first head that was proven
    UNIQUE (party, log)
) STRICT;
CREATE TABLE peer_entry (
    key  INTEGER PRIMARY KEY,           -- peer_log.id << 40 | number
    text BLOB NOT NULL
) STRICT;

-- Every distinct validly signed head of a peer's log that was seen.
CREATE TABLE peer_head (
    log        INTEGER NOT NULL REFERENCES peer_log (id),
    size       INTEGER NOT NULL,
    root       BLOB NOT NULL CHECK (length(root) = 32),
    note       TEXT NOT NULL,
    source     TEXT NOT NULL,           -- who showed it
    first_seen INTEGER NOT NULL,        -- Unix seconds
    PRIMARY KEY (log, size, root)
) STRICT, WITHOUT ROWID;

-- What was found out of a peer by asking it, and whether it is still to be believed.
CREATE TABLE peer_state (
    party      INTEGER PRIMARY KEY REFERENCES party (id),
    program    TEXT,                    -- sumpeer or gobuild
    log        INTEGER,                 -- the log that its words are taken from
    quarantine TEXT,                    -- the reason, while there is one
    since      INTEGER,                 -- Unix seconds
    divergence INTEGER REFERENCES divergence (id)
) STRICT;

-- What was found to differ, and what proves it.
CREATE TABLE divergence (
    id         INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,
    spec       INTEGER REFERENCES spec (id),
    party      INTEGER REFERENCES party (id),  -- whose word or head opened it
    open       INTEGER NOT NULL CHECK (open IN (0, 1)),
    first_seen INTEGER NOT NULL,        -- Unix seconds
    last_seen  INTEGER NOT NULL,
    note       TEXT,                    -- of the operator who resolved it
    evidence   TEXT                     -- a bundle, where stored logs alone do not prove it
) STRICT;
CREATE UNIQUE INDEX divergence_of_spec ON divergence (spec) WHERE open = 1 AND kind = 'divergence';
CREATE UNIQUE INDEX divergence_of_party ON divergence (kind, party, coalesce(spec, 0))
    WHERE open = 1 AND kind <> 'divergence';
CREATE INDEX divergence_by_spec ON divergence (spec);

-- The words that differ, also those that their party has replaced since.
CREATE TABLE divergence_word (
    divergence INTEGER NOT NULL REFERENCES divergence (id),
    party      INTEGER NOT NULL REFERENCES party (id),
    log        INTEGER NOT NULL,
    number     INTEGER NOT NULL,        -- entry in that log
    size       INTEGER NOT NULL,
    sum        BLOB NOT NULL CHECK (length(sum) = 20),
    at         INTEGER NOT NULL,
    PRIMARY KEY (divergence, party, log, number)
) STRICT, WITHOUT ROWID;

-- Specs that a voter has claimed and this node has yet to build.
CREATE TABLE due (
    spec INTEGER PRIMARY KEY REFERENCES spec (id)
) STRICT;

-- Who voted when specs were last judged, and how far judging all of them anew has got.
CREATE TABLE judging (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    voters TEXT NOT NULL,
    next   INTEGER                      -- the spec to go on with; null: all are judged
) STRICT;

-- Sums that a party has named and then replaced by saying that it cannot be built. Naming another one later
-- contradicts them.
CREATE TABLE withdrawn (
    spec   INTEGER NOT NULL REFERENCES spec (id),
    party  INTEGER NOT NULL REFERENCES party (id),
    log    INTEGER NOT NULL,            -- of the party, 0 accepted, 1 claims
    number INTEGER NOT NULL,            -- entry in that log
    size   INTEGER NOT NULL,
    sum    BLOB NOT NULL CHECK (length(sum) = 20),
    at     INTEGER NOT NULL,            -- Unix seconds, by the party's clock
    PRIMARY KEY (spec, party)
) STRICT, WITHOUT ROWID;
",
    "
-- What the operator is told of. Never deleted.
CREATE TABLE alert (
    id         INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,
    spec       INTEGER REFERENCES spec (id),
    party      INTEGER REFERENCES party (id),
    divergence INTEGER REFERENCES divergence (id),
    summary    TEXT,                    -- one sentence; null: it is made from the divergence when it is told
    open       INTEGER NOT NULL CHECK (open IN (0, 1)),
    first_seen INTEGER NOT NULL,        -- Unix seconds
    last_seen  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX alert_open ON alert (kind, coalesce(party, 0), coalesce(spec, 0)) WHERE open = 1;
CREATE INDEX alert_by_divergence ON alert (divergence) WHERE divergence IS NOT NULL;
-- Divergences that were found before there were alerts: open, and told to nobody.
INSERT INTO alert (kind, spec, party, divergence, open, first_seen, last_seen)
    SELECT kind, spec, party, id, 1, first_seen, last_seen FROM divergence WHERE open = 1;

-- What happened to alerts, in order: they were raised, they ended.
CREATE TABLE alert_event (
    id    INTEGER PRIMARY KEY,
    uid   TEXT NOT NULL,                -- 128 random bits, by which receivers know what they have had already
    alert INTEGER NOT NULL REFERENCES alert (id),
    open  INTEGER NOT NULL CHECK (open IN (0, 1)),
    at    INTEGER NOT NULL              -- Unix seconds
) STRICT;

-- Who is told, by the names that the configuration gives.
CREATE TABLE channel (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- What has yet to be told to whom. A row goes when it is acknowledged, or given up.
CREATE TABLE outbox (
    channel TEXT NOT NULL,              -- channel.name, or that of a program that a channel runs
    event   INTEGER NOT NULL REFERENCES alert_event (id),
    tries   INTEGER NOT NULL,
    next_at INTEGER NOT NULL,           -- Unix milliseconds
    error   TEXT,                       -- why the last try failed
    PRIMARY KEY (channel, event)
) STRICT, WITHOUT ROWID;
",
    "
-- How the binaries behind two words of a divergence differ.
CREATE TABLE comparison (
    divergence INTEGER NOT NULL REFERENCES divergence (id),
    one        BLOB NOT NULL CHECK (length(one) = 20),     -- the smaller sum
    other      BLOB NOT NULL CHECK (length(other) = 20 AND one < other),
    text       TEXT,                    -- as in evidence; null while a binary is not at hand
    missing    TEXT,                    -- what was missing at the last try
    tries      INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,        -- Unix seconds
    PRIMARY KEY (divergence, one, other)
) STRICT, WITHOUT ROWID;
CREATE INDEX comparison_by_time ON comparison (next_at) WHERE text IS NULL;
INSERT OR IGNORE INTO comparison (divergence, one, other, tries, next_at)
    SELECT DISTINCT mine.divergence, mine.sum, theirs.sum, 0, 0 FROM divergence_word AS mine
    JOIN divergence_word AS theirs ON theirs.divergence = mine.divergence AND mine.sum < theirs.sum
    JOIN divergence ON divergence.id = mine.divergence WHERE divergence.open = 1;
",
    "
-- For whom a spec is to be built.
ALTER TABLE due ADD COLUMN errand INTEGER NOT NULL DEFAULT 0;   -- 0 a voter, 1 the watch list, 2 an audit
CREATE INDEX due_by_errand ON due (errand, spec);

-- Logs of peers that this node audits, and how far choosing from them has got. The counts are those of the chosen
-- rows of audit_record, and change with them.
CREATE TABLE audit_log (
    log          INTEGER PRIMARY KEY REFERENCES peer_log (id),
    selection    TEXT NOT NULL,         -- the settings by which entries were chosen so far
    first        INTEGER NOT NULL,      -- entries before this one do not count
    next         INTEGER NOT NULL,      -- the entry to look at next
    since        INTEGER NOT NULL,      -- when the first one was looked at, in Unix seconds
    chosen       INTEGER NOT NULL,
    reproduced   INTEGER NOT NULL,
    differs      INTEGER NOT NULL,
    cannot_build INTEGER NOT NULL
) STRICT;

-- Entries of peers' logs that were chosen to be built again, and what came of it.
CREATE TABLE audit_record (
    key           INTEGER PRIMARY KEY,  -- as in peer_entry
    spec          INTEGER NOT NULL REFERENCES spec (id),
    size          INTEGER NOT NULL,     -- what the entry says
    sum           BLOB NOT NULL CHECK (length(sum) = 20),
    chosen        INTEGER NOT NULL CHECK (chosen IN (0, 1)),   -- by the selection of audit_log
    begun         INTEGER NOT NULL CHECK (begun IN (0, 1)),    -- its build was asked for, and counted for its day
    state         TEXT NOT NULL CHECK (state IN ('pending', 'reproduced', 'differs', 'cannot-build')),
    class         TEXT,                 -- why it cannot be built here
    at            INTEGER,              -- when it came to that state, in Unix seconds
    reproduced_at INTEGER,              -- when this sum, or one that the peer named before, was reproduced
    CHECK ((class IS NULL) = (state <> 'cannot-build') AND (at IS NULL) = (state = 'pending'))
) STRICT;
CREATE INDEX audit_record_by_spec ON audit_record (spec);
CREATE INDEX audit_record_to_begin ON audit_record (key) WHERE state = 'pending' AND begun = 0 AND chosen = 1;
CREATE INDEX audit_record_differing ON audit_record (key) WHERE state = 'differs';

-- What draws the samples of all audits, and how many builds were begun on a day.
CREATE TABLE audit_state (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    seed  BLOB NOT NULL CHECK (length(seed) = 16),
    day   INTEGER NOT NULL,             -- UTC, in days since 1970
    begun INTEGER NOT NULL
) STRICT;

-- How far the feed of new module versions was read.
CREATE TABLE feed (
    url   TEXT PRIMARY KEY,
    since TEXT NOT NULL,                -- the newest moment, RFC 3339
    seen  TEXT NOT NULL                 -- short hashes of the rows of that moment, which come again
) STRICT;

-- New versions of watched modules of which it is not known yet what to build.
CREATE TABLE fresh_version (
    module  TEXT NOT NULL,
    version TEXT NOT NULL,
    tries   INTEGER NOT NULL,
    next_at INTEGER NOT NULL,           -- Unix seconds
    PRIMARY KEY (module, version)
) STRICT, WITHOUT ROWID;
",
];

/// Brings the tables up to date.
///
/// # Errors
/// A database of a newer schema is refused.
pub(super) fn migrate(conn: &mut Connection) -> anyhow::Result<()> {
    check_version(conn)?;
    let steps = Migrations::new(STEPS.iter().map(|sql| M::up(sql)).collect());
    steps.to_latest(conn).context("cannot bring the database up to date")
}

/// Refuses a database that this program cannot know.
///
/// # Errors
/// Says which schema the database has, and which this program knows.
pub(super) fn check_version(conn: &Connection) -> anyhow::Result<()> {
    let version: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    ensure!(
        version as usize <= STEPS.len(),
        "the database is at schema {version}, this program knows up to {}: refusing to start; \
         use the newer sumpeer that wrote it",
        STEPS.len(),
    );
    Ok(())
}

/// Makes a database as the first so many steps left it, with some rows.
#[cfg(test)]
pub(super) fn make_old(path: &std::path::Path, steps: usize, rows: &str) {
    let mut conn = Connection::open(path).expect("a new database");
    let steps = Migrations::new(STEPS[..steps].iter().map(|sql| M::up(sql)).collect());
    steps.to_latest(&mut conn).expect("made");
    conn.execute_batch(rows).expect("filled");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_steps_apply() {
        let mut conn = Connection::open_in_memory().expect("in memory");
        migrate(&mut conn).expect("a new database");
        migrate(&mut conn).expect("one that is up to date");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let mut conn = Connection::open_in_memory().expect("in memory");
        conn.pragma_update(None, "user_version", 999).expect("set");
        let error = migrate(&mut conn).expect_err("newer");
        assert!(error.to_string().contains("refusing to start"), "{error}");
    }
}
