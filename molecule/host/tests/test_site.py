# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""site.yml from nothing to tokens, on machines with an L4, eight H100 and eight B200."""

from __future__ import annotations

import json

import pytest
from conftest import SCENARIO, playbook
from machines import DRIVER, FLEET, LIMIT, NEWER, Machine, fleet, gpu_facts

MACHINES = [Machine(name) for name in FLEET]
GIVEN = {
    "l4": "GPU-10000001-5a1d-4c1a-9d2e-000000000001",
    "h100": "GPU-1000000c-5a1d-4c1a-9d2e-00000000000c",
    "b200": "GPU-10000018-5a1d-4c1a-9d2e-000000000018",
}
NAMES = {
    "l4": ["NVIDIA L4"],
    "h100": ["NVIDIA H100 80GB HBM3"] * 8,
    "b200": ["NVIDIA B200"] * 8,
}
each = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@pytest.fixture(scope="module", autouse=True)
def site() -> None:
    fleet()


def given(machine: Machine) -> list[str]:
    """UUIDs that nvidia-smi lists in the engine's container."""
    listed = machine.run(f"docker exec {SCENARIO.container} nvidia-smi -L")
    return [line.partition("UUID: ")[2].rstrip(")") for line in listed.splitlines()]


@each
def test_driver_is_what_the_kernel_runs(machine: Machine) -> None:
    assert machine.loaded() == DRIVER
    assert len(machine.gpus()) == {"l4": 1, "h100": 8, "b200": 8}[machine.name]


@each
def test_facts_are_those_of_the_machine(machine: Machine) -> None:
    found = gpu_facts(machine)
    assert (found["state"], found["message"]) == ("ok", "")
    assert found["driver_version"] == found["kernel_module_version"] == DRIVER
    assert found["versions_match"] is True
    assert [gpu["uuid"] for gpu in found["gpus"]] == machine.gpus()
    assert [gpu["name"] for gpu in found["gpus"]] == NAMES[machine.name]
    assert found["nvswitch"] is (machine.name != "l4")


@each
def test_fabric_manager_runs_where_switches_are(machine: Machine) -> None:
    packages = machine.packages("nvidia-fabricmanager", "nvlsm")
    wanted = {
        "l4": set(),
        "h100": {"nvidia-fabricmanager"},
        "b200": {"nvidia-fabricmanager", "nvlsm"},
    }
    assert {*packages} == wanted[machine.name]
    if packages:
        assert machine.run("systemctl is-active nvidia-fabricmanager") == "active"
        assert machine.run("nvidia-smi -q").count(": Completed") == 8


@each
def test_container_has_its_gpu_and_no_other(machine: Machine) -> None:
    assert given(machine) == [GIVEN[machine.name]]
    nodes = machine.run(f"docker exec {SCENARIO.container} sh -c 'ls /dev | grep nvidia'").split()
    assert len([node for node in nodes if node != "nvidiactl"]) == 1


@each
def test_container_was_given_its_gpu_by_uuid(machine: Machine) -> None:
    requests = machine.run(
        f"docker inspect -f '{{{{json .HostConfig.DeviceRequests}}}}' {SCENARIO.container}"
    )
    given_by = [name for request in json.loads(requests) for name in request["DeviceIDs"]]
    assert given_by == [f"nvidia.com/gpu={GIVEN[machine.name]}"]


@each
def test_container_keeps_its_gpu_over_a_daemon_reload(machine: Machine) -> None:
    started = machine.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {SCENARIO.container}")
    machine.run("systemctl daemon-reload")
    assert given(machine) == [GIVEN[machine.name]]
    now = machine.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {SCENARIO.container}")
    assert now == started


@each
def test_engine_answers(machine: Machine) -> None:
    machine.wait_for_engine()
    asked = {"model": SCENARIO.instance, "prompt": "One", "max_tokens": 2}
    answer = machine.run(
        "curl --silent --fail http://127.0.0.1:8000/v1/completions"
        f" -H 'Authorization: Bearer {'a1' * 32}' -H 'Content-Type: application/json'"
        f" -d '{json.dumps(asked)}'"
    )
    assert json.loads(answer)["usage"]["completion_tokens"] == 2


def test_second_run_changes_nothing() -> None:
    run = playbook("site", *LIMIT)
    assert run.code == 0, run.output
    for machine in MACHINES:
        assert run.recap(machine.name)["changed"] == 0, run.output


def test_check_mode_finds_nothing() -> None:
    run = playbook("site", "--check", "--diff", *LIMIT)
    assert run.code == 0, run.output
    for machine in MACHINES:
        assert run.recap(machine.name)["changed"] == 0, run.output


def test_driver_is_not_changed_under_a_serving_engine() -> None:
    run = playbook("site", *LIMIT, extra={"nvidia_driver_version": NEWER})
    assert run.code != 0
    assert f"systemctl stop {SCENARIO.unit}" in " ".join(run.output.split()), run.output
    assert {machine.loaded() for machine in MACHINES} == {DRIVER}


@each
def test_machine_serves_again_after_a_power_cut(machine: Machine) -> None:
    machine.cut_power()
    machine.wait_for_engine()
    assert given(machine) == [GIVEN[machine.name]]
