"""Reaching Ray: one of our own, or a cluster by address; and whether it has room for what is asked."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import psutil

from assets.graph.interfaces import Resources
from training.errors import FoundryError

OBJECT_STORE_BYTES = 200 * 2**20
_DAEMONS = ("raylet", "gcs_server")
"""Processes of a Ray without which it answers nothing."""
_STARTED: dict[str, list[psutil.Process]] = {}
"""Those of each Ray that this process has started, by its address."""


def connect(ray: Any, cpus: int, address: str | None, object_store_bytes: int = OBJECT_STORE_BYTES) -> None:
    """Connect this process. Raises FoundryError when no cluster answers at the address."""
    _quieten()
    if address is None:
        ray.init(
            address="local",  # else Ray would join whatever head node runs on this machine
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=object_store_bytes,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        _STARTED[ray.get_runtime_context().gcs_address] = [
            child for child in psutil.Process().children() if child.name() in _DAEMONS
        ]
        return
    try:
        _require_listener(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FoundryError(
            f"No Ray cluster answers at '{address}' ({error}). Start it (`ray start --head`), or leave the profile's "
            "compute address empty for a Ray of this process's own. Head node and this process must agree on "
            f"RAY_AUTH_MODE, which is '{os.environ.get('RAY_AUTH_MODE', '')}' here."
        ) from error


def has_died(ray: Any) -> bool:
    """Whether this process is connected to a Ray that it started itself and of which a part has ended since."""
    if not ray.is_initialized():
        return False
    return not all(_lives(daemon) for daemon in _STARTED.get(ray.get_runtime_context().gcs_address, ()))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def room_for(ray: Any, resources: Resources) -> int:
    """How many workers with these needs the cluster holds when nothing else runs.

    Raises FoundryError when not even one fits into any machine, because Ray would wait for ever.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room_of(machine, resources) for machine in machines)
    if room == 0:
        have = "; ".join(
            f"{machine.get('CPU', 0):g} CPUs and {machine.get('GPU', 0):g} GPUs" for machine in machines
        )
        raise FoundryError(
            f"No machine of the Ray cluster has the {resources.cpus:g} CPUs and {resources.gpus:g} GPUs that one worker "
            f"asks for; the cluster's {len(machines)} machine(s) have {have}. Lower `cpus` or `gpus` in the profile, or "
            "add a machine that has them."
        )
    return room


def require_room(ray: Any, resources: Resources, workers: int) -> None:
    """Raise FoundryError when the cluster cannot hold so many workers at once, because Ray would wait for ever."""
    room = room_for(ray, resources)
    if room < workers:
        raise FoundryError(
            f"The Ray cluster has room for {room} workers of {resources.cpus:g} CPUs and {resources.gpus:g} GPUs, this "
            f"training asks for {workers}. Lower `workers_per_training` in the profile, or add a machine."
        )


def _room_of(machine: dict[str, float], resources: Resources) -> int:
    needs = {"CPU": resources.cpus, "GPU": resources.gpus}
    rooms = [int(machine.get(name, 0.0) / amount + 1e-6) for name, amount in needs.items() if amount > 0]
    return min(rooms) if rooms else resources.actors


def _require_listener(address: str) -> None:
    """Raise ConnectionError when nothing listens at ``host:port``: Ray itself would go on asking for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return  # 'auto' and the like, which Ray answers at once
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(str(error)) from error


def _quieten() -> None:
    """Ray's own progress lines would bury ours; its warnings and errors stay."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
