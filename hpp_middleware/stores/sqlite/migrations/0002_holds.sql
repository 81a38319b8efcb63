-- Holds that can be resized, that remember their claim, and are forgotten in the end; claims; seals.

ALTER TABLE hold ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hold ADD COLUMN claim TEXT;
ALTER TABLE hold ADD COLUMN resolved REAL;

UPDATE hold SET resolved = deadline WHERE state <> 'held';

CREATE INDEX hold_resolved ON hold (resolved) WHERE resolved IS NOT NULL;

CREATE INDEX grant_account ON "grant" (account);

CREATE TABLE claim (
    key         TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    hold        TEXT NOT NULL,
    account     TEXT NOT NULL,
    expires     REAL NOT NULL,
    kept        BLOB
) STRICT, WITHOUT ROWID;

CREATE INDEX claim_expires ON claim (expires);
CREATE INDEX claim_kept ON claim (account) WHERE kept IS NOT NULL;

CREATE TABLE seal (
    account TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    mac     TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    created REAL    NOT NULL,
    PRIMARY KEY (account, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER seal_is_append_only_update BEFORE UPDATE ON seal BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER seal_is_append_only_delete BEFORE DELETE ON seal BEGIN SELECT RAISE(ABORT, 'append-only'); END;
