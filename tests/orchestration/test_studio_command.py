"""``foundry studio``: what is wrong is said before anything is served, and what is served comes from here alone."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.command.main import app
from orchestration.command.studio import model_names
from orchestration.workspace import PROJECT_ROOT
from tests.end_to_end.dagster_client import free_port
from tests.orchestration.test_layout_models import stored
from training.errors import FoundryError

SECONDS = 120


def said(*arguments: str) -> str:
    """The sentence that the command ends with."""
    outcome = CliRunner().invoke(app, ["studio", *arguments])
    assert isinstance(outcome.exception, FoundryError), outcome.output
    return str(outcome.exception)


def test_a_taken_port_and_a_host_that_is_none_are_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = said("--port", str(port))
    assert f"Port {port} on 127.0.0.1 is taken, perhaps by another `foundry studio`" in told
    assert f"foundry studio --port {port + 1}" in told
    assert "--host is 'no host', which is no address" in said("--host", "no host")


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "nicegui" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert "pip install 't2i-foundry[studio]'" in said()


def test_a_model_that_is_not_there_is_told_before_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUNDRY_HOME", str(tmp_path))
    told = said("--model", "none", "--port", str(free_port()))
    assert (
        "--model is 'none', which is no folder of a model and no partition of shipped_layout_model or layout_model"
        in told
    )


def test_the_page_offers_what_was_named_and_what_passed(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert model_names(store) == ["good"]
    assert model_names(store, "folder/model") == ["folder/model", "good"]
    assert model_names(store, "good") == ["good"]


def test_it_serves_until_interrupted_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    port = free_port()
    # NiceGUI serves otherwise where it finds that it is being tested.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    server = subprocess.Popen(
        [sys.executable, "-m", "orchestration.command.main", "studio", "--port", str(port)],
        cwd=tmp_path,
        env={**outside, "FOUNDRY_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        page = answer(server, f"http://127.0.0.1:{port}/")
        assert "Foundry studio" in page
        assert "This workspace has no layout model" in page
        assert not re.findall(r"(?:src|href)=\W*https?://(?!www\.w3\.org)[^\"' ]+", page)
        assert not re.findall(r"(?:from|import)\W+https?://[^\"' ]+", page)
        server.send_signal(signal.SIGINT)
        told, _ = server.communicate(timeout=SECONDS)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0, told
    assert f"on http://127.0.0.1:{port}. Stop with Ctrl-C." in told
    assert "Stopped." in told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def answer(server: subprocess.Popen[str], url: str) -> str:
    """What the server says as soon as it serves."""
    deadline = time.monotonic() + SECONDS
    while True:
        assert server.poll() is None, server.communicate()[0]
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as found:
                return str(found.read().decode("utf-8"))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
