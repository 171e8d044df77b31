# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the verify tests look at: the lab's hosts of the scenario that Molecule has converged."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[1]
LAB = os.environ["VLLM_LAB"]

# As a terminal of an operator has it: with Python's compiled files, which `make test` does without.
# But what is printed is read by tests and not by eyes.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.endswith("FORCE_COLOR") and name != "PYTHONDONTWRITEBYTECODE"
} | {"ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Scenario:
    """Where things are in a scenario; the values are those of its inventory."""

    inventory: str
    gpu_hosts: tuple[str, ...]
    edge_hosts: tuple[str, ...]
    instance: str = "gpt-oss-tiny"
    port: int = 8000
    edge_port: int = 8080
    edge_scheme: str = "http"
    listens_on_loopback: bool = False
    state_directory: str = "/var/lib/vllm"
    config_directory: str = "/etc/vllm"
    user: str = "2000:0"
    shm_bytes: int = 16 * 2**30
    shutdown_timeout: int = 60
    overlay: str = ""

    @property
    def inventory_arguments(self) -> list[str]:
        """Inventories as arguments; what the overlay sets wins."""
        return [f"--inventory={path}" for path in (self.inventory, self.overlay) if path]

    @property
    def unit(self) -> str:
        return f"vllm@{self.instance}.service"

    @property
    def container(self) -> str:
        return f"vllm-{self.instance}"

    @property
    def current(self) -> str:
        return f"{self.state_directory}/{self.instance}/current"


SCENARIOS = {
    "default": Scenario("inventories/demo", ("gpu1", "gpu2"), ("edge1",)),
    "uninstall": Scenario(
        "inventories/demo", ("gpu1", "gpu2"), ("edge1",), overlay="molecule/uninstall/inventory"
    ),
    "alternative": Scenario(
        "molecule/alternative/inventory",
        ("gpu2",),
        ("gpu2",),
        instance="tiny-alternative",
        port=8011,
        edge_port=8081,
        edge_scheme="https",
        listens_on_loopback=True,
        state_directory="/srv/vllm-state",
        config_directory="/etc/vllm-alternative",
        user="2001:0",
        shm_bytes=2 * 2**30,
        shutdown_timeout=20,
    ),
    "store": Scenario(
        "molecule/store/inventory",
        ("gpu2",),
        ("gpu2",),
        instance="one",
        listens_on_loopback=True,
    ),
    "spread": Scenario(
        "molecule/spread/inventory", tuple(f"node{number:02}" for number in range(1, 11)), ()
    ),
    "airgap": Scenario(
        "molecule/airgap/inventory",
        ("gpu1", "gpu2"),
        ("gpu1", "gpu2"),
        instance="one",
        listens_on_loopback=True,
    ),
    "edge": Scenario(
        "molecule/edge/inventory",
        ("gpu1", "gpu2"),
        ("front1", "front2"),
        edge_port=8443,
        edge_scheme="https",
    ),
    "host": Scenario("molecule/host/inventory", ("l4", "h100", "b200", "spare"), ()),
}
SCENARIO = SCENARIOS[os.environ["VLLM_SCENARIO"]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a scenario down comes last, behind the shared tests, too."""
    items.sort(key=lambda item: item.path.stem == "test_taken_down")


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    return SCENARIO


def lab_host(name: str) -> Host:
    """A host of the lab, reached as root through Docker."""
    return testinfra.get_host(f"docker://vllm-{LAB}-{name}")


@pytest.fixture(scope="session", params=SCENARIO.gpu_hosts)
def gpu_host(request: pytest.FixtureRequest) -> Host:
    return lab_host(request.param)


@pytest.fixture(scope="session", params=SCENARIO.edge_hosts)
def edge_host(request: pytest.FixtureRequest) -> Host:
    return lab_host(request.param)


@pytest.fixture(scope="session")
def host(edge_host: Host) -> Host:
    """Tests of the edge call their host `host`, as testinfra's own examples do."""
    return edge_host


def address(name: str) -> str:
    """The address of a lab host on the lab's network."""
    inspected = json.loads(
        subprocess.run(
            ["docker", "inspect", f"vllm-{LAB}-{name}"], check=True, capture_output=True, text=True
        ).stdout
    )
    return str(inspected[0]["NetworkSettings"]["Networks"]["vllm-lab"]["IPAddress"])


@dataclass(frozen=True)
class Run:
    """What an operator sees of one ansible-playbook run."""

    code: int
    output: str

    def recap(self, host: str) -> dict[str, int]:
        """Counters of the play recap: ok, changed, unreachable, failed, ..."""
        line = next(
            found for found in self.output.splitlines() if re.match(rf"{host}\s+: ok=", found)
        )
        return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)}


def playbook(name: str, *arguments: str, extra: dict[str, Any] | None = None) -> Run:
    """Run a playbook of the collection against the scenario's inventory, as an operator would."""
    inventory = SCENARIO.inventory_arguments
    command = ["ansible-playbook", f"playbooks/{name}.yml", *inventory, *arguments]
    if extra is not None:
        command += ["-e", json.dumps(extra)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    return Run(done.returncode, done.stdout + done.stderr)
