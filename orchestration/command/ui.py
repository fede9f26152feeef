"""``foundry ui``: Dagster's webserver and daemon over the workspace, until Ctrl-C."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import types

from orchestration.command.output import console
from orchestration.command.ports import require_free_port
from orchestration.instance import open_instance
from orchestration.profile import load_profile
from orchestration.workspace import PROJECT_ROOT, Workspace

HOST = "127.0.0.1"
SECONDS_TO_STOP = 20.0


def run(workspace: Workspace, port: int) -> int:
    """Serve until interrupted; returns the exit code. Raises FoundryError when the port is taken."""
    require_free_port("foundry ui", HOST, port)
    with open_instance(workspace, load_profile(workspace.profile)):
        pass  # the workspace's folders and its pool exist before anything is served
    console.print(
        f"Serving {workspace.root} on http://{HOST}:{port} (about 20 s until it answers). Stop with Ctrl-C."
    )
    server = start_server(port)
    previous = {kind: signal.signal(kind, _interrupt) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        return server.wait()
    except KeyboardInterrupt:
        console.print("Stopping the webserver, the daemon and their runs ...")
        return stop_server(server)
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def start_server(port: int) -> subprocess.Popen[bytes]:
    """Webserver and daemon as one process group of their own, so that Ctrl-C reaches them once and in order."""
    command = [
        *(sys.executable, "-m", "dagster", "dev", "--workspace", str(PROJECT_ROOT / "workspace.yaml")),
        *("--host", HOST, "--port", str(port), "--log-level", "warning"),
    ]
    return subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,
        env=dict(os.environ),
        start_new_session=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that: they would never stop.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def stop_server(server: subprocess.Popen[bytes]) -> int:
    """Interrupt, wait, and only then kill what is left of the group. Returns 0 when it went by itself."""
    with contextlib.suppress(ProcessLookupError):
        server.send_signal(signal.SIGINT)
    try:
        server.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        return 1
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    return 0


def _interrupt(_: int, __: types.FrameType | None) -> None:
    raise KeyboardInterrupt
