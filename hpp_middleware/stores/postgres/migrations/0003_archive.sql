-- What is written besides the operations: credentials, seals, and what a mover brings from a faster store.

-- Keep a credential; a digest or an id that is there already is replaced.
CREATE FUNCTION hpp_add_credential(given_digest bytea, given_id text, consumer text, created double precision,
                                   expires double precision, revoked double precision, pepper text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM hpp_credential WHERE digest = given_digest OR id = given_id;
    INSERT INTO hpp_credential VALUES (given_digest, given_id, consumer, created, expires, revoked, pepper)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        PERFORM hpp_again();
    END IF;
END $$;

-- Append seals, each once; none of them where another one stands already.
CREATE FUNCTION hpp_add_seals(seals json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hpp_seal (account, seq, mac, key, created)
        SELECT account, seq, mac, key, created FROM json_to_recordset(seals) AS given
            (account text, seq bigint, mac text, key text, created double precision)
        ORDER BY account COLLATE "C", seq ON CONFLICT (account, seq) DO NOTHING;
    IF EXISTS (SELECT FROM json_to_recordset(seals) AS given (account text, seq bigint, mac text)
        JOIN hpp_seal AS kept ON kept.account = given.account AND kept.seq = given.seq WHERE kept.mac <> given.mac)
    THEN
        RAISE EXCEPTION 'another seal' USING ERRCODE = 'unique_violation';
    END IF;
END $$;

-- Keep ledger lines and grants, each once, and add what is new to its account's sums.
CREATE FUNCTION hpp_archive(lines json, grants json, at double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hpp_account (id)
        SELECT account FROM json_to_recordset(lines) AS l (account text)
            UNION SELECT account FROM json_to_recordset(grants) AS g (account text) ORDER BY 1
        ON CONFLICT (id) DO NOTHING;
    PERFORM FROM hpp_account WHERE id = ANY (ARRAY(
        SELECT account FROM json_to_recordset(lines) AS l (account text)
            UNION SELECT account FROM json_to_recordset(grants) AS g (account text))) ORDER BY id FOR UPDATE;

    WITH fresh AS (
        INSERT INTO hpp_grant (id, account, amount, created)
            SELECT id, account, amount, coalesce(at, extract(epoch FROM clock_timestamp()))
                FROM json_to_recordset(grants) AS g (id text, account text, amount bigint)
            ON CONFLICT (id) DO NOTHING RETURNING account, amount
    ), sums AS (SELECT account, sum(amount) AS amount FROM fresh GROUP BY account)
    UPDATE hpp_account AS a SET quota = a.quota + sums.amount FROM sums WHERE a.id = sums.account;

    WITH fresh AS (
        INSERT INTO hpp_ledger (account, seq, hold, line, amount, tokens, created, model, outcome, entry)
            SELECT account, seq, hold, line, amount, tokens, created, model, outcome, entry
                FROM json_to_recordset(lines) AS l (account text, seq bigint, hold text, line text, amount bigint,
                    tokens bigint, created double precision, model text, outcome text, entry text)
            ON CONFLICT (hold, line) DO NOTHING RETURNING account, seq, line, amount, tokens
    ), sums AS (
        SELECT account, max(seq) AS seq, sum(amount) AS amount, sum(tokens) AS tokens,
            count(*) FILTER (WHERE line = 'resolution') AS requests FROM fresh GROUP BY account
    )
    UPDATE hpp_account AS a SET settled = a.settled + sums.amount, seq = greatest(a.seq, sums.seq),
        requests = a.requests + sums.requests, tokens = least(a.tokens + sums.tokens, 4611686018427387903)
        FROM sums WHERE a.id = sums.account;
END $$;

INSERT INTO hpp_migration (version, name) VALUES (3, 'archive');
