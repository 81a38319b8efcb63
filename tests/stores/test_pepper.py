"""The pepper beside a database: one for all, whole, and its owner's only."""

import threading
from pathlib import Path

import pytest

from hpp_middleware import ConfigurationError, SQLiteStore
from hpp_middleware.stores import pepper


def test_a_pepper_is_made_once_and_kept(tmp_path: Path) -> None:
    made = SQLiteStore(tmp_path / "hpp.db").pepper()
    assert SQLiteStore(tmp_path / "hpp.db").pepper() == made
    assert len(made) >= 32
    assert SQLiteStore(tmp_path / "other.db").pepper() != made


def test_a_pepper_is_its_owners_only(tmp_path: Path) -> None:
    pepper.beside(tmp_path / "hpp.db")
    (file,) = tmp_path.iterdir()
    assert file.name == "hpp.db.pepper"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("turn", range(5))
def test_workers_that_start_together_share_one_pepper(turn: int, tmp_path: Path) -> None:
    together = threading.Barrier(8, timeout=60)
    peppers: list[bytes] = []

    def start() -> None:
        together.wait()
        peppers.append(pepper.beside(tmp_path / "hpp.db"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(peppers) == 8
    assert len(set(peppers)) == 1


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_a_file_that_is_no_pepper_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "hpp.db.pepper").write_text(text)
    with pytest.raises(ConfigurationError):
        pepper.beside(tmp_path / "hpp.db")
