-- Money is nano-dollars; times are seconds since the epoch by this server's clock; JSON texts hold the frozen nouns.
--
-- An operator whose gateways may not create tables runs these files by hand, each in a transaction of its own:
--   psql -1 -v ON_ERROR_STOP=1 -f 0001_books.sql
-- Tables and functions go to the first schema of the search_path, and are found by it later.

CREATE TABLE IF NOT EXISTS hpp_migration (
    version int              NOT NULL PRIMARY KEY,
    name    text             NOT NULL,
    applied double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp())
);

-- Ids sort by code point ("C"), as they do in Python. A hot account's row is written many times a second: half of each
-- page is left free, so that its next version stays on the page and touches no index.
CREATE TABLE hpp_account (
    id       text COLLATE "C" NOT NULL PRIMARY KEY,
    quota    bigint           NOT NULL DEFAULT 0,
    settled  bigint           NOT NULL DEFAULT 0,
    held     bigint           NOT NULL DEFAULT 0 CHECK (held >= 0),
    declared bigint           NOT NULL DEFAULT 0,
    seq      bigint           NOT NULL DEFAULT 0 CHECK (seq >= 0),
    requests bigint           NOT NULL DEFAULT 0,
    tokens   bigint           NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE hpp_hold (
    id            text COLLATE "C" NOT NULL PRIMARY KEY,
    accounts      text[]           NOT NULL,
    amount        bigint           NOT NULL CHECK (amount >= 0),
    want          bigint           NOT NULL,
    state         text             NOT NULL CHECK (state IN ('held', 'settled', 'released', 'expired', 'corrected')),
    owner         text             NOT NULL,
    deadline      double precision NOT NULL,
    orphan_amount bigint           NOT NULL,
    charged       bigint           NOT NULL,
    draft         text,
    model         text             NOT NULL,
    attempt       bigint           NOT NULL,
    claim         text,
    resolved      double precision
);

-- The sweeper looks at live holds only, of which there are never many; and forgets those that are long resolved.
CREATE INDEX hpp_hold_live ON hpp_hold (owner, deadline) WHERE state = 'held';
CREATE INDEX hpp_hold_resolved ON hpp_hold (resolved) WHERE resolved IS NOT NULL;

CREATE TABLE hpp_lease (
    owner text COLLATE "C" NOT NULL PRIMARY KEY,
    until double precision NOT NULL
);

CREATE TABLE hpp_claim (
    key         text COLLATE "C" NOT NULL PRIMARY KEY,
    fingerprint text             NOT NULL,
    hold        text             NOT NULL,
    account     text COLLATE "C" NOT NULL,
    expires     double precision NOT NULL,
    kept        bytea
);

CREATE INDEX hpp_claim_expires ON hpp_claim (expires);

-- How many bytes of answers each account has kept: a running sum, for thousands may be kept.
CREATE TABLE hpp_kept (
    account text COLLATE "C" NOT NULL PRIMARY KEY,
    bytes   bigint           NOT NULL
);

-- From here on nothing is ever changed or deleted, credentials excepted.

CREATE TABLE hpp_grant (
    id      text COLLATE "C" NOT NULL PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    amount  bigint           NOT NULL,
    created double precision NOT NULL
);

CREATE INDEX hpp_grant_account ON hpp_grant (account);

-- ``entry`` is the line, byte for byte as it is sealed; the other columns say the same for queries.
CREATE TABLE hpp_ledger (
    account text COLLATE "C" NOT NULL,
    seq     bigint           NOT NULL,
    hold    text COLLATE "C" NOT NULL,
    line    text             NOT NULL CHECK (line IN ('resolution', 'overage', 'correction')),
    amount  bigint           NOT NULL CHECK (amount >= 0 OR line = 'correction'),
    tokens  bigint           NOT NULL,
    created double precision NOT NULL,
    model   text             NOT NULL,
    outcome text             NOT NULL,
    entry   text             NOT NULL,
    PRIMARY KEY (account, seq),
    UNIQUE (hold, line)
);

CREATE TABLE hpp_seal (
    account text COLLATE "C" NOT NULL,
    seq     bigint           NOT NULL,
    mac     text             NOT NULL,
    key     text             NOT NULL,
    created double precision NOT NULL,
    PRIMARY KEY (account, seq)
);

CREATE FUNCTION hpp_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER hpp_grant_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hpp_grant
    EXECUTE FUNCTION hpp_append_only();
CREATE TRIGGER hpp_ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hpp_ledger
    EXECUTE FUNCTION hpp_append_only();
CREATE TRIGGER hpp_seal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hpp_seal
    EXECUTE FUNCTION hpp_append_only();

CREATE TABLE hpp_credential (
    digest   bytea            NOT NULL PRIMARY KEY,
    id       text COLLATE "C" NOT NULL UNIQUE,
    consumer text             NOT NULL,
    created  double precision NOT NULL,
    expires  double precision,
    revoked  double precision,
    pepper   text             NOT NULL
);

-- A count of changes, by which every worker learns that keys were made or revoked; triggers, so that a row that is
-- changed by hand counts too. A key that moves to another pepper stays what it is.
CREATE TABLE hpp_credential_epoch (
    one   int    NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch bigint NOT NULL
);

INSERT INTO hpp_credential_epoch VALUES (1, 0);

CREATE FUNCTION hpp_count_credential() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE hpp_credential_epoch SET epoch = epoch + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER hpp_credential_counts AFTER INSERT OR DELETE OR UPDATE OF id, consumer, expires, revoked
    ON hpp_credential FOR EACH ROW EXECUTE FUNCTION hpp_count_credential();

INSERT INTO hpp_migration (version, name) VALUES (1, 'books');
