"""Directories of sessions: modes, owners, links, and what happens to what was left behind."""

import fcntl
import os
import stat
import time

import pytest

from pyray.runtime.session_files import LATEST, STARTING, create, remove, root_directory, sweep
from pyray.store.private_folder import check_private


@pytest.fixture(autouse=True)
def tmp(tmp_path, monkeypatch):
    for name in ("TMPDIR", "KEEP_LOGS"):
        monkeypatch.delenv(f"PYRAY_{name}", raising=False)
        monkeypatch.delenv(f"RAY_{name}", raising=False)
    monkeypatch.setenv("PYRAY_TMPDIR", str(tmp_path))
    return tmp_path


def mode(path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def make(root, now=1000.0, pid=7):
    return create(str(root), now, pid)


class TestRoot:
    def test_is_private_and_made_once(self, tmp):
        root = root_directory()
        assert root == str(tmp / f"pyray-{os.getuid()}")
        assert mode(root) == 0o700
        assert root_directory() == root

    @pytest.mark.parametrize("open_mode", [0o777, 0o755, 0o710, 0o701])
    def test_one_that_is_open_to_others_is_refused(self, open_mode):
        root = root_directory()
        os.chmod(root, open_mode)
        message = f"is open to other users.*{open_mode:04o}.*chmod 700"
        with pytest.raises(PermissionError, match=message):
            root_directory()

    def test_a_link_is_refused(self, tmp):
        (tmp / "elsewhere").mkdir(0o700)
        (tmp / f"pyray-{os.getuid()}").symlink_to(tmp / "elsewhere")
        with pytest.raises(PermissionError, match="is not a directory"):
            root_directory()

    def test_another_users_is_refused(self, monkeypatch):
        root = root_directory()
        uid = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
        with pytest.raises(PermissionError, match=f"belongs to the user with id {uid}"):
            check_private(root, "a session", "elsewhere")

    def test_the_one_that_was_asked_for(self, tmp):
        root = root_directory(str(tmp / "mine" / "deep"))
        assert root == str(tmp / "mine" / "deep")
        assert mode(root) == 0o700
        os.chmod(root, 0o755)
        assert root_directory(root) == root
        os.chmod(root, 0o1777)
        assert root_directory(root) == root

    def test_the_one_that_was_asked_for_must_not_be_writable_by_others(self, tmp):
        root = root_directory(str(tmp / "mine"))
        os.chmod(root, 0o777)
        with pytest.raises(PermissionError, match="can be written by others"):
            root_directory(root)


class TestSession:
    def test_everything_is_private(self, tmp):
        old = os.umask(0)
        try:
            directory = make(tmp)
        finally:
            os.umask(old)
        assert mode(directory.path) == 0o700
        assert mode(directory.logs) == 0o700
        assert os.path.dirname(directory.logs) == directory.path
        directory.close()

    def test_names_tell_when_and_who(self, tmp):
        directory = make(tmp, 1000.25, 99)
        name = os.path.basename(directory.path)
        moment = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(1000))
        assert name == f"session_{moment}_250000_99"

    def test_two_at_one_moment(self, tmp):
        first, second = make(tmp), make(tmp)
        assert first.path != second.path

    def test_latest(self, tmp):
        first = make(tmp)
        assert os.path.realpath(tmp / LATEST) == os.path.realpath(first.path)
        second = make(tmp)
        assert os.path.realpath(tmp / LATEST) == os.path.realpath(second.path)
        remove(first.path)
        assert os.path.realpath(tmp / LATEST) == os.path.realpath(second.path)
        remove(second.path)
        assert os.listdir(tmp) == []

    def test_remove_follows_no_link(self, tmp):
        outside = tmp / "outside"
        outside.mkdir()
        (outside / "file").write_text("stays")
        directory = make(tmp)
        os.symlink(outside, os.path.join(directory.path, "link"))
        os.mkdir(os.path.join(directory.logs, "inner"))
        with open(os.path.join(directory.logs, "inner", "x"), "w"):
            pass
        remove(directory.path)
        remove(directory.path)
        assert not os.path.lexists(directory.path)
        assert (outside / "file").read_text() == "stays"

    def test_logs_are_kept_if_asked_for(self, tmp, monkeypatch):
        directory = make(tmp)
        monkeypatch.setenv("PYRAY_KEEP_LOGS", "1")
        remove(directory.path)
        monkeypatch.delenv("PYRAY_KEEP_LOGS")
        remove(directory.path)
        assert os.path.isdir(directory.logs)
        directory.close()
        assert sweep(str(tmp), time.time() + 10 * STARTING) == []


class TestSweep:
    def later(self):
        return time.time() + 2 * STARTING

    def test_removes_what_nobody_holds(self, tmp):
        directory = make(tmp)
        assert sweep(str(tmp), self.later()) == []
        directory.close()
        assert sweep(str(tmp), self.later()) == [directory.path]
        assert not os.path.exists(directory.path)

    def test_a_copy_of_the_descriptor_holds_it_too(self, tmp):
        directory = make(tmp)
        inherited = os.dup(directory.fd)
        directory.close()
        assert sweep(str(tmp), self.later()) == []
        os.close(inherited)
        assert sweep(str(tmp), self.later()) == [directory.path]

    def test_leaves_the_young_and_the_strange(self, tmp):
        directory = make(tmp)
        directory.close()
        (tmp / "session_file").write_text("")
        (tmp / "other").mkdir()
        (tmp / "session_link").symlink_to(tmp / "other")
        assert sweep(str(tmp), time.time()) == []
        assert sweep(str(tmp), self.later()) == [directory.path]
        assert (tmp / "other").is_dir() and (tmp / "session_file").exists()

    def test_the_lock_is_shared_between_driver_and_node(self, tmp):
        directory = make(tmp)
        fd = os.open(directory.path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(fd)
        directory.close()
