# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Machines that cannot have the driver, the engine or the toolkit: a sentence, and no change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT
from machines import (
    DRIVER,
    VENDOR,
    Machine,
    assert_changes_nothing,
    docker,
    provision,
    sentence,
)

SPARE = Machine("spare")
SETS = ROOT / "molecule/shared/nvml/sets"

VARIABLES: list[tuple[str, dict[str, Any], str]] = [
    (
        "a branch that vLLM's images do not run on",
        {"nvidia_driver_version": "535.309.01"},
        "nvidia_driver_version is 535.309.01; vLLM's images need branch 580 or newer; choose such a"
        " release.",
    ),
    (
        "a version that is none",
        {"nvidia_driver_version": "580"},
        "nvidia_driver_version is '580'; it must be a release in full, such as 580.178.04.",
    ),
    (
        "a driver that should be there already",
        {"nvidia_driver_source": "preinstalled"},
        "nvidia_driver_source is 'preinstalled', but no NVIDIA driver is loaded; load it (modprobe"
        " nvidia), mend it, or set nvidia_driver_source to 'nvidia'.",
    ),
    (
        "an engine that should be there already",
        {"docker_engine_source": "preinstalled"},
        "docker_engine_source is 'preinstalled', but docker.service does not exist on this host;"
        " install Docker Engine, or set docker_engine_source to 'docker' or 'distro'.",
    ),
    (
        "an engine without CDI",
        {"docker_engine_version": "24.0.9"},
        "docker_engine_version is 24.0.9, which cannot give GPUs by CDI; give 25.0.0 or newer.",
    ),
    (
        "a toolkit with a known hole",
        {"container_toolkit_version": "1.18.0"},
        "container_toolkit_version is 1.18.0, below 1.19.1, which closes CVE-2026-24260; give"
        " 1.19.1 or newer.",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def spare() -> Iterator[None]:
    SPARE.renew()
    yield
    SPARE.renew()


def state() -> str:
    return SPARE.run(
        "dpkg -l; find /etc -xdev -type f -newer /proc/1/cmdline"
        " -not -name 'machine.json' -printf '%p %s\\n' | sort"
    )


def refused(**variables: Any) -> str:
    """What a run says that is refused before it changes anything."""
    before = state()
    run = provision(SPARE, **variables)
    assert run.code != 0, run.output
    assert run.recap(SPARE.name)["changed"] == 0, run.output
    assert state() == before
    return sentence(run.output)


@pytest.mark.parametrize(
    ("variables", "words"),
    [case[1:] for case in VARIABLES],
    ids=[case[0] for case in VARIABLES],
)
def test_variable_is_refused(variables: dict[str, Any], words: str) -> None:
    assert f"{SPARE.name}: {words}" in refused(**variables)


def test_old_gpu_is_refused() -> None:
    docker("cp", str(SETS / "v100.txt"), f"{SPARE.container}:/usr/lib/lab-machine/gpus.txt")
    SPARE.reboot()
    said = refused()
    docker("cp", str(SETS / "l4.txt"), f"{SPARE.container}:/usr/lib/lab-machine/gpus.txt")
    assert (
        "has only GPUs from before Turing (10de:1db1 at 0000:00:1e.0), which the open kernel"
        " modules do not drive; fit a newer GPU, or install the proprietary driver of branch 580"
        " yourself and set nvidia_driver_source to 'preinstalled'."
    ) in said


def test_secure_boot_is_refused_with_the_way_out() -> None:
    SPARE.change(secure_boot=True)
    SPARE.reboot()
    said = refused()
    SPARE.change(secure_boot=None)
    assert (
        "has Secure Boot on, which refuses a kernel module built here as long as its key is not"
        " enrolled; switch Secure Boot off in the firmware, or install dkms, run `dkms generate_mok"
        " && mokutil --import /var/lib/dkms/mok.pub`, reboot, choose Enroll MOK at the console,"
        " then run again."
    ) in said


def test_reboot_without_consent_is_refused_before_anything_changes() -> None:
    SPARE.change(nouveau=True)
    SPARE.reboot()
    said = refused(nvidia_driver_reboot=None)
    SPARE.change(nouveau=False)
    SPARE.reboot()
    assert (
        "needs a reboot: nouveau drives the GPUs, and gives them up at a reboot only; set"
        " nvidia_driver_reboot: true to let the run reboot the host once, or false to install now"
        " and reboot it yourself later."
    ) in said


def test_kernel_without_headers_is_told_by_the_package_that_it_lacks() -> None:
    SPARE.change(kernel="6.12.1-custom")
    SPARE.reboot()
    run = provision(SPARE)
    SPARE.change(kernel=None)
    SPARE.reboot()
    assert run.code != 0
    assert (
        "the package lists have no linux-headers-6.12.1-custom, the headers of kernel"
        " 6.12.1-custom, so it would have no driver; upgrade the kernel and boot the new one"
        " (apt-get install --only-upgrade 'linux-image-*', then reboot), or enable the archive that"
        " has it, then run again."
    ) in sentence(run.output), run.output
    assert SPARE.packages("nvidia-driver-cuda") == {}


def test_release_that_the_repository_does_not_have_is_told_and_nothing_installed() -> None:
    run = provision(SPARE, nvidia_driver_version="580.179.01")
    assert run.code != 0
    there = ", ".join(f"{release}-1" for release in reversed(VENDOR["driver"]))
    assert (
        f"{VENDOR['url']}/compute/cuda/repos/debian13/x86_64 has no nvidia-driver-cuda 580.179.01,"
        f" but {there}; set nvidia_driver_version to one of its releases."
    ) in sentence(run.output), run.output
    assert SPARE.packages("nvidia-driver-cuda", "linux-headers*") == {}


def test_driver_of_another_installer_is_not_replaced() -> None:
    library = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
    SPARE.run(
        f"touch {library}.570.195.03 && ln -s libnvidia-ml.so.570.195.03 {library}.1 &&"
        " printf '#!/bin/sh\\n' >/usr/bin/nvidia-uninstall && chmod 755 /usr/bin/nvidia-uninstall"
    )
    said = refused()
    SPARE.run(f"rm {library}.* /usr/bin/nvidia-uninstall")
    assert (
        "has driver 570.195.03 from NVIDIA's installer or a copy, not from packages, and"
        " nvidia_driver_source is 'nvidia'; set nvidia_driver_replace: true to have it removed, or"
        " nvidia_driver_source to 'preinstalled' to keep it."
    ) in said


def test_engine_of_another_source_is_not_replaced_without_a_word() -> None:
    SPARE.run("DEBIAN_FRONTEND=noninteractive apt-get -qq -y install docker.io >/dev/null")
    said = refused()
    assert "has docker.io 26.1.5" in said
    assert (
        ", and docker_engine_source is 'docker'; set docker_engine_replace: true to have them"
        " removed and that engine installed (containers and images stay, all containers stop), or"
        " docker_engine_source: distro to keep them."
    ) in said


def test_daemon_json_that_is_none_is_refused() -> None:
    SPARE.run("echo '{\"debug\": true,}' >/etc/docker/daemon.json")
    said = refused(docker_engine_source="distro")
    SPARE.run("rm /etc/docker/daemon.json")
    assert "/etc/docker/daemon.json is not valid JSON (" in said
    assert "); mend it, nothing is merged into it." in said


def test_with_consent_the_engine_is_replaced_and_its_options_are_kept() -> None:
    SPARE.run("echo '{\"max-concurrent-uploads\": 3}' >/etc/docker/daemon.json")
    run = provision(SPARE, docker_engine_replace=True)
    assert run.code == 0, run.output
    assert SPARE.packages("docker.io") == {}
    assert SPARE.loaded() == DRIVER
    assert '"max-concurrent-uploads": 3' in SPARE.run("cat /etc/docker/daemon.json")
    assert_changes_nothing(SPARE, provision(SPARE))
