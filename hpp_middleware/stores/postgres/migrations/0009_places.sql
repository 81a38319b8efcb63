-- Places that were taken while the clock was ahead count no more once it is set back; whoever has one extends it.
-- This takes the place of the function in 0005.

-- Draw from every window and take every place, or nothing.
CREATE OR REPLACE FUNCTION hpp_take(given_home text, keys text[], amounts bigint[], refills bigint[], rooms bigint[],
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

INSERT INTO hpp_migration (version) VALUES (9);
