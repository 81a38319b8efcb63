"""The folder for what a store does not take is the store's: a new password is no new store."""

from pathlib import Path

import pytest
from reading import LOCAL, read

SERVERS = (
    "postgresql://{}db/books",
    "postgresql://{}db:5433/books",
    "postgresql://{}db/other",
    "postgresql://{}standby/books",
    "postgresql://{}one:5432,two:5433/books",
    "postgresql://{}[::1]:5432/books",
    "redis://{}db/0",
    "redis://{}db/1",
)


def folder(where: Path, url: str) -> Path:
    """Where it is, as the file names the store, and as a variable does."""
    pepper = "a pepper for the tests, long enough"
    found = read(where, f'{LOCAL}[store]\nurl = "{url}"\n', HPP_PEPPER=pepper).journal
    assert found == read(where, f'{LOCAL}[store]\nurl = "env:BOOKS"\n', HPP_PEPPER=pepper, BOOKS=url).journal
    assert isinstance(found, Path)
    return found


@pytest.mark.parametrize("server", SERVERS)
def test_what_waits_for_a_store_is_found_again_when_its_password_was_changed(server: str, tmp_path: Path) -> None:
    urls = [server.format(who) for who in ("", "hpp@", "hpp:old@", "hpp:new@", ":new@", "hpp:s%40%3A5432@")]
    urls += [f"{server.format('')}?password={secret}&user=hpp" for secret in ("old", "new")]
    last = f"{server.format('hpp:x@')}?timeout=5"
    assert len({folder(tmp_path, url) for url in urls}) == 1
    assert folder(tmp_path, f"{last}&password=old") == folder(tmp_path, f"{last}&password=new")


def test_every_store_has_one_of_its_own(tmp_path: Path) -> None:
    assert len({folder(tmp_path, server.format("hpp:secret@")) for server in SERVERS}) == len(SERVERS)
