"""Children live and end together, with what they have started themselves."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from development import DevelopmentError, supervisor
from development.supervisor import Child

# Like gunicorn and nginx: a process that has one below it.
PARENT = "import os, pathlib, time; os.fork() or pathlib.Path('forked').touch(); time.sleep(60)"


def start(code: str, folder: Path) -> Child:
    command = [sys.executable, "-c", code]
    return supervisor.start("child", command, signal.SIGTERM, folder=folder, environment=os.environ)


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_dead_child_is_noticed(tmp_path: Path) -> None:
    child = start("raise SystemExit(3)", tmp_path)
    child.process.wait(timeout=10)
    with pytest.raises(DevelopmentError, match=r"child ended .* exit code 3"):
        supervisor.raise_if_dead([child])


def test_stop_leaves_nobody_behind_when_the_child_was_killed(tmp_path: Path) -> None:
    child = start(PARENT, tmp_path)
    assert becomes_true((tmp_path / "forked").exists)
    child.process.kill()
    child.process.wait(timeout=10)
    supervisor.stop([child], queue.SimpleQueue(), within_seconds=10)
    assert becomes_true(lambda: not child.send_to_group(0))


def test_stop_kills_when_the_child_does_not_listen(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "pathlib.Path('ready').touch(); signal.pause()"
    )
    child = start(code, tmp_path)
    assert becomes_true((tmp_path / "ready").exists)
    supervisor.stop([child], queue.SimpleQueue(), within_seconds=0.1)
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys, time; from development import supervisor;"
        "child = supervisor.start('c', ['sleep', '60'], signal.SIGTERM,"
        " folder=pathlib.Path('.'), environment=os.environ);"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    assert becomes_true(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    """A zombie, whose parent has not looked yet, is not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False
