-- Until when upstreams are left alone, as workers tell each other.

CREATE TABLE rest (
    key   TEXT NOT NULL,
    model TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (key, model)
) STRICT, WITHOUT ROWID;
