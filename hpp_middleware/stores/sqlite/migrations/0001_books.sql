-- Money is nano-dollars; times are seconds since the epoch by this host's clock; JSON columns hold the frozen nouns.
-- The words of a CHECK stand in ORs: for an IN of more than two, SQLite makes a table of them at each row that it writes.
-- Tables of long rows have a ROWID: without, an inner page has whole rows as well, four to a page, and so a tree is deep.
-- Files that were made before have both otherwise: they stay as they are, take more work, and say the same.

CREATE TABLE account (
    id        TEXT    NOT NULL PRIMARY KEY,
    quota     INTEGER NOT NULL CHECK (quota >= 0),
    settled   INTEGER NOT NULL,
    held      INTEGER NOT NULL CHECK (held >= 0),
    declared  INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    requests  INTEGER NOT NULL,
    tokens    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hold (
    id            TEXT    NOT NULL PRIMARY KEY,
    accounts      TEXT    NOT NULL,
    amount        INTEGER NOT NULL,
    want          INTEGER NOT NULL,
    state         TEXT    NOT NULL CHECK (state = 'held' OR state = 'settled' OR state = 'released'
                                          OR state = 'expired' OR state = 'corrected'),
    owner         TEXT    NOT NULL,
    deadline      REAL    NOT NULL,
    orphan_amount INTEGER NOT NULL,
    charged       INTEGER NOT NULL,
    draft         TEXT
) STRICT;

-- The sweeper looks at live holds only; there are never many.
CREATE INDEX hold_live ON hold (owner, deadline) WHERE state = 'held';

CREATE TABLE lease (
    owner TEXT NOT NULL PRIMARY KEY,
    until REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE "grant" (
    id      TEXT    NOT NULL PRIMARY KEY,
    account TEXT    NOT NULL,
    amount  INTEGER NOT NULL,
    created REAL    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    account TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    hold    TEXT    NOT NULL,
    line    TEXT    NOT NULL CHECK (line = 'resolution' OR line = 'overage' OR line = 'correction'),
    amount  INTEGER NOT NULL CHECK (amount >= 0 OR line = 'correction'),
    created REAL    NOT NULL,
    model   TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    entry   TEXT    NOT NULL,
    PRIMARY KEY (account, seq)
) STRICT;

CREATE UNIQUE INDEX ledger_hold ON ledger (hold, line);

CREATE TRIGGER ledger_is_append_only_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER ledger_is_append_only_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'append-only'); END;

CREATE TABLE credential (
    digest   BLOB NOT NULL PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE,
    consumer TEXT NOT NULL,
    created  REAL NOT NULL,
    expires  REAL,
    revoked  REAL
) STRICT, WITHOUT ROWID;
