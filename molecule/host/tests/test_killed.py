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

DAEMON_JSON = "/etc/docker/daemon.json"
SIGHT_SECONDS = 300


@dataclass(frozen=True)
class Point:
    """Where a run ends: in which task, how many seconds into it or at which sight, and what ends.

    What is broken before makes sure that the run comes there.
    """

    task: str
    seconds: float = 0.0
    power: bool = False
    sight: str = ""
    breaking: str = ""

    def __str__(self) -> str:
        what = "power cut" if self.power else "killed"
        when = f"at `{self.sight}`, from" if self.sight else f"{self.seconds:g} s into"
        return f"{what} {when} '{self.task}'"


# In the order in which a virgin machine meets them, or one that was broken; each begins where the
# last one has ended. What apt does on the host goes on when the controller is killed, and ends with
# the power.
POINTS = [
    Point("nvidia_driver : Bring the apt source and its key", 0.3),
    Point("nvidia_driver : Download the packages", 0.5, power=True),
    Point("nvidia_driver : Install the packages", 2, power=True),
    # There or in the installation behind it DKMS compiles the module.
    Point(
        "nvidia_driver : Complete what dpkg was interrupted in", power=True, sight="pgrep -x cc1"
    ),
    Point("nvidia_driver : Hold the driver's packages", 0.1),
    Point("docker_engine : Install the packages", 2, power=True),
    Point("container_toolkit : Install the packages", 1),
    # Docker runs, and has to be restarted for what the file gets again.
    Point(
        "docker_engine : Write daemon.json",
        power=True,
        sight=f"test -e {DAEMON_JSON}",
        breaking=f"rm {DAEMON_JSON}",
    ),
    Point("host_tuning : Write what guards and tunes the host", 0.1, power=True),
    Point(
        "container_toolkit : Write the CDI specification",
        breaking="rm --force /var/run/cdi/nvidia.yaml",
    ),
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
    printed, seen = "", True
    assert run.stdout is not None
    for line in run.stdout:
        printed += line
        if line.startswith("TASK [") and f"{point.task}]" in line:
            time.sleep(point.seconds)
            if point.sight:
                wait = f"until {point.sight} >/dev/null; do sleep 0.02; done"
                seen = not machine.fails(f"timeout {SIGHT_SECONDS} sh -c '{wait}'")
            break
    if point.power:
        machine.cut_power()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert seen, f"`{point.sight}` was not seen in {SIGHT_SECONDS} s:\n{printed}"
    return printed


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_run_is_killed_and_the_machine_boots(machine: Machine, point: Point) -> None:
    """What is half there may fail to start then; that is for the runs that follow."""
    if point.breaking:
        machine.run(point.breaking)
    printed = killed(machine, point)
    assert f"{point.task}]" in printed, printed
    machine.wait()


def test_the_next_run_brings_it_to_its_state(machine: Machine) -> None:
    run = provision(machine)
    assert run.code == 0, run.output
    assert machine.loaded() == DRIVER
    assert machine.run("dpkg --audit") == ""
    assert machine.run("apt-get --quiet check >/dev/null; echo $?") == "0"
    assert set(machine.gpus()) < set(machine.devices())
    assert json.loads(machine.run(f"cat {DAEMON_JSON}"))["live-restore"] is True
    assert machine.run("docker info --format '{{.LiveRestoreEnabled}} {{.LoggingDriver}}'") == (
        "true json-file"
    )
    assert machine.run("ls /run/*.pending 2>/dev/null || true") == ""
    ours = "'docker*' 'containerd*' 'nvidia*' 'baremetal-vllm*' 'vllm*'"
    assert machine.run(f"systemctl list-units --failed --plain --no-legend {ours}") == ""
    names = (".*.file_set", "file_set-*", ".ansible*", "*.tmp")
    searched = " -o ".join(f"-name '{name}'" for name in names)
    assert machine.run(f"find /etc /run /var/lib/vllm -xdev {searched} || true") == ""


def test_and_the_one_after_it_changes_nothing(machine: Machine) -> None:
    assert_changes_nothing(machine, provision(machine))
