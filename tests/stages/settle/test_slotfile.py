"""The journal's file: what was written is there, what was torn is told, and one process has it at a time."""

import os
from pathlib import Path

import pytest

from hpp_middleware.stages.settle.slotfile import BODY_BYTES, SLOT_BYTES, NewerFileError, SlotFile, abandoned, claim


def reopened(path: Path) -> tuple[dict[int, bytes], list[int]]:
    found = SlotFile.open(path, create=False)
    assert found is not None
    try:
        return found.read()
    finally:
        found.close()


def test_what_was_written_is_found_by_the_next_and_what_was_cleared_is_not(tmp_path: Path) -> None:
    file = claim(tmp_path, 8)
    file.write({0: b"first", 3: b"x" * BODY_BYTES, 7: b"last"})
    file.clear([0])
    file.close()
    assert reopened(file.path) == ({3: b"x" * BODY_BYTES, 7: b"last"}, [])


def test_a_shorter_record_in_a_slot_that_was_used_is_read_as_it_is(tmp_path: Path) -> None:
    file = claim(tmp_path, 1)
    file.write({0: b"a long record"})
    file.clear([0])
    file.write({0: b"short"})
    assert file.read() == ({0: b"short"}, [])
    file.close()


def test_the_room_is_taken_in_advance(tmp_path: Path) -> None:
    file = claim(tmp_path, 64)
    status = file.path.stat()
    assert status.st_size == 64 * SLOT_BYTES
    assert status.st_blocks * 512 >= 64 * SLOT_BYTES
    file.close()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    file = claim(tmp_path / "journal", 1)
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    file.close()


def test_two_at_once_have_two_files_and_one_that_was_given_up_is_taken_again(tmp_path: Path) -> None:
    one, two = claim(tmp_path, 1), claim(tmp_path, 1)
    assert [one.path.name, two.path.name] == ["settle-0.journal", "settle-1.journal"]
    assert list(abandoned(tmp_path)) == []
    one.close()
    again = claim(tmp_path, 1)
    assert again.path == one.path
    again.close()
    two.close()


def test_what_the_dead_have_left_is_found_whoever_else_lives(tmp_path: Path) -> None:
    files = [claim(tmp_path, 1) for _ in range(3)]
    (tmp_path / "notes.txt").write_text("not ours")
    files[0].close()
    files[2].close()
    found = list(abandoned(tmp_path))
    assert [each.path.name for each in found] == ["settle-0.journal", "settle-2.journal"]
    for each in found:
        each.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "settle-1.journal"]
    files[1].close()


@pytest.mark.parametrize("offset", [0, 8, 12, 16, 20])
def test_a_slot_that_was_torn_is_told_and_its_neighbours_are_read(tmp_path: Path, offset: int) -> None:
    file = claim(tmp_path, 3)
    file.write({0: b"before", 1: b"torn by a power cut", 2: b"behind"})
    file.close()
    with file.path.open("r+b") as raw:
        raw.seek(SLOT_BYTES + offset)
        byte = raw.read(1)
        raw.seek(SLOT_BYTES + offset)
        raw.write(bytes([byte[0] ^ 0xFF]))
    assert reopened(file.path) == ({0: b"before", 2: b"behind"}, [1])


def test_a_slot_of_a_later_release_is_not_taken_for_torn(tmp_path: Path) -> None:
    file = claim(tmp_path, 2)
    file.write({0: b"ours", 1: b"theirs"})
    file.close()
    with file.path.open("r+b") as raw:
        raw.seek(SLOT_BYTES + 4)
        raw.write(b"\2")
    before = file.path.read_bytes()
    with pytest.raises(NewerFileError, match="is of version 2, and this release reads 1"):
        reopened(file.path)
    assert file.path.read_bytes() == before


@pytest.mark.parametrize("left", [3, 16, 20])
def test_a_file_that_was_cut_is_told(tmp_path: Path, left: int) -> None:
    file = claim(tmp_path, 2)
    file.write({0: b"whole", 1: b"cut off"})
    file.close()
    os.truncate(file.path, SLOT_BYTES + left)
    assert reopened(file.path) == ({0: b"whole"}, [1])


def test_a_length_past_the_slot_is_torn_and_reads_no_neighbour(tmp_path: Path) -> None:
    file = claim(tmp_path, 2)
    file.write({0: b"a", 1: b"b"})
    file.close()
    with file.path.open("r+b") as raw:
        raw.seek(8)
        raw.write((SLOT_BYTES * 2).to_bytes(4, "little"))
    assert reopened(file.path) == ({1: b"b"}, [0])


def test_after_closing_no_other_file_is_touched(tmp_path: Path) -> None:
    file = claim(tmp_path, 1)
    file.close()
    with (tmp_path / "innocent").open("w+b") as innocent:  # takes the descriptor that has become free
        for act in (lambda: file.write({0: b"x"}), lambda: file.clear([0]), file.read):
            with pytest.raises(OSError, match="closed"):
                act()
        assert innocent.read() == b""
    file.close()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "settle-0.journal").symlink_to(target)
    with pytest.raises(OSError):  # noqa: PT011  # its number differs by system
        claim(folder, 1)
    assert list(abandoned(folder)) == []
    assert target.read_bytes() == b"precious"


def test_one_more_slot_than_before_keeps_what_is_there(tmp_path: Path) -> None:
    file = claim(tmp_path, 1)
    file.write({0: b"old"})
    file.close()
    grown = claim(tmp_path, 4)
    assert grown.path.stat().st_size == 4 * SLOT_BYTES
    assert grown.read() == ({0: b"old"}, [])
    grown.close()
