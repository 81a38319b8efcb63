-- Which pepper a key is kept under, and a count of changes by which every process learns that keys were made or revoked.

ALTER TABLE credential ADD COLUMN pepper TEXT NOT NULL DEFAULT '';

CREATE TABLE credential_epoch (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
) STRICT;

INSERT INTO credential_epoch (one, epoch) VALUES (1, 0);

-- Triggers, so that a row that is changed by hand counts too. A key that moves to another pepper stays what it is.
CREATE TRIGGER credential_made AFTER INSERT ON credential
BEGIN UPDATE credential_epoch SET epoch = epoch + 1; END;

CREATE TRIGGER credential_changed AFTER UPDATE OF id, consumer, expires, revoked ON credential
BEGIN UPDATE credential_epoch SET epoch = epoch + 1; END;

CREATE TRIGGER credential_gone AFTER DELETE ON credential
BEGIN UPDATE credential_epoch SET epoch = epoch + 1; END;
