-- Until when upstreams are left alone, as workers tell each other. Nothing here has to be kept: a crash of the server
-- lets each worker find out by itself once more.

CREATE UNLOGGED TABLE hpp_rest (
    key   text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY (key, model)
);

INSERT INTO hpp_migration (version, name) VALUES (5, 'rests');
