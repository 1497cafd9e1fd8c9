"""A real dagster-webserver and a real dagster-daemon on this machine, asked through GraphQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sceneloom.orchestration.instance import CHECKOUT

DAEMON = """
import sys
import dagster._daemon.controller as controller
controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1  # seconds between looks at backfills; 30 without this
from dagster._daemon.cli import main
sys.argv = ["dagster-daemon", *sys.argv[1:]]
main()
"""
"""The daemon, looking after backfills every second."""

_Value = TypeVar("_Value")


class Servers:
    """The servers' GraphQL."""

    def __init__(self, port: int, logs: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.logs = logs

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def until(self, look: Callable[[], _Value | None], seconds: float, what: str) -> _Value:
        """What `look` gives once it gives something."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (found := look()) is not None:
                return found
            time.sleep(0.5)
        raise TimeoutError(f"{what} took more than {seconds} s\n{self.printed()}")

    def is_up(self) -> bool | None:
        """True once the webserver answers, else None."""
        try:
            return bool(self.ask("{version}"))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def printed(self) -> str:
        """The last lines that the servers printed."""
        return "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in sorted(self.logs.glob("*.log")))


def dagster_home(folder: Path) -> Path:
    """A DAGSTER_HOME with the repository's dagster.yaml."""
    folder.mkdir(parents=True)
    shutil.copy(CHECKOUT / "dagster.yaml", folder)
    return folder


def environment(home: Path, profile: Path) -> dict[str, str]:
    """Environment of a process of this instance and profile, with one thread for its libraries."""
    given = {"DAGSTER_HOME": str(home), "SCENELOOM_CONFIG": str(profile), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **given, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def running_servers(folder: Path, variables: Mapping[str, str]) -> Iterator[Servers]:
    """Both servers over workspace.yaml, with these environment variables; ended, with their children, at the end."""
    logs = folder / "server_logs"
    logs.mkdir()
    port = _free_port()
    workspace = ["-w", str(CHECKOUT / "workspace.yaml")]
    commands = {
        "webserver": ["dagster-webserver", *workspace, "-h", "127.0.0.1", "-p", str(port)],
        "daemon": [sys.executable, "-c", DAEMON, "run", *workspace],
    }
    with ExitStack() as stack:
        for name, command in commands.items():
            stack.enter_context(_process(command, variables, folder, logs / f"{name}.log"))
        servers = Servers(port, logs)
        servers.until(servers.is_up, 90, "the start of the webserver")
        yield servers


@contextmanager
def _process(command: list[str], variables: Mapping[str, str], folder: Path, log: Path) -> Iterator[None]:
    """A process in a group of its own, so that what it started ends with it."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=dict(variables), cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
