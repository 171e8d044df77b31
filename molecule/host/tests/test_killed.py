# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A run that is killed at ten points on its way, and goes on from there every time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from conftest import ENVIRONMENT, ROOT, SCENARIO
from machines import DRIVER, Machine, assert_changes_nothing, provision

SECONDS = 900


@dataclass(frozen=True)
class Point:
    """Where a run ends: in which task, how many seconds into it, and what ends."""

    task: str
    seconds: float = 0.0
    power: bool = False

    def __str__(self) -> str:
        what = "power cut" if self.power else "killed"
        return f"{what} {self.seconds:g} s into '{self.task}'"


# In the order in which a virgin machine meets them; each begins where the last one has ended. What
# apt does on the host goes on when the controller is killed, and ends with the power.
POINTS = [
    Point("nvidia_driver : Bring the apt source and its key", 0.3),
    Point("nvidia_driver : Pin the release"),
    Point("nvidia_driver : Download the packages", 0.5, power=True),
    Point("nvidia_driver : Install the packages", 2, power=True),
    Point("nvidia_driver : Complete what dpkg was interrupted in", 1, power=True),
    Point("nvidia_driver : Install the packages", 3),
    Point("nvidia_driver : Hold the driver's packages", 0.1),
    Point("docker_engine : Install the packages", 2, power=True),
    Point("container_toolkit : Install the packages", 1),
    Point("host_tuning : Write what guards and tunes the host", 0.1, power=True),
]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    found = Machine("spare")
    found.renew()
    yield found


def killed(machine: Machine, point: Point) -> str:
    """Run until the point is reached and end it there; what the run had printed."""
    command = ["ansible-playbook", "playbooks/provision.yml", *SCENARIO.inventory_arguments]
    run = subprocess.Popen(
        [*command, "--limit", machine.name],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    printed = ""
    assert run.stdout is not None
    for line in run.stdout:
        printed += line
        if line.startswith("TASK [") and point.task in line:
            time.sleep(point.seconds)
            break
    if point.power:
        machine.cut_power()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return printed


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_run_is_killed_and_the_machine_boots(machine: Machine, point: Point) -> None:
    printed = killed(machine, point)
    assert point.task in printed, printed
    assert machine.run("systemctl is-system-running || true") in ("running", "degraded", "starting")


def test_the_next_run_brings_it_to_its_state(machine: Machine) -> None:
    run = provision(machine)
    assert run.code == 0, run.output
    assert machine.loaded() == DRIVER
    assert machine.run("dpkg --audit") == ""
    assert machine.run("apt-get --quiet check >/dev/null; echo $?") == "0"
    assert set(machine.gpus()) < set(machine.devices())
    assert json.loads(machine.run("cat /etc/docker/daemon.json"))["live-restore"] is True
    leftovers = machine.run(
        "find /etc /var/lib/vllm -name '*.unfinished' -o -name '.ansible*' -o -name '*.tmp' || true"
    )
    assert leftovers == ""


def test_and_the_one_after_it_changes_nothing(machine: Machine) -> None:
    assert_changes_nothing(machine, provision(machine))
