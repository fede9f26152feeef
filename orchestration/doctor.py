"""Is this machine fit for the work? Each finding says what was found and how to mend it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orchestration.workspace import PROJECT_ROOT, Workspace

State = Literal["ok", "warning", "problem"]
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``mend`` is empty when nothing has to be done."""

    what: str
    state: State
    found: str
    mend: str = ""


def examine(workspace: Workspace) -> Iterator[Finding]:
    """All findings, cheap ones first."""
    yield Finding("profile", "ok", f"{workspace.profile} (FOUNDRY_PROFILE)")
    yield _home(workspace)
    yield _python()
    yield from _packages()
    yield _disk(workspace)
    yield _memory()
    yield _cores()
    yield _gpu()
    yield _ray()
    yield _port(3000)


def _home(workspace: Workspace) -> Finding:
    found = f"{workspace.home} (FOUNDRY_HOME), this workspace in {workspace.root.name}/"
    folder = next(path for path in (workspace.home, *workspace.home.parents) if path.exists())
    if not os.access(folder, os.W_OK):
        return Finding(
            "storage", "problem", f"{found}: not writable", "Point FOUNDRY_HOME at a folder you may write to."
        )
    return Finding("storage", "ok", found)


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= tuple(int(part) for part in version.split(".")[:2]) < (3, 13):
        return Finding("python", "ok", version)
    return Finding("python", "problem", version, "Use Python 3.11 or 3.12 and make the environment again.")


def _packages() -> Iterator[Finding]:
    pins = dict(
        line.split("==") for line in (PROJECT_ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    for name in (
        "dagster",
        "ray",
        "torch",
        "diffusers",
        "transformers",
        "open_clip_torch",
        "duckdb",
        "pyarrow",
    ):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "problem", "not installed", "Run `make install`.")
            continue
        pinned = pins.get(name, version)
        same = version.split("+")[0] == pinned
        state: State = "ok" if same else "warning"
        mend = "" if same else f"Tested with {pinned}: run `make install` to get it."
        yield Finding(name, state, version, mend)


def _disk(workspace: Workspace) -> Finding:
    folder = next(path for path in (workspace.home, *workspace.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIB
    if free < 2:
        return Finding(
            "free disk",
            "problem",
            f"{free:.1f} GiB",
            "The demo wants 2 GiB: free space or move FOUNDRY_HOME.",
        )
    return Finding("free disk", "ok", f"{free:.1f} GiB")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / GIB
    if free < 4:
        return Finding(
            "free memory", "warning", f"{free:.1f} GiB", "The demo wants 4 GiB: close other programs."
        )
    return Finding("free memory", "ok", f"{free:.1f} GiB")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    if cores < 2:
        return Finding(
            "processors", "warning", f"{cores}", "The demo is planned for two; it will take longer."
        )
    if load > cores:
        return Finding(
            "processors", "warning", f"{cores}, load {load:.1f}", "They are busy; times will be longer."
        )
    return Finding("processors", "ok", f"{cores}, load {load:.1f}")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("gpu", "ok", "none; the demo runs on the processors")
    return Finding("gpu", "ok", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")


def _ray() -> Finding:
    import ray

    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    try:
        ray.init(
            address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        answer = ray.get(ray.remote(_process_id).remote(), timeout=60)
        ray.shutdown()
    except (RuntimeError, OSError, ray.exceptions.RayError) as error:
        return Finding(
            "ray", "problem", f"does not start: {error}", "Look into /tmp/ray/session_latest/logs."
        )
    return Finding("ray starts", "ok", f"yes, and answers (worker {answer}); RAY_AUTH_MODE {mode}")


def _process_id() -> int:
    return os.getpid()


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if taken:
        return Finding(
            f"port {port}", "warning", "taken", f"`foundry ui --port {port + 1}` uses another one."
        )
    return Finding(f"port {port}", "ok", "free")
