# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Debian 13's own packages: the real open module, built by DKMS against real headers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Run
from machines import Machine, provision, sentence

COMPONENTS = "main contrib non-free non-free-firmware"
# Debian's kernel for its release before: the driver of Debian 13 (550.163.01-2) does not compile
# with Debian 13's own of 2026, in which pci_resize_resource() has an argument more.
KERNEL = "6.12.95+deb12-amd64"
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
    older = "s/^(deb .*) trixie main$/\\1 bookworm-backports main/p"
    found.run(
        f"cd /etc/apt && sed -nE '{older}' sources.list >/tmp/older"
        f" && sed -i -E 's/^(deb .*) main$/\\1 {COMPONENTS}/' sources.list"
        " && cat /tmp/older >>sources.list"
    )
    assert "bookworm-backports" in found.run("apt-get -qq update; apt-cache policy"), (
        "the hosts reach no Debian archive with backports and non-free packages"
    )
    found.run(f"apt-get -qq -y install linux-image-{KERNEL} >/dev/null")
    found.change(kernel=KERNEL)
    found.reboot()
    found.run("apt-get -qq -y purge 'linux-image-*deb13-amd64' linux-image-amd64 >/dev/null")
    yield found


@pytest.fixture(scope="module")
def run(machine: Machine) -> Run:
    return provision(machine, **CHOSEN)


def test_nouveau_runs_at_first(machine: Machine) -> None:
    assert not machine.fails("test -d /sys/module/nouveau")


def test_module_is_built_against_the_headers_of_the_kernel(machine: Machine, run: Run) -> None:
    assert machine.run("uname -r") == KERNEL
    assert {*machine.packages("linux-headers-*-amd64")} == {f"linux-headers-{KERNEL}"}
    built = machine.run(f"dkms status -k {KERNEL}")
    assert built.startswith("nvidia-current-open/550."), run.output
    assert built.endswith(": installed")
    module = machine.run(
        f"find /lib/modules/{KERNEL}/updates -name 'nvidia-current*.ko*' | head -1"
    )
    shown = machine.run(f"modinfo --field license {module}; modinfo --field vermagic {module}")
    assert shown.startswith("Dual MIT/GPL")
    assert KERNEL in shown


def test_role_says_that_it_is_not_loaded_and_that_a_reboot_is_needed(
    machine: Machine, run: Run
) -> None:
    assert run.code == 0, run.output
    assert machine.loaded() == ""
    _before, _task, noted = run.output.partition("Leave a note where the host is not rebooted")
    said = (
        f"{machine.name}: nouveau drives the GPUs, and gives them up at a reboot only; reboot the"
        " host, then run again."
    )
    assert said in sentence(noted), run.output
