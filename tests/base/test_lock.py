"""One holder at a time, with the kernel's lock and, where a file system has none, with a second file."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ettin_data.base.lock import Held, holder, locked

NONE = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]


@pytest.fixture(params=["flock", *NONE], ids=lambda how: how if how == "flock" else errno.errorcode[how])
def lock(request, tmp_path: Path, monkeypatch) -> Path:
    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param != "flock":
        monkeypatch.setattr(fcntl, "flock", refuse)
    return tmp_path / "made" / ".lock"


def test_the_second_is_refused_and_told_of_the_first(lock: Path) -> None:
    assert holder(lock) is None
    for _ in range(2):  # and it is free again
        with locked(lock):
            assert f"process {os.getpid()} on " in str(holder(lock))
            with pytest.raises(Held, match=rf"(?s)another build writes here.*process {os.getpid()} on .*do: wait"):
                locked(lock).__enter__()
        assert holder(lock) is None
    assert [path.name for path in lock.parent.iterdir()] == [".lock"]


def test_an_error_inside_frees_it(lock: Path) -> None:
    with pytest.raises(ValueError), locked(lock):
        raise ValueError
    with locked(lock):
        pass


def killed(lock: Path) -> int:
    """A process that was killed while it held the lock."""
    code = (
        "import sys, fcntl, errno, os; from pathlib import Path; from ettin_data.base.lock import locked\n"
        "def no(*_): raise OSError(errno.ENOLCK, 'none')\n"
        "fcntl.flock = no\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(lock)], capture_output=True, text=True)
    assert done.stdout == "held\n" and done.returncode == -signal.SIGKILL
    return int(json.loads((lock.parent / ".lock.held").read_text())["pid"])


def test_a_lock_of_a_killed_process_of_this_machine_does_not_hold(lock: Path) -> None:
    pid = killed(lock)
    assert holder(lock) is None and pid != os.getpid()
    with locked(lock):
        assert holder(lock)


def test_one_of_another_machine_holds_until_somebody_removes_it(lock: Path) -> None:
    """Nobody here can tell whether it lives: the message says who, and which file to remove."""
    killed(lock)
    second = lock.parent / ".lock.held"
    second.write_text(json.dumps({**json.loads(second.read_text()), "host": "elsewhere"}))
    assert "on elsewhere" in str(holder(lock))
    with pytest.raises(Held, match=r"(?s)on elsewhere.*remove .*\.lock\.held"), locked(lock):
        pass
    second.unlink()  # as it says
    with locked(lock):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_lock_file_that_says_nothing_holds_for_a_minute(lock: Path, text: str) -> None:
    lock.parent.mkdir()
    second = lock.parent / ".lock.held"
    second.write_text(text)
    with pytest.raises(Held), locked(lock):
        pass
    os.utime(second, (0, 0))
    with locked(lock):
        pass


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EBADF])
def test_only_what_would_block_means_held(tmp_path: Path, monkeypatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError) as raised, locked(tmp_path / ".lock"):
        pass
    assert raised.value.errno == number and not isinstance(raised.value, Held)
