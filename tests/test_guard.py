"""What runs a worker's file on another machine: exit statuses, what is left behind, and a heartbeat that stops."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sceneloom.resources.remote_worker import GUARD, signalled
from sceneloom.resources.worker_failures import Evidence, FailureClass, classify

from .test_worker_process import lives, wait_until


@contextlib.contextmanager
def guarded(folder: Path, worker: str, seconds: float = 60.0) -> Iterator[subprocess.Popen[str]]:
    """The guard on a worker's code, its standard input closed as a pod's is."""
    (folder / "worker.py").write_text(f"import os, signal, subprocess, sys, time\nfrom pathlib import Path\n{worker}\n")
    (folder / "heartbeat").write_text("0")
    process = subprocess.Popen(
        [sys.executable, str(GUARD), str(folder / "heartbeat"), str(seconds), str(folder / "worker.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("worker", "status"),
    [("print('words')", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137), ("os.kill(os.getpid(), 11)", 139)],
)
def test_the_exit_status_is_the_workers(worker: str, status: int, tmp_path: Path) -> None:
    with guarded(tmp_path, worker) as process:
        said = process.communicate(timeout=20)[0]
        assert process.returncode == status
    assert said == ("words\n" if status == 0 else "")


def test_the_worker_has_an_input_that_closes_when_the_guard_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    wait = (
        "Path('mark').write_text(str(os.getpid())); sys.stdin.read(); Path('mark').write_text('closed'); time.sleep(9)"
    )
    with contextlib.chdir(tmp_path), guarded(tmp_path, wait) as process:
        assert wait_until(lambda: mark.exists() and mark.read_text() != "")
        time.sleep(0.3)
        worker = int(mark.read_text())
        process.kill()
        assert wait_until(lambda: mark.read_text() == "closed")
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("how", ["told to end", "no heartbeat", "ended by itself"])
def test_all_that_it_started_ends_with_it(how: str, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    start = f"Path({str(mark)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))"
    stay = "" if how == "ended by itself" else "\ntime.sleep(600)"
    with guarded(tmp_path, start + stay, seconds=0.8 if how == "no heartbeat" else 60.0) as process:
        assert wait_until(lambda: mark.exists() and mark.read_text() != "")
        if how == "told to end":
            process.terminate()
        said = process.communicate(timeout=20)[0]
        assert process.returncode == (0 if how == "ended by itself" else 128 + signal.SIGTERM)
    assert not lives(int(mark.read_text()))
    assert ("its heartbeat has stopped" in said) == (how == "no heartbeat")


def test_a_heartbeat_keeps_the_worker_whatever_the_clocks_say(tmp_path: Path) -> None:
    with guarded(tmp_path, "time.sleep(2.5)", seconds=1.0) as process:
        beats = 0
        while process.poll() is None:
            beats += 1
            (tmp_path / "heartbeat").write_text(str(beats))
            os.utime(tmp_path / "heartbeat", (0, 0))
            time.sleep(0.1)
        assert process.returncode == 0


KILLED_BY_THE_KERNEL = """
import importlib.util, sys
from pathlib import Path
specification = importlib.util.spec_from_file_location("guard", sys.argv[1])
guard = importlib.util.module_from_spec(specification)
specification.loader.exec_module(guard)
guard.MEMORY_EVENTS = Path("memory.events")
sys.argv = ["guard.py", "heartbeat", "60", "worker.py"]
sys.exit(guard.main())
"""


@pytest.mark.parametrize("counted", [True, False])
def test_a_worker_that_the_kernel_killed_for_want_of_memory(counted: bool, tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 3\n")
    count = "Path('memory.events').write_text('oom 4\\noom_kill 4\\n');" if counted else ""
    (tmp_path / "worker.py").write_text(f"import os; from pathlib import Path; {count} os.kill(os.getpid(), 9)")
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BY_THE_KERNEL, str(GUARD)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 137
    expected = FailureClass.OUT_OF_MEMORY if counted else FailureClass.KILLED
    assert classify(Evidence(exit_code=signalled(done.returncode), log=done.stderr)) is expected
