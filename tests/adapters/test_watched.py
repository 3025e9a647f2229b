"""A followed file: what is good comes into force, what is not replaces nothing. And its editor."""

import fcntl
import os
from pathlib import Path

import pytest

from controlplane.adapters.edited import edit_private
from controlplane.adapters.watched import MAX_SIZE, WatchedFile


def number(text: str) -> int:
    return int(text)


def test_a_change_comes_into_force(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    file = WatchedFile(path, number)
    assert (file.value, file.poll(), str(file)) == (1, False, str(path))
    path.write_text("22")
    assert (file.poll(), file.value, file.poll()) == (True, 22, False)


def test_another_file_of_the_same_size_and_time(tmp_path: Path) -> None:
    path, other = tmp_path / "f", tmp_path / "g"
    path.write_text("1")
    file = WatchedFile(path, number)
    other.write_text("2")
    before = path.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (file.poll(), file.value) == (True, 2)


@pytest.mark.parametrize("content", [b"x", b"\xff", b"1" * 5000, b"1" * (MAX_SIZE + 1)])
def test_a_broken_version_replaces_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    file = WatchedFile(path, number)
    path.write_bytes(content)
    assert file.poll()
    assert (file.value, bool(file.problem)) == (1, True)
    assert not file.poll()  # said once
    path.write_text("3")
    assert (file.poll(), file.value, file.problem) == (True, 3, "")


def test_a_file_that_is_away_for_a_while(tmp_path: Path) -> None:
    path, aside = tmp_path / "f", tmp_path / "g"
    path.write_text("1")
    file = WatchedFile(path, number)
    path.rename(aside)
    assert (file.poll(), file.value) == (True, 1)
    assert file.problem.startswith("cannot be read: No such file")
    aside.rename(path)
    assert (file.poll(), file.value, file.problem) == (True, 1, "")


def test_a_file_has_to_be_good_at_first(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WatchedFile(tmp_path / "f", number)
    (tmp_path / "f").write_text("x")
    with pytest.raises(ValueError, match="invalid literal"):
        WatchedFile(tmp_path / "f", number)


def test_an_edit_is_for_the_owner_and_whole(tmp_path: Path) -> None:
    path, link = tmp_path / "f", tmp_path / "link"
    link.symlink_to(path)
    edit_private(link, lambda text: f"{text}a")
    assert (path.read_text(), path.stat().st_mode & 0o777, link.is_symlink()) == ("a", 0o600, True)
    path.chmod(0o640)
    edit_private(path, lambda text: f"{text}b")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("ab", 0o640)

    def refuse(_: str) -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        edit_private(path, refuse)
    assert path.read_text() == "ab"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["f", "link"]


def test_one_editor_at_a_time(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            edit_private(tmp_path / "f", lambda _: "x")
    finally:
        os.close(folder)
    edit_private(tmp_path / "f", lambda _: "x")
