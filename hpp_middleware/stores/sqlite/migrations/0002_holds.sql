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

-- How many bytes of answers each account has kept: a running sum, for thousands may be kept.
CREATE TABLE kept (
    account TEXT    NOT NULL PRIMARY KEY,
    bytes   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER claim_is_counted_insert AFTER INSERT ON claim WHEN NEW.kept IS NOT NULL BEGIN
    INSERT INTO kept (account, bytes) VALUES (NEW.account, LENGTH(NEW.kept))
        ON CONFLICT (account) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER claim_is_counted_delete AFTER DELETE ON claim WHEN OLD.kept IS NOT NULL BEGIN
    UPDATE kept SET bytes = bytes - LENGTH(OLD.kept) WHERE account = OLD.account;
END;

CREATE TRIGGER claim_is_counted_update AFTER UPDATE ON claim
WHEN OLD.kept IS NOT NULL OR NEW.kept IS NOT NULL BEGIN
    UPDATE kept SET bytes = bytes - LENGTH(OLD.kept) WHERE account = OLD.account AND OLD.kept IS NOT NULL;
    INSERT INTO kept (account, bytes) VALUES (NEW.account, COALESCE(LENGTH(NEW.kept), 0))
        ON CONFLICT (account) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

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
