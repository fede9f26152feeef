"""A small GraphQL client that asks the webserver what the UI asks."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "t2i-foundry"}

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
RUN = """
query Run($id: ID!) {
  runOrError(runId: $id) { ... on Run { status stepStats { stepKey status } startTime endTime } }
}"""
EVENTS = """
query Events($id: ID!) {
  logsForRun(runId: $id, limit: 1000) {
    ... on EventConnection { events { ... on MessageEvent { message eventType } } }
  }
}"""
TERMINATE = """
mutation Terminate($id: String!) {
  terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename }
}"""
ASSET = """
query Asset($key: AssetKeyInput!, $partitions: [String!]) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      groupName description kinds
      dependencyKeys { path }
      assetMaterializations(limit: 1, partitions: $partitions) {
        runId
        tags { key value }
        metadataEntries { label __typename ... on TextMetadataEntry { text } ... on IntMetadataEntry { intValue } }
      }
      assetChecksOrError {
        ... on AssetChecks {
          checks { name blocking executionForLatestMaterialization { status } }
        }
      }
    }
  }
}"""
RUNS = """
query Runs($filter: RunsFilter) {
  runsOrError(filter: $filter, limit: 50) {
    ... on Runs { results { runId jobName status tags { key value } } }
  }
}"""
DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
START_SCHEDULE = """
mutation Start($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) { __typename } }"""

STOP_SCHEDULE = "mutation Stop($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
SCHEDULES = """
query Schedules($selector: RepositorySelector!) {
  schedulesOrError(repositorySelector: $selector) {
    ... on Schedules { results { name scheduleState { id status } } }
  }
}"""


class DagsterClient:
    """Speaks to one webserver on this machine."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        """The data of a GraphQL answer; raises AssertionError on errors."""
        body = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.loads(response.read())
        assert "errors" not in answer, answer
        return answer["data"]

    def wait_until_up(self, server: subprocess.Popen[bytes], seconds: float = 120) -> None:
        """Until the webserver answers and has loaded the graph."""

        def up() -> bool:
            assert server.poll() is None, "the webserver ended while it was starting"
            try:
                data = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False
            return bool(data["repositoriesOrError"].get("nodes"))

        wait_for(up, seconds, "the webserver to load the graph")

    def launch(
        self,
        job: str,
        assets: list[str],
        partition: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """Launch assets of a job as the UI's dialog does; returns the run id."""
        tags = [] if partition is None else [{"key": "dagster/partition", "value": partition}]
        params = {
            "selector": {
                **REPOSITORY,
                "jobName": job,
                "assetSelection": [{"path": [name]} for name in assets],
            },
            "runConfigData": json.dumps(
                {"ops": {name: {"config": dict(config)} for name in assets}} if config else {}
            ),
            "executionMetadata": {"tags": tags},
            "mode": "default",
        }
        answer = self.ask(LAUNCH, {"params": params})["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def run(self, run_id: str) -> dict[str, Any]:
        """Status and step statistics of a run."""
        found: dict[str, Any] = self.ask(RUN, {"id": run_id})["runOrError"]
        return found

    def messages(self, run_id: str) -> list[str]:
        """All log messages of a run."""
        return [
            event.get("message", "") for event in self.ask(EVENTS, {"id": run_id})["logsForRun"]["events"]
        ]

    def wait_for_end(self, run_id: str, seconds: float = 150) -> str:
        """The status in which a run ended."""
        ended = ("SUCCESS", "FAILURE", "CANCELED")
        wait_for(lambda: self.run(run_id)["status"] in ended, seconds, f"run {run_id} to end", every=1.0)
        return str(self.run(run_id)["status"])

    def asset(self, name: str, partition: str | None = None) -> dict[str, Any]:
        """What the asset page shows."""
        variables = {"key": {"path": [name]}, "partitions": None if partition is None else [partition]}
        found: dict[str, Any] = self.ask(ASSET, variables)["assetNodeOrError"]
        return found

    def runs(self, **filters: Any) -> list[dict[str, Any]]:
        """Newest runs that fit a RunsFilter."""
        found: list[dict[str, Any]] = self.ask(RUNS, {"filter": filters})["runsOrError"]["results"]
        return found

    def schedule_state_id(self, name: str) -> str:
        """Id under which a schedule's state is known."""
        found = self.ask(SCHEDULES, {"selector": REPOSITORY})["schedulesOrError"]["results"]
        return next(str(schedule["scheduleState"]["id"]) for schedule in found if schedule["name"] == name)

    def daemons_are_healthy(self) -> bool:
        """Whether every required daemon has a heartbeat."""
        states = self.ask(DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(state["healthy"] for state in states if state["required"])


def tags_of(materialization: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a materialization as a dictionary."""
    return {tag["key"]: tag["value"] for tag in materialization["tags"]}


def wait_for(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.3) -> None:
    """Poll until the condition holds; fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(every)


def free_port() -> int:
    """A port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
