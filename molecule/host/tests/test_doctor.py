# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""doctor.yml on a machine that serves: what is broken is told, and its own command mends it."""

from __future__ import annotations

import pytest
from conftest import SCENARIO, playbook
from machines import FLEET, LIMIT, Machine, docker, findings, fleet, sentence

MACHINE = Machine("h100")
# Of the lab and not of the machine: its engine is older than Docker's last fixes, the clock is that
# of the kernel below, and vLLM's CPU build is of an older release.
ALWAYS = {"docker_below_floor", "time_unsynchronised", "vllm_advisory", "nginx_unfixed"}

# Code, what breaks it, and a word of the sentence; mended by the command of the finding.
BROKEN = [
    ("fabric_manager_down", "systemctl stop nvidia-fabricmanager", "NVSwitches"),
    ("cdi_missing", "rm /var/run/cdi/nvidia.yaml", "CDI"),
    ("cdi_stale", "sed -i s/GPU-1000000c/GPU-2000000c/ /var/run/cdi/nvidia.yaml", "does not fit"),
    ("driver_not_loaded", "modprobe -r nvidia", "not loaded"),
    ("packages_not_held", "apt-mark unhold nvidia-driver-cuda docker-ce", "nvidia-driver-cuda"),
    (
        "packages_unfinished",
        "cd /tmp && apt-get -qq download libibumad3 && dpkg --unpack libibumad3_*.deb",
        "libibumad3",
    ),
    ("unit_stopped", f"systemctl stop {SCENARIO.unit}", SCENARIO.unit),
]


@pytest.fixture(scope="module", autouse=True)
def site() -> None:
    fleet()


def test_nothing_is_wrong_with_machines_that_serve() -> None:
    run = playbook("doctor", *LIMIT, extra={"doctor_fail_on": "error"})
    assert run.code == 0, run.output
    for name in FLEET:
        assert {*findings(Machine(name))} <= ALWAYS


@pytest.mark.parametrize(("code", "breaking", "word"), BROKEN, ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_told_and_mended(code: str, breaking: str, word: str) -> None:
    MACHINE.run(breaking)
    found = findings(MACHINE)
    assert code in found
    assert word in found[code]["what"]
    MACHINE.run(found[code]["mend"])
    assert {*findings(MACHINE)} <= ALWAYS


def test_an_error_is_an_exit_status_and_a_line_of_the_table() -> None:
    MACHINE.run("systemctl stop nvidia-fabricmanager")
    run = playbook("doctor", "--limit", MACHINE.name)
    MACHINE.run("systemctl start nvidia-fabricmanager")
    assert run.code == 2
    assert "nvidia-fabricmanager.service is inactive" in sentence(run.output), run.output
    assert "systemctl enable --now nvidia-fabricmanager" in run.output


def test_xid_of_this_boot_is_told_and_gone_after_the_reboot() -> None:
    line = "NVRM: Xid (PCI:0000:5d:00): 79, pid=0, name=lab, GPU has fallen off the bus."
    MACHINE.run(f"/usr/lib/lab-machine/machine log '{line}'")
    MACHINE.run("touch /run/reboot-required")
    found = findings(MACHINE)
    assert "Xid 79" in found["xid_reboot"]["what"]
    assert found["xid_reboot"]["mend"] == found["reboot_pending"]["mend"] == "systemctl reboot"
    MACHINE.reboot()
    MACHINE.wait_for_engine()
    assert not {"xid_reboot", "reboot_pending"} & {*findings(MACHINE)}


def test_machine_that_is_off_is_a_finding_and_stops_none() -> None:
    docker("stop", Machine("spare").container)
    run = playbook("doctor", "--limit", "h100,spare")
    docker("start", Machine("spare").container)
    assert run.code == 2
    # The connection of the lab cannot tell a container that is off from one without Python.
    assert "spare error The host could not be examined" in sentence(run.output), run.output
    assert "h100" in run.output.partition("could not be examined")[2]


def test_virgin_machine_has_one_note() -> None:
    spare = Machine("spare")
    spare.renew()
    assert {*findings(spare)} - ALWAYS == {"not_provisioned"}
