# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The vendors' repositories: from a virgin machine with leftovers, through its life, to new keys.

The tests of one machine build on each other, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machines import (
    DRIVER,
    KEYS,
    NEWER,
    VENDOR,
    Machine,
    assert_changes_nothing,
    provision,
    sentence,
)

PACKAGES = ("*nvidia*", "libcuda1", "libnvsdm", "firmware-nvidia-gsp")
"""Of the driver and of the toolkit."""
TOOLKIT = "*nvidia-container*"
RELEASES = {"l4": "12", "h100": "13"}
CODENAMES = {"12": "bookworm", "13": "trixie"}
VENDORS_OWN = "https://developer.download.nvidia.com/compute/cuda/repos"
KEY_FILES = {"12": "3bf863cc.pub", "13": "8793F200.pub"}
ENGINE_OLD, ENGINE = VENDOR["docker"]
CONTAINERD_OLD = "1.7.24"
"""What ENGINE_OLD needs at least; ENGINE needs a newer one."""


@pytest.fixture(scope="module", params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine as older set-ups leave it: sources and keys of the vendors in many places.

    That with the L4 has booted with nouveau on top.
    """
    found = Machine(request.param)
    found.renew(nouveau=request.param == "l4")
    leave_older_setups(found)
    assert KEYS["cuda"]["first"] in trusted_everywhere(found)
    yield found
    found.show("key", "first")
    found.show("status", "200")


def cuda(machine: Machine) -> str:
    return f"{VENDOR['url']}/compute/cuda/repos/debian{RELEASES[machine.name]}/x86_64"


def leave_older_setups(machine: Machine) -> None:
    """As guides of some years and the package cuda-keyring write them; apt-key's file too.

    `gnupg-ring:` is the format that apt-key wrote and apt reads; gpg alone would write another.
    """
    release = RELEASES[machine.name]
    key = f"curl --silent --fail {cuda(machine)}/{KEY_FILES[release]}"
    docker = f"{VENDOR['url']}/linux/debian"
    machine.run(
        "apt-get -qq update && apt-get -qq -y install gpg >/dev/null && "
        f"{key} | gpg --dearmor >/usr/share/keyrings/cuda-archive-keyring.gpg && "
        f"{key} | gpg --dearmor >/etc/apt/trusted.gpg.d/cuda.gpg && "
        f"{key} | gpg --no-default-keyring --keyring gnupg-ring:/etc/apt/trusted.gpg --import && "
        f"curl --silent --fail {docker}/gpg >/etc/apt/keyrings/docker.asc && "
        f"echo 'deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] {cuda(machine)}/ /'"
        f" >/etc/apt/sources.list.d/cuda-debian{release}-x86_64.list && "
        f"echo 'deb {cuda(machine)} /' >>/etc/apt/sources.list && "
        f"echo 'deb {VENDORS_OWN}/debian{release}/x86_64/ /' >/etc/apt/sources.list.d/cuda.list && "
        f"echo 'deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] {docker}"
        f" {CODENAMES[release]} stable' >/etc/apt/sources.list.d/docker.list && "
        "echo '# deb https://nvidia.github.io/nvidia-docker/debian11/amd64 / # disabled on upgrade'"
        " >/etc/apt/sources.list.d/nvidia-docker.list && "
        "printf 'Types: deb\\nURIs: %s\\nSuites: /\\nTrusted: yes\\n'"
        f" {VENDOR['url']}/libnvidia-container/stable/deb/amd64"
        " >/etc/apt/sources.list.d/nvidia-container-toolkit.sources"
    )


def driver_versions(machine: Machine) -> set[str]:
    """Versions of the installed packages of the driver: one, if all is well."""
    toolkit = machine.packages(TOOLKIT)
    found = machine.packages(*PACKAGES)
    return {version for name, version in found.items() if name not in toolkit and name != "nvlsm"}


def test_check_mode_on_a_virgin_machine_fails_nowhere_and_changes_nothing(machine: Machine) -> None:
    before = machine.run("find /etc /usr -xdev -newer /proc/1/cmdline -type f | sort; dpkg -l")
    run = provision(machine, "--check", "--diff")
    assert run.code == 0, run.output
    assert run.recap(machine.name)["changed"] > 3, run.output
    assert f"nvidia-driver-cuda={DRIVER}" in sentence(run.output)
    after = machine.run("find /etc /usr -xdev -newer /proc/1/cmdline -type f | sort; dpkg -l")
    assert after == before


def test_driver_engine_and_toolkit_are_installed_and_run(machine: Machine) -> None:
    run = provision(machine, docker_engine_version=ENGINE_OLD)
    assert run.code == 0, run.output
    assert driver_versions(machine) == {f"{DRIVER}-1"}, machine.packages(*PACKAGES)
    assert machine.loaded() == DRIVER
    assert machine.fails("test -e /sys/module/nouveau")
    assert machine.run("modinfo --field version nvidia") == DRIVER
    assert machine.packages("docker-ce", "docker-ce-cli") == {
        name: f"5:{ENGINE_OLD}-1~debian.{release}~{CODENAMES[release]}"
        for release in [RELEASES[machine.name]]
        for name in ("docker-ce", "docker-ce-cli")
    }
    assert machine.packages(TOOLKIT) == {"nvidia-container-toolkit-base": "1.20.1-1"}
    for unit in ("nvidia-persistenced", "docker", "nvidia-cdi-refresh.path"):
        assert machine.run(f"systemctl is-active {unit}") == "active"
        assert machine.run(f"systemctl is-enabled {unit}") == "enabled"
    assert "live-restore" in machine.run("cat /etc/docker/daemon.json")


def test_every_gpu_has_a_device_of_its_own(machine: Machine) -> None:
    assert len(machine.gpus()) == {"l4": 1, "h100": 8}[machine.name]
    assert set(machine.gpus()) < set(machine.devices())


def test_fabric_manager_comes_with_nvswitches_alone(machine: Machine) -> None:
    if machine.name == "h100":
        assert machine.packages("nvidia-fabricmanager") == {"nvidia-fabricmanager": f"{DRIVER}-1"}
        assert machine.run("systemctl is-active nvidia-fabricmanager") == "active"
        assert machine.run("nvidia-smi -q").count(": Completed") == 8
    else:
        assert machine.packages("nvidia-fabricmanager") == {}


def test_sources_of_older_setups_are_gone_and_apt_has_nothing_to_say(machine: Machine) -> None:
    sources = machine.run("grep -rlE 'http://vendor|nvidia.com' /etc/apt/sources.list*").split()
    assert len(sources) == 3, sources
    assert all(path.endswith(".sources") for path in sources), sources
    assert machine.fails("test -e /usr/share/keyrings/cuda-archive-keyring.gpg")
    said = machine.run("apt-get update 2>&1")
    assert not [line for line in said.splitlines() if line.startswith(("W:", "E:"))], said


def trusted_everywhere(machine: Machine) -> str:
    """Keys that apt trusts for every repository, as gpg lists them."""
    return machine.run(
        "cat /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d/*.gpg 2>/dev/null"
        " | gpg --show-keys --with-colons || true"
    )


def test_keys_of_older_setups_are_trusted_no_more(machine: Machine) -> None:
    assert KEYS["cuda"]["first"] not in trusted_everywhere(machine)


def test_second_run_changes_nothing(machine: Machine) -> None:
    assert_changes_nothing(machine, provision(machine, docker_engine_version=ENGINE_OLD))
    run = provision(machine, "--check", "--diff", docker_engine_version=ENGINE_OLD)
    assert_changes_nothing(machine, run)


def test_dist_upgrade_finds_the_newer_releases_and_takes_none(machine: Machine) -> None:
    table = machine.run("apt-cache madison nvidia-driver-cuda docker-ce")
    assert NEWER in table
    assert "595." in table
    assert ENGINE in table
    before = machine.packages("*nvidia*", "*docker*", "containerd*", "libcuda1")
    for apt in ("apt-get", "apt-get --ignore-hold --allow-change-held-packages"):
        machine.run(f"DEBIAN_FRONTEND=noninteractive {apt} -y dist-upgrade")
        assert machine.packages("*nvidia*", "*docker*", "containerd*", "libcuda1") == before


def test_packages_are_held(machine: Machine) -> None:
    names = {"nvidia-driver-cuda", "nvidia-kernel-open-dkms", "docker-ce", "containerd.io"}
    assert {*names, "nvidia-container-toolkit-base"} <= machine.held()


def test_unattended_upgrades_leave_them(machine: Machine) -> None:
    machine.run("DEBIAN_FRONTEND=noninteractive apt-get -qq -y install unattended-upgrades")
    said = machine.run("unattended-upgrade --dry-run --debug 2>&1")
    listed = next(line for line in said.splitlines() if "blacklist" in line)
    for word in ("nvidia-", "docker", "containerd"):
        assert word in listed, said


def test_engine_is_upgraded_by_its_variable_and_containerd_with_it(machine: Machine) -> None:
    machine.run(
        "apt-get -qq -y --allow-downgrades --allow-change-held-packages install"
        f" containerd.io={CONTAINERD_OLD}-* && apt-mark hold containerd.io"
    )
    run = provision(machine)
    assert run.code == 0, run.output
    assert machine.run("docker version --format '{{.Server.Version}}'").startswith(ENGINE)
    assert not machine.packages("containerd.io")["containerd.io"].startswith(CONTAINERD_OLD)
    assert {"docker-ce", "docker-ce-cli", "containerd.io"} <= machine.held()
    assert_changes_nothing(machine, provision(machine))


@pytest.mark.parametrize("release", [NEWER, DRIVER], ids=["upgrade", "downgrade"])
def test_driver_is_changed_by_its_variable(machine: Machine, release: str) -> None:
    run = provision(machine, nvidia_driver_version=release)
    assert run.code == 0, run.output
    assert driver_versions(machine) == {f"{release}-1"}, machine.packages(*PACKAGES)
    assert machine.loaded() == release
    assert "nvidia-driver-cuda" in machine.held()
    assert f"libnvidia-ml.so.{release}" in machine.run("cat /var/run/cdi/nvidia.yaml")
    if machine.name == "h100":
        assert machine.run("systemctl is-active nvidia-fabricmanager") == "active"
    assert_changes_nothing(machine, provision(machine, nvidia_driver_version=release))


def test_toolkit_is_changed_by_its_variable(machine: Machine) -> None:
    run = provision(machine, container_toolkit_version="1.19.1")
    assert run.code == 0, run.output
    assert machine.packages(TOOLKIT) == {"nvidia-container-toolkit-base": "1.19.1-1"}
    run = provision(machine)
    assert run.code == 0, run.output
    assert machine.packages(TOOLKIT) == {"nvidia-container-toolkit-base": "1.20.1-1"}
    assert set(machine.gpus()) < set(machine.devices())


def test_it_is_as_before_after_a_reboot(machine: Machine) -> None:
    machine.reboot()
    assert machine.loaded() == DRIVER
    assert set(machine.gpus()) < set(machine.devices())
    assert machine.run("systemctl is-active nvidia-persistenced docker") == "active\nactive"
    assert_changes_nothing(machine, provision(machine))


def test_repository_that_is_down_does_not_matter(machine: Machine) -> None:
    machine.show("status", "503")
    assert_changes_nothing(machine, provision(machine))
    machine.show("status", "200")


def test_wrong_fingerprint_is_refused_with_both(machine: Machine) -> None:
    before = machine.run("sha256sum /etc/apt/keyrings/* /etc/apt/sources.list.d/*")
    run = provision(machine, nvidia_driver_key_fingerprints=["0" * 40])
    assert run.code != 0
    assert "0" * 40 in run.output.replace(" ", "")
    assert KEYS["cuda"]["first"] in run.output.replace(" ", ""), run.output
    assert machine.run("sha256sum /etc/apt/keyrings/* /etc/apt/sources.list.d/*") == before


def test_keys_that_the_vendors_have_changed_are_taken_over(machine: Machine) -> None:
    machine.show("key", "second")
    said = machine.run("apt-get update 2>&1 || true")
    assert "NO_PUBKEY" in said or "not signed" in said or "Missing key" in said, said
    rotated = {
        "nvidia_driver_key_fingerprints": [KEYS["cuda"]["second"]],
        "docker_engine_key_fingerprints": [KEYS["docker"]["second"]],
        "container_toolkit_key_fingerprints": [KEYS["toolkit"]["second"]],
    }
    run = provision(machine, **rotated)
    assert run.code == 0, run.output
    said = machine.run("apt-get update 2>&1")
    assert not [line for line in said.splitlines() if line.startswith(("W:", "E:"))], said
    assert_changes_nothing(machine, provision(machine, **rotated))
