# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Debian 13's own packages: the real open module, built by DKMS against real headers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Run
from machines import Machine, provision, sentence

COMPONENTS = "main contrib non-free non-free-firmware"
CHOSEN = {
    "nvidia_driver_source": "distro",
    "nvidia_driver_reboot": False,
    "docker_engine_source": "distro",
}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine whose kernel has loaded nouveau, as Debian's does for a card that it knows."""
    found = Machine("spare")
    found.renew(nouveau=True)
    found.run(f"sed -i -E 's/^(deb .*) main$/\\1 {COMPONENTS}/' /etc/apt/sources.list")
    if "non-free" not in found.run("apt-get -qq update; apt-cache policy"):
        pytest.skip("the hosts reach no Debian archive with non-free packages")
    yield found


@pytest.fixture(scope="module")
def run(machine: Machine) -> Run:
    return provision(machine, **CHOSEN)


def test_nouveau_runs_at_first(machine: Machine) -> None:
    assert machine.run("lsmod | cut -d ' ' -f 1 | grep nouveau") == "nouveau"


def test_module_is_built_against_the_headers_of_the_kernel(machine: Machine, run: Run) -> None:
    kernel = machine.run("uname -r")
    assert kernel.endswith("-amd64")
    version = machine.run(
        f"modinfo -k {kernel} --field version nvidia-current || modinfo -F version nvidia"
    )
    assert version.startswith("550."), run.output
    assert machine.run(f"dkms status -k {kernel}").count("installed") == 1
    assert "Dual MIT/GPL" in machine.run(
        "modinfo --field license nvidia-current || modinfo -F license nvidia"
    )


def test_role_says_that_it_is_not_loaded_and_that_a_reboot_is_needed(
    machine: Machine, run: Run
) -> None:
    assert machine.loaded() == ""
    said = sentence(run.output)
    assert "nouveau" in said, run.output
    assert "reboot" in said.lower(), run.output
