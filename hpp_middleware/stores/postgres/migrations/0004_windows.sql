-- Windows of requests and tokens, and places for requests at once. It decides as hpp_middleware/core/windows.py does,
-- which is the specification. Nothing here has to be kept: a crash of the server lets every window be full once more.

CREATE UNLOGGED TABLE hpp_window (
    home    text   COLLATE "C" NOT NULL,
    key     text   COLLATE "C" NOT NULL,
    used    bigint NOT NULL,  -- units that it lacked
    at      bigint NOT NULL,  -- then, in microseconds
    idle_at bigint NOT NULL,  -- when it is full again
    PRIMARY KEY (home, key)
);

CREATE UNLOGGED TABLE hpp_place (
    home   text   COLLATE "C" NOT NULL,
    key    text   COLLATE "C" NOT NULL,
    holder text   COLLATE "C" NOT NULL,
    until  bigint NOT NULL,
    PRIMARY KEY (home, key, holder)
);

-- One home at a time, until the end of the transaction; then its time. What comes after sees what went before.
CREATE FUNCTION hpp_enter(given_home text, given_at bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(given_home, 7521983));
    RETURN coalesce(given_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
END $$;

-- A window as it is now.
CREATE FUNCTION hpp_drained(given_home text, given_key text, refill bigint, room bigint, now bigint,
                            OUT used bigint, OUT at bigint) LANGUAGE plpgsql AS $$
BEGIN
    SELECT w.used, w.at INTO used, at FROM hpp_window AS w WHERE w.home = given_home AND w.key = given_key;
    IF NOT FOUND OR at - now > room / refill THEN
        used := 0;
        at := now;
        RETURN;
    END IF;
    used := greatest(0, used - least(greatest(0, now - at), used / refill + 1) * refill);
    at := greatest(at, now);
END $$;

CREATE FUNCTION hpp_put(given_home text, given_key text, given_used bigint, given_at bigint, refill bigint)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO hpp_window VALUES
        (given_home, given_key, given_used, given_at, given_at + (given_used + refill - 1) / refill)
        ON CONFLICT (home, key) DO UPDATE SET used = excluded.used, at = excluded.at, idle_at = excluded.idle_at;
$$;

-- Draw from every window and take every place, or nothing. Places that were taken while the clock was ahead count no more
-- once it is set back; whoever has one extends it.
CREATE FUNCTION hpp_take(given_home text, keys text[], amounts bigint[], refills bigint[], rooms bigint[],
                         places text[], mosts bigint[], holders text[], ttl bigint, given_at bigint,
                         OUT admitted boolean, OUT used bigint[], OUT busy bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    longest CONSTANT bigint := 600000000;  -- core.windows.LONGEST_US
    now   bigint := hpp_enter(given_home, given_at);
    since bigint[] := '{}';
    mine  bigint[] := '{}';
    level record;
    held  record;
BEGIN
    admitted := true;
    used := '{}';
    busy := '{}';
    FOR i IN 1 .. cardinality(keys) LOOP
        SELECT * INTO level FROM hpp_drained(given_home, keys[i], refills[i], rooms[i], now);
        used := used || level.used;
        since := since || level.at;
        admitted := admitted AND level.used + amounts[i] <= rooms[i];
    END LOOP;
    FOR i IN 1 .. cardinality(places) LOOP
        SELECT count(*) AS busy, count(*) FILTER (WHERE p.holder = holders[i]) AS mine INTO held FROM hpp_place AS p
            WHERE p.home = given_home AND p.key = places[i] AND p.until > now
                AND p.until <= now + longest;
        busy := busy || held.busy;
        mine := mine || held.mine;
        admitted := admitted AND held.busy - held.mine < mosts[i];
    END LOOP;
    IF NOT admitted THEN
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(keys) LOOP
        used[i] := greatest(0, used[i] + amounts[i]);
        PERFORM hpp_put(given_home, keys[i], used[i], since[i], refills[i]);
    END LOOP;
    FOR i IN 1 .. cardinality(places) LOOP
        busy[i] := busy[i] - mine[i] + 1;
        DELETE FROM hpp_place AS p WHERE p.home = given_home AND p.key = places[i] AND p.until <= now;
        INSERT INTO hpp_place VALUES (given_home, places[i], holders[i], now + ttl)
            ON CONFLICT (home, key, holder) DO UPDATE SET until = excluded.until;
    END LOOP;
END $$;

-- Draw whatever they have, put back what is below 0, and give the places back.
CREATE FUNCTION hpp_correct(given_home text, keys text[], amounts bigint[], refills bigint[], rooms bigint[],
                            places text[], holders text[], given_at bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    most_units CONSTANT bigint := 9007199254740991;  -- core.windows.MOST_UNITS
    now   bigint := hpp_enter(given_home, given_at);
    level record;
BEGIN
    FOR i IN 1 .. cardinality(keys) LOOP
        SELECT * INTO level FROM hpp_drained(given_home, keys[i], refills[i], rooms[i], now);
        PERFORM hpp_put(given_home, keys[i], least(greatest(0, level.used + amounts[i]), most_units), level.at,
                        refills[i]);
    END LOOP;
    DELETE FROM hpp_place AS p USING unnest(places, holders) AS given (key, holder)
        WHERE p.home = given_home AND p.key = given.key AND p.holder = given.holder;
END $$;

-- Let places be held for longer; one that nobody holds any more is not taken again.
CREATE FUNCTION hpp_extend(homes text[], places text[], holders text[], ttls bigint[], given_at bigint)
RETURNS void LANGUAGE sql AS $$
    UPDATE hpp_place AS p
        SET until = coalesce(given_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) + given.ttl
        FROM unnest(homes, places, holders, ttls) AS given (home, key, holder, ttl)
        WHERE p.home = given.home AND p.key = given.key AND p.holder = given.holder;
$$;

-- Forget the windows that are full again, and the places of those that died; what somebody is using stays until the next
-- time, so that whoever forgets waits for nobody.
CREATE FUNCTION hpp_tidy(given_at bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    now bigint := coalesce(given_at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
BEGIN
    DELETE FROM hpp_window WHERE (home, key) IN (
        SELECT home, key FROM hpp_window WHERE idle_at <= now FOR UPDATE SKIP LOCKED);
    DELETE FROM hpp_place WHERE (home, key, holder) IN (
        SELECT home, key, holder FROM hpp_place WHERE until <= now FOR UPDATE SKIP LOCKED);
END $$;

INSERT INTO hpp_migration (version, name) VALUES (4, 'windows');
