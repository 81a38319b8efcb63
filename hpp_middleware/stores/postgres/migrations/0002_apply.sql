-- What is done to accounts and holds: a batch of operations, in one statement, which is one round trip and one
-- transaction. It decides as hpp_middleware/core/quota.py and core/claims.py do, which are the specification.

CREATE TYPE hpp_result AS (
    id        text,
    status    text,
    amount    bigint,
    available bigint,
    entries   text[],
    hold      text,
    kept      bytea,
    more      boolean,
    short     text
);

-- Nothing is known to be wrong, but somebody else was quicker: everything is undone, and the caller repeats the batch.
CREATE FUNCTION hpp_again() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'somebody else was quicker' USING ERRCODE = 'serialization_failure';
END $$;

-- Append a ledger line, and return it as msgspec encodes it.
CREATE FUNCTION hpp_append(h hpp_hold, line text, seq bigint, amount bigint, tokens bigint, now double precision,
                           report text, outcome text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    created text := now::text;
    entry   text;
BEGIN
    IF created !~ '[.e]' THEN
        created := created || '.0';
    END IF;
    entry := '{"id":' || to_json(CASE line WHEN 'resolution' THEN h.id ELSE h.id || ':' || line END)::text
        || ',"hold":' || to_json(h.id)::text || ',"line":"' || line || '","account":' || to_json(h.accounts[1])::text
        || ',"seq":' || seq || ',"amount":' || amount || ',"held":' || h.amount || ',"created":' || created
        || ',"draft":' || h.draft || ',"report":' || report || '}';
    INSERT INTO hpp_ledger VALUES
        (h.accounts[1], seq, h.id, line, amount, tokens, now, h.model, outcome, entry);
    RETURN entry;
END $$;

-- Lock one account although others are locked already, if it can be had soon. (A deadlock is looked for only later.)
CREATE FUNCTION hpp_lock_soon(name text) RETURNS hpp_account LANGUAGE plpgsql SET lock_timeout = '50ms' AS $$
DECLARE
    account hpp_account;
BEGIN
    SELECT * INTO account FROM hpp_account WHERE id = name FOR UPDATE;
    RETURN account;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END $$;

-- Whether an account can be charged with a hold of so much: it holds that, and what it has counted leaves room for more.
CREATE FUNCTION hpp_bears(a hpp_account, amount bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT a.held >= amount AND a.settled BETWEEN -4611686018427387903 AND 4611686018427387903
        AND greatest(a.seq, a.requests, a.tokens) <= 4611686018427387903;
$$;

-- Whether a hold has what it takes to be resolved, by its own row and its accounts'; one that somebody has damaged may not.
-- books has those of its accounts, named by ids, that this transaction may have changed already. It is STABLE, so that it
-- sees the others as the statement that found the hold does: another worker may be sweeping it at this moment.
CREATE FUNCTION hpp_sound(h hpp_hold, ids text[], books hpp_account[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    draft json;
BEGIN
    draft := h.draft;
    RETURN json_typeof(draft -> 'price') IS NOT DISTINCT FROM 'object'
        AND json_typeof(draft -> 'consumer') IS NOT DISTINCT FROM 'string'
        AND json_typeof(draft -> 'model') IS NOT DISTINCT FROM 'string'
        AND json_typeof(draft -> 'requested_model') IS NOT DISTINCT FROM 'string'
        AND cardinality(h.accounts) > 0 AND h.amount BETWEEN 0 AND 9000000000000000
        AND NOT EXISTS (SELECT FROM unnest(h.accounts) AS n LEFT JOIN hpp_account AS a ON a.id = n
            WHERE hpp_bears(CASE WHEN n = ANY (ids) THEN books[array_position(ids, n)] ELSE a END, h.amount) IS NOT TRUE);
EXCEPTION WHEN invalid_text_representation THEN
    RETURN false;
END $$;

-- operations: what to do, in this order, each seeing those before it.
-- names:      the accounts they name; makes: those among them that may have to be made.
-- holds:      the holds they name, whose accounts are wanted too.
-- at:         the time to go by; NULL for this server's clock.
CREATE FUNCTION hpp_apply(operations json, names text[], makes text[], holds text[], at double precision)
RETURNS SETOF hpp_result LANGUAGE plpgsql SET extra_float_digits = 1 AS $$
DECLARE
    max_nano   CONSTANT bigint := 9000000000000000;  -- core.quota.MAX_NANO
    max_tokens CONSTANT bigint := 4611686018427387903;  -- where counting tokens stops
    now     double precision;
    o       record;           -- the operation
    r       hpp_result;       -- what becomes of it
    h       hpp_hold;         -- the hold it names
    c       hpp_claim;        -- the claim it names
    ending  hpp_hold[];       -- the holds it resolves or corrects
    ids     text[] := '{}';   -- the accounts that are locked,
    books   hpp_account[] := '{}';  -- and what they have; written back in the end, each once
    written text[] := '{}';   -- those to write back
    tidies  bigint := 0;      -- how many claims to forget in the end
    made    text[];           -- those made here; one that nothing is written to is taken away again
    due     text[];           -- the holds that a sweep resolves
    missed  text[];
    more    hpp_account;
    budgets hpp_account[];    -- the accounts of a reserve of which it declares something, with that
    i       int;
    place   int;
    whose   text[];           -- what a hold is in from now on
    counts  boolean;          -- whether a resize needs room
    free    bigint;
    room    bigint;
    short   text;             -- which account has that
    change  bigint;
    charge  bigint;
    freed   bigint;
    seq     bigint;
    lines   text[];
    amounts bigint[];
BEGIN
    -- Lock everything first, in the order of ids, so that two batches never wait for each other.
    IF cardinality(makes) > 0 THEN
        WITH fresh AS (
            INSERT INTO hpp_account (id) SELECT DISTINCT n FROM unnest(makes) AS n ORDER BY n
            ON CONFLICT (id) DO NOTHING RETURNING id
        ) SELECT array_agg(id) INTO made FROM fresh;
    END IF;
    IF cardinality(holds) > 0 THEN
        names := names || ARRAY(SELECT unnest(accounts) FROM hpp_hold WHERE id = ANY (holds));
    END IF;
    SELECT coalesce(array_agg((l.a).id), '{}'), coalesce(array_agg(l.a), '{}') INTO ids, books
        FROM (SELECT a FROM hpp_account AS a WHERE a.id = ANY (names) ORDER BY a.id FOR UPDATE) AS l;

    -- Only now: who waited for a lock did not stop the clock.
    now := coalesce(at, extract(epoch FROM clock_timestamp()));

    FOR o IN SELECT * FROM json_to_recordset(operations) AS t (
        op text, id text, accounts text[], want bigint, floor bigint, owner text, ttl_s double precision,
        amount bigint, orphan_amount bigint, attempt bigint, expect bigint,
        draft text, model text, report text, outcome text, tokens bigint,
        claim text, fingerprint text, claim_ttl_s double precision, kept text, most bigint, keep_s double precision,
        limited text[], limits bigint[], rest boolean, spared json)
    LOOP
        r := ROW (coalesce(o.id, ''), 'done', 0, 0, '{}', '', NULL, false, '');
        ending := '{}';
        h := NULL;
        IF o.op IN ('reserve', 'resize', 'checkpoint', 'settle', 'release') THEN
            SELECT * INTO h FROM hpp_hold WHERE id = o.id;
            IF o.op <> 'reserve' AND NOT coalesce(h.accounts, '{}') <@ ids THEN
                PERFORM hpp_again();  -- it was placed after we looked which accounts to lock
            END IF;
        END IF;

        CASE o.op
        WHEN 'reserve' THEN
            IF NOT EXISTS (SELECT FROM hpp_lease WHERE owner = o.owner AND until > now) THEN
                r.status := 'fenced';
            ELSIF h.id IS NOT NULL THEN
                IF h.state = 'held' AND h.want = o.want AND h.accounts = o.accounts THEN
                    r.amount := h.amount;
                ELSE
                    r.status := 'conflict';
                END IF;
            ELSE
                c := NULL;
                IF o.claim IS NOT NULL THEN
                    SELECT * INTO c FROM hpp_claim WHERE key = o.claim FOR UPDATE;
                    IF c.key IS NOT NULL THEN
                        SELECT * INTO h FROM hpp_hold WHERE id = c.hold;
                        IF h.state IS NOT DISTINCT FROM 'held' THEN
                            r.status := 'running';
                        ELSIF coalesce(h.state, '') NOT IN ('released', 'expired') AND now < c.expires THEN
                            r.status := 'finished';
                        END IF;
                    END IF;
                END IF;
                IF r.status <> 'done' THEN
                    r.hold := c.hold;
                    IF c.fingerprint <> o.fingerprint THEN
                        r.status := 'mismatch';
                    ELSIF r.status = 'finished' THEN
                        r.kept := c.kept;
                    END IF;
                ELSE
                    room := NULL;
                    short := '';
                    budgets := '{}';
                    FOR i IN 1 .. cardinality(o.accounts) LOOP
                        more := books[array_position(ids, o.accounts[i])];
                        -- What the reserve declares is counted with here, and written only if the hold is placed.
                        place := array_position(o.limited, o.accounts[i]);
                        IF place IS NOT NULL THEN
                            change := more.quota + o.limits[place] - more.declared;
                            IF o.limits[place] BETWEEN 0 AND max_nano AND change BETWEEN 0 AND max_nano THEN
                                more.quota := change;
                                more.declared := o.limits[place];
                                budgets := budgets || more;
                            END IF;
                        END IF;
                        change := coalesce(more.quota - more.settled - more.held, 0);
                        IF room IS NULL OR change < room THEN
                            room := change;
                            short := o.accounts[i];
                        END IF;
                    END LOOP;
                    r.available := coalesce(room, 0);
                    IF room IS NULL OR o.want < 0 OR o.want > max_nano OR o.floor < 0
                       OR (o.want > room AND (o.floor >= o.want OR o.floor > room)) THEN
                        r.status := 'refused';
                        r.short := CASE WHEN o.want < 0 OR o.want > max_nano OR o.floor < 0 THEN '' ELSE short END;
                    ELSE
                        r.amount := CASE WHEN o.want <= room THEN o.want WHEN o.rest THEN room
                            ELSE least(o.want, greatest(o.floor, room / 2)) END;
                        FOREACH more IN ARRAY budgets LOOP
                            books[array_position(ids, more.id)] := more;
                        END LOOP;
                        INSERT INTO hpp_hold VALUES (
                            o.id, o.accounts, r.amount, o.want, 'held', o.owner, now + o.ttl_s,
                            greatest(0, least(o.orphan_amount, r.amount)), 0, o.draft, o.model, 0, o.claim, NULL)
                            ON CONFLICT (id) DO NOTHING;
                        IF NOT FOUND THEN
                            PERFORM hpp_again();
                        END IF;
                        IF o.claim IS NOT NULL THEN
                            IF c.key IS NOT NULL THEN
                                UPDATE hpp_kept SET bytes = bytes - octet_length(c.kept)
                                    WHERE account = c.account AND c.kept IS NOT NULL;
                                UPDATE hpp_claim SET fingerprint = o.fingerprint, hold = o.id,
                                    account = o.accounts[1], expires = now + o.claim_ttl_s, kept = NULL
                                    WHERE key = o.claim;
                            ELSE
                                INSERT INTO hpp_claim VALUES (
                                    o.claim, o.fingerprint, o.id, o.accounts[1], now + o.claim_ttl_s, NULL)
                                    ON CONFLICT (key) DO NOTHING;
                            END IF;
                            IF NOT FOUND THEN
                                PERFORM hpp_again();
                            END IF;
                        END IF;
                        FOR i IN 1 .. cardinality(o.accounts) LOOP
                            books[array_position(ids, o.accounts[i])].held :=
                                books[array_position(ids, o.accounts[i])].held + r.amount;
                        END LOOP;
                        written := written || o.accounts;
                    END IF;
                END IF;
            END IF;

        WHEN 'resize' THEN
            IF h.id IS NULL THEN
                r.status := 'unknown';
            ELSIF h.state = 'held' AND h.attempt = o.attempt AND h.amount = o.amount THEN
                r.amount := h.amount;
            ELSIF h.state <> 'held' OR o.attempt <= h.attempt OR o.accounts[1] <> h.accounts[1] THEN
                r.status := 'conflict';
                r.amount := h.amount;
            ELSE
                -- It leaves some accounts, where others are named; one that it is in already has room for what it has,
                -- and what is given back always fits.
                whose := coalesce(o.accounts, h.accounts);
                change := o.amount - h.amount;
                counts := change > 0 OR NOT whose <@ h.accounts;
                room := NULL;
                budgets := '{}';
                FOR i IN 1 .. cardinality(whose) LOOP
                    more := books[array_position(ids, whose[i])];
                    place := array_position(o.limited, whose[i]);
                    IF place IS NOT NULL THEN
                        free := more.quota + o.limits[place] - more.declared;
                        IF o.limits[place] BETWEEN 0 AND max_nano AND free BETWEEN 0 AND max_nano THEN
                            more.quota := free;
                            more.declared := o.limits[place];
                            budgets := budgets || more;
                        END IF;
                    END IF;
                    CONTINUE WHEN counts AND change <= 0 AND whose[i] = ANY (h.accounts);
                    free := coalesce(more.quota - more.settled - more.held, 0)
                        - CASE WHEN whose[i] = ANY (h.accounts) THEN 0 ELSE h.amount END;
                    IF room IS NULL OR free < room THEN
                        room := free;
                        short := whose[i];
                    END IF;
                END LOOP;
                IF o.amount < 0 OR o.amount > max_nano OR (counts AND change > room) THEN
                    r.status := 'refused';
                    r.amount := h.amount;
                    r.available := room;
                    r.short := CASE WHEN o.amount < 0 OR o.amount > max_nano THEN '' ELSE short END;
                ELSE
                    r.amount := o.amount;
                    UPDATE hpp_hold SET accounts = whose, amount = o.amount, attempt = o.attempt, draft = o.draft,
                        model = o.model,
                        orphan_amount = least(o.amount, greatest(hpp_hold.orphan_amount, o.orphan_amount))
                        WHERE id = h.id;
                    FOREACH more IN ARRAY budgets LOOP
                        books[array_position(ids, more.id)] := more;
                    END LOOP;
                    FOR i IN 1 .. cardinality(h.accounts) LOOP
                        place := array_position(ids, h.accounts[i]);
                        books[place].held := books[place].held - h.amount;
                    END LOOP;
                    FOR i IN 1 .. cardinality(whose) LOOP
                        place := array_position(ids, whose[i]);
                        books[place].held := books[place].held + o.amount;
                    END LOOP;
                    written := written || h.accounts || whose;
                END IF;
            END IF;

        WHEN 'checkpoint' THEN
            IF h.id IS NULL THEN
                r.status := 'unknown';
            ELSIF h.state <> 'held' THEN
                r.status := 'conflict';
            ELSE
                r.amount := greatest(h.orphan_amount, least(o.orphan_amount, h.amount));
                UPDATE hpp_hold SET orphan_amount = r.amount WHERE id = h.id;
            END IF;

        WHEN 'settle' THEN
            IF h.id IS NULL THEN
                r.status := 'unknown';
            ELSIF o.amount < 0 OR o.amount > max_nano THEN
                r.status := 'refused';
                r.amount := h.charged;
            ELSIF h.state IN ('held', 'expired') THEN
                ending := ARRAY[h];
                r.amount := o.amount;
            ELSE
                r.amount := h.charged;
                IF h.state = 'released' OR h.charged <> o.amount THEN
                    r.status := 'conflict';
                END IF;
            END IF;

        WHEN 'release' THEN
            IF h.id IS NULL THEN
                INSERT INTO hpp_hold VALUES (
                    o.id, '{}', 0, 0, 'released', '', 0, 0, 0, NULL, '', 0, NULL, now) ON CONFLICT (id) DO NOTHING;
                IF NOT FOUND THEN
                    PERFORM hpp_again();
                END IF;
            ELSIF h.state = 'held' THEN
                UPDATE hpp_hold SET state = 'released', resolved = now WHERE id = h.id;
                FOR i IN 1 .. cardinality(h.accounts) LOOP
                    books[array_position(ids, h.accounts[i])].held :=
                        books[array_position(ids, h.accounts[i])].held - h.amount;
                END LOOP;
                written := written || h.accounts;
            ELSIF h.state = 'expired' THEN
                ending := ARRAY[h];
            ELSIF h.state <> 'released' AND h.charged <> 0 THEN
                r.status := 'conflict';
            END IF;

        WHEN 'grant' THEN
            i := array_position(ids, o.accounts[1]);
            SELECT amount, account INTO change, short FROM hpp_grant WHERE id = o.id;
            r.amount := coalesce(change, books[i].quota);
            IF FOUND THEN
                IF change <> o.amount OR short <> o.accounts[1] THEN
                    r.status := 'conflict';
                END IF;
            ELSIF o.expect <> books[i].quota THEN
                r.status := 'conflict';
            ELSIF books[i].quota + o.amount < 0 OR books[i].quota + o.amount > max_nano THEN
                r.status := 'refused';
            ELSE
                r.amount := o.amount;
                INSERT INTO hpp_grant VALUES (o.id, o.accounts[1], o.amount, now) ON CONFLICT (id) DO NOTHING;
                IF NOT FOUND THEN
                    PERFORM hpp_again();
                END IF;
                books[i].quota := books[i].quota + o.amount;
                written := written || o.accounts;
            END IF;

        WHEN 'declare' THEN
            i := array_position(ids, o.accounts[1]);
            change := o.amount - books[i].declared;
            IF o.amount < 0 OR o.amount > max_nano
               OR books[i].quota + change < 0 OR books[i].quota + change > max_nano THEN
                r.status := 'refused';
                r.amount := books[i].quota;
            ELSE
                r.amount := change;
                books[i].quota := books[i].quota + change;
                books[i].declared := o.amount;
                written := written || o.accounts;
            END IF;

        WHEN 'renew' THEN
            INSERT INTO hpp_lease VALUES (o.id, now + o.ttl_s)
                ON CONFLICT (owner) DO UPDATE SET until = greatest(hpp_lease.until, excluded.until);

        WHEN 'sweep' THEN
            -- What cannot be resolved is named, and hides nothing that stands behind it.
            WITH late AS (
                SELECT d.id, hpp_sound(d, ids, books) AS sound FROM hpp_hold AS d LEFT JOIN hpp_lease AS l ON l.owner = d.owner
                    WHERE d.state = 'held' AND (d.deadline <= now OR l.until IS NULL OR l.until <= now)
            ) SELECT ARRAY(SELECT id FROM late WHERE sound ORDER BY id LIMIT o.most),
                coalesce((SELECT min(id) FROM late WHERE NOT sound), '') INTO due, r.hold;
            -- Their accounts are locked after all others, so without waiting; but one of those that somebody else is
            -- using is waited for a moment, so that no account is too busy to be swept.
            missed := ARRAY(SELECT DISTINCT n FROM hpp_hold AS d, unnest(d.accounts) AS n
                WHERE d.id = ANY (due) AND n <> ALL (ids) ORDER BY n);
            IF cardinality(missed) > 0 THEN
                SELECT ids || array_agg((l.a).id), books || array_agg(l.a) INTO ids, books FROM (
                    SELECT a FROM hpp_account AS a WHERE a.id = ANY (missed) ORDER BY a.id FOR UPDATE SKIP LOCKED) AS l;
                missed := ARRAY(SELECT n FROM unnest(missed) AS n WHERE n <> ALL (ids));
                IF cardinality(missed) > 0 THEN
                    more := hpp_lock_soon(missed[1 + floor(random() * cardinality(missed))::int]);
                    IF more.id IS NOT NULL THEN
                        ids := ids || more.id;
                        books := books || more;
                    END IF;
                END IF;
            END IF;
            ending := ARRAY(
                SELECT d FROM hpp_hold AS d LEFT JOIN hpp_lease AS l ON l.owner = d.owner
                    WHERE d.id = ANY (due) AND d.accounts <@ ids
                        AND d.state = 'held' AND (d.deadline <= now OR l.until IS NULL OR l.until <= now)
                    ORDER BY d.id);
            r.amount := cardinality(ending);
        END CASE;

        -- What is resolved is charged: the hold's accounts, and a line in the payer's ledger.
        FOREACH h IN ARRAY ending LOOP
            IF o.op = 'sweep' AND EXISTS (SELECT FROM unnest(h.accounts) AS n
                WHERE hpp_bears(books[array_position(ids, n)], h.amount) IS NOT TRUE) THEN
                r.amount := r.amount - 1;
                IF r.hold = '' THEN
                    r.hold := h.id;
                END IF;
                CONTINUE;
            END IF;
            charge := CASE o.op WHEN 'sweep' THEN greatest(0, least(h.orphan_amount, h.amount)) ELSE o.amount END;
            IF h.state = 'held' THEN
                lines := '{resolution}';
                amounts := ARRAY[least(charge, h.amount)];
                IF charge > h.amount THEN
                    lines := '{resolution,overage}';
                    amounts := amounts || (charge - h.amount);
                END IF;
                freed := h.amount;
                h.state := CASE o.op WHEN 'sweep' THEN 'expired' ELSE 'settled' END;
            ELSE
                lines := '{correction}';
                amounts := ARRAY[charge - h.charged];
                freed := 0;
                h.state := 'corrected';
            END IF;
            UPDATE hpp_hold SET state = h.state, charged = charge, resolved = now WHERE id = h.id;
            IF NOT FOUND THEN
                PERFORM hpp_again();  -- a sweep has just forgotten it
            END IF;
            FOR i IN 1 .. cardinality(h.accounts) LOOP
                more := books[array_position(ids, h.accounts[i])];
                more.settled := more.settled + charge - h.charged
                    - CASE WHEN i = 1 THEN 0 ELSE coalesce((o.spared ->> h.accounts[i])::bigint, 0) END;
                more.held := more.held - freed;
                books[array_position(ids, h.accounts[i])] := more;
            END LOOP;
            written := written || h.accounts;
            i := array_position(ids, h.accounts[1]);
            seq := books[i].seq;
            FOR n IN 1 .. cardinality(lines) LOOP
                r.entries := r.entries || hpp_append(
                    h, lines[n], seq + n, amounts[n], CASE WHEN n = 1 THEN o.tokens ELSE 0 END, now, o.report, o.outcome);
            END LOOP;
            books[i].seq := seq + cardinality(lines);
            books[i].tokens := least(books[i].tokens + o.tokens, max_tokens);
            IF lines[1] = 'resolution' THEN
                books[i].requests := books[i].requests + 1;
            END IF;
            -- What failed for nothing, or was given back, may be tried again under its key; any other answer is kept, if
            -- there is room.
            IF h.claim IS NULL OR o.op = 'sweep' THEN
                CONTINUE;
            ELSIF o.outcome = 'failed' AND charge = 0 THEN
                UPDATE hpp_claim SET expires = now WHERE key = h.claim AND hold = h.id;
            ELSIF o.kept IS NOT NULL THEN
                SELECT * INTO c FROM hpp_claim WHERE key = h.claim AND hold = h.id FOR UPDATE;
                change := octet_length(decode(o.kept, 'base64'));
                INSERT INTO hpp_kept SELECT c.account, change WHERE c.key IS NOT NULL AND change <= o.most
                    ON CONFLICT (account) DO UPDATE SET bytes = hpp_kept.bytes + change
                    WHERE hpp_kept.bytes + change <= o.most;
                IF FOUND THEN
                    UPDATE hpp_claim SET kept = decode(o.kept, 'base64') WHERE key = c.key;
                END IF;
            END IF;
        END LOOP;

        IF o.op = 'sweep' THEN
            -- What is long over is forgotten; what somebody else is using stays until the next time.
            DELETE FROM hpp_hold WHERE id = ANY (ARRAY(
                SELECT id FROM hpp_hold WHERE resolved < now - o.keep_s
                    ORDER BY resolved LIMIT o.most FOR UPDATE SKIP LOCKED));
            GET DIAGNOSTICS freed = ROW_COUNT;
            DELETE FROM hpp_lease WHERE owner = ANY (ARRAY(
                SELECT owner FROM hpp_lease WHERE until < now - o.keep_s LIMIT o.most FOR UPDATE SKIP LOCKED));
            tidies := o.most;
            r.more := o.most IN (cardinality(ending), freed)
                OR EXISTS (SELECT FROM hpp_claim WHERE expires <= now OFFSET o.most);
        END IF;
        RETURN NEXT r;
    END LOOP;

    IF tidies > 0 THEN
        -- Last, and only what nobody has locked: whoever sweeps waits for no sum while he holds another one.
        WITH over AS (
            SELECT k.key, k.account, octet_length(k.kept) AS bytes FROM hpp_claim AS k WHERE k.expires <= now
                AND NOT EXISTS (SELECT FROM hpp_hold AS d WHERE d.id = k.hold AND d.state = 'held')
                ORDER BY k.expires LIMIT tidies FOR UPDATE OF k SKIP LOCKED
        ), free AS (
            SELECT account FROM hpp_kept WHERE account IN (SELECT account FROM over WHERE bytes IS NOT NULL)
                FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM hpp_claim AS k USING over WHERE k.key = over.key
                AND (over.bytes IS NULL OR over.account IN (SELECT account FROM free))
                RETURNING over.account, over.bytes
        )
        UPDATE hpp_kept AS s SET bytes = s.bytes - less.bytes
            FROM (SELECT account, sum(bytes)::bigint AS bytes FROM gone WHERE bytes IS NOT NULL GROUP BY account) AS less
            WHERE s.account = less.account;
    END IF;
    IF cardinality(written) > 0 THEN
        UPDATE hpp_account AS a SET quota = b.quota, settled = b.settled, held = b.held, declared = b.declared,
            seq = b.seq, requests = b.requests, tokens = b.tokens
            FROM unnest(books) AS b WHERE a.id = b.id AND b.id = ANY (written);
    END IF;
    IF made IS NOT NULL THEN
        DELETE FROM hpp_account WHERE id = ANY (made) AND id <> ALL (written);
    END IF;
END $$;

INSERT INTO hpp_migration (version, name) VALUES (2, 'apply');
