# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What is decided for a host's driver, in tables of hosts, settings and sentences."""

from __future__ import annotations

import copy
import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _driver
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_progress import (
    choose_packages,
    progress,
)

WANTED = "580.178.04"
OLD = "580.126.09"
RELEASE = "6.1.0-41-amd64"
NEXT = "6.1.0-42-amd64"
DEBIAN = {"distribution": "Debian", "distribution_version": "12.12", "architecture": "x86_64"}
TRIXIE = DEBIAN | {"distribution_version": "13.2"}
UBUNTU = DEBIAN | {"distribution": "Ubuntu", "distribution_version": "24.04"}
SETTINGS: dict[str, Any] = {
    "source": "nvidia",
    "version": WANTED,
    "reboot": None,
    "replace": False,
    "repository": "",
    "key_url": "",
    "key_fingerprints": [],
    "wants_gpus": True,
    "serving": [],
    "local": False,
}
H100 = {"address": "0000:19:00.0", "device": "2330", "class": "030200"}
V100 = {"address": "0000:3b:00.0", "device": "1db4", "class": "030200"}
B200 = {"address": "0000:1b:00.0", "device": "2901", "class": "030200"}
SWITCH = {"address": "0000:07:00.0", "device": "22a3", "class": "068000"}
SOUND = {"address": "0000:19:00.1", "device": "22bd", "class": "040300"}
VIRGIN: dict[str, Any] = {
    "packages": {"linux-image-amd64": "6.1.187-1", f"linux-image-{RELEASE}": "6.1.187-1"},
    "held": [],
    "unfinished": [],
    "services": {},
    "read": {},
    "paths": {"/usr/sbin/update-initramfs": {"exists": True}},
    "kernel": {
        "release": RELEASE,
        "headers": False,
        "secure_boot": False,
        "module_key_enrolled": None,
        "nouveau": False,
        "reboot_required": False,
    },
    "nvidia": {
        "devices": [H100, SOUND],
        "switch_managers": [],
        "module": None,
        "library": None,
        "built": {},
    },
}
DRIVER = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced", "nvidia-modprobe")
UP = {"active": "active", "enabled": "enabled"}


def host(base: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A host like `base`, else a virgin one; of a changed dictionary the keys change one by one."""
    state = copy.deepcopy(base or VIRGIN)
    for key, value in changes.items():
        state[key] = {**state[key], **value} if isinstance(value, dict) else value
    return state


def driven(version: str = WANTED, **changes: Any) -> dict[str, Any]:
    """A Debian host on which a release from NVIDIA's repository runs, pinned and held."""
    pinned = _driver.plan(DEBIAN, VIRGIN, SETTINGS | {"version": version})
    libraries = ("libcuda1", "libnvidia-ml1")
    state = host(
        packages={
            **dict.fromkeys((*DRIVER, *libraries), f"{version}-1"),
            f"linux-headers-{RELEASE}": "6.1.187-1",
            "nvidia-container-toolkit-base": "1.20.1-1",
        },
        held=[*DRIVER, *libraries],
        services={"nvidia-persistenced.service": UP},
        read={
            _driver.PREFERENCES: pinned["preferences"],
            **{each["path"]: each["content"] or None for each in pinned["files"]},
        },
        paths={
            f"/etc/apt/sources.list.d/{_driver.NAME}.sources": {"exists": True},
            f"/etc/apt/keyrings/{_driver.NAME}.asc": {"exists": True},
        },
        kernel={"headers": True},
        nvidia={
            "module": {"version": version, "open": True},
            "library": version,
            "built": {RELEASE: version},
        },
    )
    return host(state, **changes)


UBUNTUS = "6.8.0-90-generic"


def signed(branch: str = "580", version: str = OLD, **changes: Any) -> dict[str, Any]:
    """An Ubuntu host with Secure Boot and modules that Canonical signed, and no key of DKMS."""
    ubuntus = f"{version}-0ubuntu0.24.04.2"
    state = host(
        packages={
            f"nvidia-headless-no-dkms-{branch}-server-open": ubuntus,
            f"nvidia-utils-{branch}-server": ubuntus,
            f"linux-modules-nvidia-{branch}-server-open-{UBUNTUS}": "6.8.0-90.91",
            f"linux-modules-nvidia-{branch}-server-open-generic": "6.8.0-90.91",
        },
        kernel={"release": UBUNTUS, "secure_boot": True, "module_key_enrolled": False},
        nvidia={
            "module": {"version": version, "open": True},
            "library": version,
            "built": {UBUNTUS: version},
        },
    )
    for name in VIRGIN["packages"]:
        del state["packages"][name]
    return host(state, **changes)


def plan(
    state: dict[str, Any], facts: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    return _driver.plan(facts or DEBIAN, state, SETTINGS | settings)


# -- what is decided -----------------------------------------------------------------------------


def test_a_virgin_host_gets_the_driver_for_the_kernel_that_runs() -> None:
    found = plan(VIRGIN)
    assert (found["problems"], found["notes"], found["converged"]) == ([], [], False)
    assert found["packages"] == [
        *(f"{name}={WANTED}-*" for name in DRIVER),
        f"linux-headers-{RELEASE}",
    ]
    assert found["optional"] == ["linux-headers-amd64=6.1.187-1"]
    assert (found["install"], found["load"], found["reboot"]) == (True, True, None)
    assert (found["purge"], found["uninstall"], found["disturbs"]) == ([], [], False)
    assert found["services"] == ["nvidia-persistenced.service"]
    assert found["initramfs"] == ""


def test_what_was_added_to_the_driver_goes_along() -> None:
    added = {"nvidia-imex": f"{OLD}-1", "nvidia-imex-570": "570.211.01-1"}
    found = plan(driven(OLD, packages=added), reboot=True)
    assert f"nvidia-imex={WANTED}-*" in found["optional"]
    assert f"libcuda1={WANTED}-*" in found["optional"]
    assert not [name for name in found["optional"] if name.startswith("nvidia-container")]
    assert "nvidia-imex-570" in found["purge"]
    right = plan(driven(packages={"nvidia-imex": f"{WANTED}-1"}))
    assert right["optional"] == plan(driven())["optional"] == ["linux-headers-amd64=6.1.187-1"]


def test_a_minimal_host_gets_what_the_repository_is_reached_with() -> None:
    assert plan(VIRGIN)["prerequisites"] == ["ca-certificates"]
    there = host(packages={"ca-certificates": "20250419"})
    assert plan(there)["prerequisites"] == plan(VIRGIN, source="distro")["prerequisites"] == []


def test_the_source_is_named_with_its_key() -> None:
    address = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
    assert plan(VIRGIN)["source"] == {
        "name": "baremetal-vllm-nvidia",
        "uris": [address],
        "suites": ["/"],
        "components": [],
        "architectures": ["amd64"],
        "key_url": f"{address}3bf863cc.pub",
        "fingerprints": ["EB693B3035CD5710E231E123A4B469963BF863CC"],
        "replaces": {
            "uris": ["developer.download.nvidia.com/compute/cuda/repos"],
            "keys": [
                "AE09FE4BBD223A84B2CCFCE3F60F4B3D7FA2AF80",
                "EB693B3035CD5710E231E123A4B469963BF863CC",
            ],
        },
        "state": "present",
    }
    trixie = plan(VIRGIN, TRIXIE)["source"]
    assert trixie["key_url"].endswith("/debian13/x86_64/8793F200.pub")
    assert trixie["fingerprints"] == ["02182E60104FCDC26EAE1B8597A5D4CB8793F200"]
    arm = plan(VIRGIN, UBUNTU | {"architecture": "aarch64"})["source"]
    assert (arm["uris"][0].split("/")[-3:], arm["architectures"]) == (
        ["ubuntu2404", "sbsa", ""],
        ["arm64"],
    )


def test_a_mirror_may_have_another_key() -> None:
    source = plan(
        VIRGIN, repository="http://mirror/cuda", key_url="http://mirror/key", key_fingerprints=["A"]
    )["source"]
    assert (source["uris"], source["key_url"], source["fingerprints"]) == (
        ["http://mirror/cuda/"],
        "http://mirror/key",
        ["A"],
    )
    assert plan(VIRGIN, repository="http://m/c/")["source"]["key_url"] == "http://m/c/3bf863cc.pub"


def test_the_pin_covers_the_driver_and_no_other_release() -> None:
    text = plan(VIRGIN)["preferences"]
    assert text.splitlines()[-2:] == [f"Pin: version {WANTED}-*", "Pin-Priority: 1001"]
    assert " libnvidia-* " in text


@pytest.mark.parametrize(
    ("facts", "version", "names"),
    [
        (
            UBUNTU,
            WANTED,
            [
                f"libnvidia-compute-580={WANTED}-*",
                f"nvidia-dkms-580-open={WANTED}-*",
                f"nvidia-persistenced={WANTED}-*",
                f"nvidia-modprobe={WANTED}-*",
            ],
        ),
        (
            UBUNTU,
            "595.91.07",
            [
                "libnvidia-compute=595.91.07-*",
                "nvidia-dkms-open=595.91.07-*",
                "nvidia-persistenced=595.91.07-*",
                "nvidia-modprobe=595.91.07-*",
            ],
        ),
        (TRIXIE, "595.91.07", [f"{name}=595.91.07-*" for name in DRIVER]),
    ],
)
def test_names_by_distribution_and_branch(
    facts: dict[str, Any], version: str, names: list[str]
) -> None:
    found = plan(host(kernel={"headers": True}), facts, version=version)
    assert found["packages"] == names


@pytest.mark.parametrize(
    ("devices", "managers", "packages", "modules"),
    [
        ([H100, SOUND], [], [], []),
        ([H100, SWITCH], [], [f"nvidia-fabricmanager={WANTED}-*"], []),
        (
            [B200],
            ["0000:05:00.0"],
            [f"nvidia-fabricmanager={WANTED}-*", "nvlsm", "infiniband-diags"],
            ["mlx5_core", "ib_umad"],
        ),
    ],
)
def test_the_fabric_manager_comes_with_switches_only(
    devices: list[dict[str, str]], managers: list[str], packages: list[str], modules: list[str]
) -> None:
    found = plan(
        host(kernel={"headers": True}, nvidia={"devices": devices, "switch_managers": managers})
    )
    assert found["packages"][4:] == packages
    assert found["modules"] == modules
    assert ("nvidia-fabricmanager.service" in found["services"]) == bool(packages)
    written = {each["path"]: each for each in found["files"]}[_driver.MODULES]
    assert written["state"] == ("present" if modules else "absent")


def test_preflight_reads_every_package_that_a_plan_may_want() -> None:
    """What it does not read would never be there, and the host never converge."""
    b200 = host(nvidia={"devices": [B200, SWITCH], "switch_managers": ["0000:05:00.0"]})
    for facts in (DEBIAN, TRIXIE, UBUNTU):
        for spec in plan(b200, facts)["packages"]:
            name = spec.partition("=")[0]
            assert any(fnmatch.fnmatch(name, pattern) for pattern in _driver.PACKAGES), name


def test_another_release_lets_go_of_all_that_is_held() -> None:
    """apt moves no held package that is not named, and the libraries are not."""
    state = driven(OLD)
    found = plan(state, reboot=True)
    assert found["install"]
    assert sorted(found["unhold"]) == sorted(state["held"])
    assert plan(driven())["unhold"] == []


def test_nouveau_is_kept_away_and_leaves_at_a_reboot() -> None:
    found = plan(host(kernel={"nouveau": True}), reboot=True)
    assert found["problems"] == []
    assert (found["load"], found["initramfs"]) == (False, "update-initramfs -u -k all")
    assert found["reboot"] == (
        "nouveau drives the GPUs, and gives them up at a reboot only; reboot the host, then run"
        " again."
    )
    assert "blacklist nouveau" in found["files"][0]["content"]
    assert (
        plan(host(kernel={"nouveau": True}, paths={"/usr/sbin/update-initramfs": {}}))["initramfs"]
        == ""
    )


def test_a_kernel_that_waits_for_its_boot_gets_headers_too() -> None:
    found = plan(host(packages={f"linux-image-{NEXT}": "6.1.190-1"}))
    assert found["headers"] == {
        RELEASE: f"linux-headers-{RELEASE}",
        NEXT: f"linux-headers-{NEXT}",
    }


@pytest.mark.parametrize(
    ("kernel", "newer"),
    [("6.12.94+deb13-amd64", "6.12.107+deb13-amd64"), ("6.8.0-9-generic", "6.8.0-10-generic")],
)
def test_kernels_are_compared_by_number(kernel: str, newer: str) -> None:
    both = {f"linux-image-{kernel}": "1", f"linux-image-{newer}": "1", "linux-image-6.9-dbg": None}
    for running, waiting in ((kernel, [newer]), (newer, [])):
        state = host(packages=both, kernel={"release": running, "headers": True})
        assert list(plan(state)["headers"]) == waiting


# -- nothing to do -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "settings"),
    [
        (driven(), {}),
        (driven(), {"serving": ["vllm@a.service"]}),
        (driven(OLD), {"version": OLD, "serving": ["vllm@a.service"]}),
        # Headers of the running kernel have left the archive; the module is there.
        (driven(kernel={"headers": False}), {}),
        # Another GPU's display runs on nouveau.
        (driven(kernel={"nouveau": True}), {}),
        # A newer kernel waits; provisioning is not held up by it.
        (driven(packages={f"linux-image-{NEXT}": "6.1.190-1"}), {}),
        (driven(nvidia={"module": {"version": WANTED, "open": None}}), {}),
        (VIRGIN, {"wants_gpus": False}),
        (host(nvidia={"devices": [SWITCH]}), {}),  # preflight says that there is no GPU
    ],
)
def test_a_host_that_is_as_it_shall_be(state: dict[str, Any], settings: dict[str, Any]) -> None:
    found = plan(state, **settings)
    assert (found["problems"], found["converged"]) == ([], True)


def test_preflight_refuses_the_system_so_nothing_is_said_here() -> None:
    found = plan(VIRGIN, DEBIAN | {"distribution_version": "11.9"})
    assert (found["problems"], found["converged"]) == ([], True)


@pytest.mark.parametrize(
    "state",
    [
        driven(held=[]),
        driven(unfinished=["nvidia-kernel-open-dkms"]),
        driven(
            services={"nvidia-persistenced.service": {"active": "failed", "enabled": "enabled"}}
        ),
        driven(
            services={"nvidia-persistenced.service": {"active": "active", "enabled": "disabled"}}
        ),
        driven(read={_driver.PREFERENCES: None}),
        driven(read={_driver.BLACKLIST: "blacklist nouveau\n"}),
        driven(packages={"nvidia-modprobe": None}),
        driven(packages={"nvidia-driver-pinning-580": "580-5"}),
        driven(paths={f"/etc/apt/sources.list.d/{_driver.NAME}.sources": {"exists": False}}),
        driven(paths={f"/etc/apt/keyrings/{_driver.NAME}.asc": {"exists": False}}),
        driven(nvidia={"module": None}),
    ],
)
def test_a_host_that_lacks_something(state: dict[str, Any]) -> None:
    found = plan(state)
    assert (found["problems"], found["converged"]) == ([], False)


def test_a_rotated_key_is_a_change() -> None:
    found = plan(driven(), key_fingerprints=["02182E60104FCDC26EAE1B8597A5D4CB8793F200"])
    assert (found["converged"], found["install"], found["problems"]) == (False, False, [])


def test_what_apt_was_interrupted_in_is_installed_again() -> None:
    half = driven(packages=dict.fromkeys(DRIVER), unfinished=list(DRIVER), nvidia={"module": None})
    found = plan(half)
    assert (found["install"], found["problems"]) == (True, [])


def test_packages_beside_a_driver_that_runs_disturb_nobody() -> None:
    found = plan(driven(packages={"nvidia-modprobe": None}), serving=["vllm@a.service"])
    assert (found["install"], found["disturbs"], found["problems"]) == (True, False, [])


# -- another release, another source -------------------------------------------------------------


@pytest.mark.parametrize(("there", "wanted"), [(OLD, WANTED), ("595.91.07", WANTED)])
def test_another_release_is_installed_and_waits_for_a_reboot(there: str, wanted: str) -> None:
    found = plan(driven(there), version=wanted, reboot=True)
    assert found["problems"] == []
    assert (found["install"], found["disturbs"], found["may_reboot"]) == (True, True, True)
    assert found["reboot"] == (
        f"driver {there} is loaded, and {wanted} takes its place at a reboot only; reboot the host,"
        " then run again."
    )


@pytest.mark.parametrize(
    ("consent", "local", "may"),
    [(True, False, True), (True, True, False), (False, False, False), (None, False, False)],
)
def test_a_run_reboots_with_consent_and_never_the_machine_it_runs_on(
    consent: bool | None, local: bool, may: bool
) -> None:
    assert plan(driven(OLD), reboot=consent, local=local)["may_reboot"] is may


def test_an_old_fabric_manager_makes_room_on_debian() -> None:
    found = plan(host(packages={"nvidia-fabricmanager-575": "575.57.08-1"}), reboot=True)
    assert (found["problems"], found["purge"]) == ([], ["nvidia-fabricmanager-575"])


def test_ubuntus_packages_of_another_branch_are_removed_without_asking() -> None:
    names = {
        "libnvidia-compute-580": f"{WANTED}-1ubuntu1",
        "nvidia-dkms-580-open": f"{WANTED}-1ubuntu1",
        "nvidia-persistenced": f"{WANTED}-1ubuntu1",
    }
    found = plan(host(packages=names), UBUNTU, version="595.91.07", reboot=True)
    assert (found["problems"], found["purge"]) == (
        [],
        ["libnvidia-compute-580", "nvidia-dkms-580-open"],
    )


@pytest.mark.parametrize(
    ("facts", "packages", "purge"),
    [
        (
            TRIXIE,
            {"nvidia-open-kernel-dkms": "550.163.01-2", "libcuda1": "550.163.01-2"},
            ["nvidia-open-kernel-dkms"],
        ),
        (DEBIAN, {"nvidia-kernel-dkms": f"{WANTED}-1"}, ["nvidia-kernel-dkms"]),
        (
            UBUNTU,
            {
                "nvidia-utils-580-server": "580.126.09-0ubuntu0.24.04.2",
                "linux-modules-nvidia-580-server-open-generic": "6.8.0-90.91",
                "libnvidia-compute-580": "580.126.09-0ubuntu0.24.04.2",
            },
            ["linux-modules-nvidia-580-server-open-generic", "nvidia-utils-580-server"],
        ),
    ],
)
def test_a_driver_of_another_source_goes_with_consent(
    facts: dict[str, Any], packages: dict[str, str], purge: list[str]
) -> None:
    state = host(packages=packages)
    assert plan(state, facts)["problems"] != []
    found = plan(state, facts, replace=True)
    assert (found["problems"], found["purge"], found["install"]) == ([], purge, True)


def test_the_installers_own_driver_goes_by_its_own_program() -> None:
    state = host(
        nvidia={"library": OLD, "module": {"version": OLD, "open": False}},
        paths={"/usr/bin/nvidia-uninstall": {"exists": True}},
    )
    found = plan(state, replace=True, reboot=True)
    assert (found["problems"], found["uninstall"]) == (
        [],
        ["/usr/bin/nvidia-uninstall", "--silent"],
    )
    assert found["disturbs"] is True


def test_a_removal_that_was_killed_is_no_foreign_driver() -> None:
    """The old packages are gone, the new ones not there yet, the old module still loaded."""
    found = plan(host(nvidia={"module": {"version": OLD, "open": True}}), reboot=True)
    assert (found["problems"], found["install"]) == ([], True)


# -- the distribution's own ------------------------------------------------------------------------


def test_debian_13_has_packages_of_its_own() -> None:
    found = plan(VIRGIN, TRIXIE, source="distro")
    assert found["packages"] == [
        "nvidia-open-kernel-dkms",
        "nvidia-smi",
        "libcuda1",
        "nvidia-persistenced",
        f"linux-headers-{RELEASE}",
    ]
    assert (found["wanted"], found["source"], found["preferences"]) == (None, None, "")
    assert found["notes"] == [
        "takes the driver of Debian 13, whose branch is older than 580; vLLM's images may refuse"
        " it, and it gets no fixes from NVIDIA. nvidia_driver_source 'nvidia' brings a supported"
        " one."
    ]


def test_ubuntu_has_modules_for_each_of_its_kernels_that_secure_boot_takes() -> None:
    kernel = "6.8.0-90-generic"
    state = host(
        packages={
            "linux-image-amd64": None,
            f"linux-image-{RELEASE}": None,
            f"linux-image-{kernel}": "6.8.0-90.91",
            "linux-image-virtual": "6.8.0-90.91",
        },
        kernel={"release": kernel, "secure_boot": True, "module_key_enrolled": False},
    )
    state["packages"] = {name: version for name, version in state["packages"].items() if version}
    found = plan(state, UBUNTU, source="distro")
    assert found["problems"] == []
    assert found["packages"] == [
        "nvidia-headless-no-dkms-580-server-open",
        "nvidia-utils-580-server",
        f"linux-modules-nvidia-580-server-open-{kernel}",
    ]
    assert found["optional"] == ["linux-modules-nvidia-580-server-open-generic"]


def test_modules_that_follow_the_kernel_are_not_held() -> None:
    state = host(
        packages={
            "nvidia-utils-580-server": "580.126.09-0ubuntu0.24.04.2",
            "linux-modules-nvidia-580-server-open-generic": "6.8.0-90.91",
            "nvidia-container-toolkit": "1.20.1-1",
        }
    )
    assert progress(plan(state, UBUNTU, source="distro"), state)["hold"] == [
        "nvidia-utils-580-server"
    ]


def test_from_nvidia_back_to_the_distribution_source_and_pin_go() -> None:
    found = plan(driven(), TRIXIE, source="distro", replace=True, reboot=True)
    assert found["source"] == {"name": "baremetal-vllm-nvidia", "state": "absent"}
    assert found["preferences"] == ""
    assert found["purge"] == ["nvidia-driver-cuda", "nvidia-kernel-open-dkms"]


# -- the operator's own --------------------------------------------------------------------------


def test_a_driver_that_was_there_is_looked_at_only() -> None:
    state = host(nvidia={"module": {"version": OLD, "open": False}, "library": OLD})
    found = plan(state, source="preinstalled")
    assert (found["problems"], found["converged"], found["packages"]) == ([], True, [])
    assert found["notes"] == [
        f"driver {OLD} lacks security fixes that {WANTED} has (NVIDIA's bulletin 5861); set"
        f" nvidia_driver_version to {WANTED} or newer."
    ]


def switched(active: str, fabric: dict[str, str]) -> dict[str, Any]:
    """A host with NVSwitches, and with a driver and perhaps a fabric manager of the operator's."""
    return host(
        packages=fabric,
        services={"nvidia-fabricmanager.service": {"active": active, "enabled": "enabled"}},
        nvidia={
            "devices": [H100, SWITCH],
            "module": {"version": WANTED, "open": True},
            "library": WANTED,
        },
    )


@pytest.mark.parametrize(
    "fabric",
    [
        {},  # not from a package
        {"nvidia-fabricmanager": f"{WANTED}-1"},
        {"nvidia-fabricmanager-580": f"{WANTED}-0ubuntu0.24.04.1"},
    ],
)
def test_a_fabric_manager_that_was_there_and_fits(fabric: dict[str, str]) -> None:
    found = plan(switched("active", fabric), source="preinstalled")
    assert (found["problems"], found["converged"]) == ([], True)


# -- refusals: each has its sentence ---------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    (
        VIRGIN,
        DEBIAN,
        {"version": "580"},
        "nvidia_driver_version is '580'; write a release of NVIDIA's driver in full and in quotes,"
        " such as '580.178.04'.",
    ),
    (
        VIRGIN,
        DEBIAN,
        {"version": "570.195.03"},
        "nvidia_driver_version is 570.195.03; vLLM's images need branch 580 or newer; choose such a"
        " release.",
    ),
    (
        VIRGIN,
        DEBIAN | {"architecture": "ppc64le"},
        {},
        "is a machine of type ppc64le, for which there is no driver; supported are x86_64,"
        " aarch64.",
    ),
    (
        host(nvidia={"devices": [V100]}),
        DEBIAN,
        {},
        "has only GPUs from before Turing (10de:1db4 at 0000:3b:00.0), which the open kernel"
        " modules do not drive; fit a newer GPU, or install the proprietary driver of branch 580"
        " yourself and set nvidia_driver_source to 'preinstalled'.",
    ),
    (
        host(kernel={"secure_boot": True, "module_key_enrolled": False}),
        DEBIAN,
        {},
        "has Secure Boot on, which refuses a kernel module built here as long as its key is not"
        " enrolled; switch Secure Boot off in the firmware, or install dkms, run `dkms generate_mok"
        " && mokutil --import /var/lib/dkms/mok.pub`, reboot, choose Enroll MOK at the console,"
        " then run again.",
    ),
    (
        host(kernel={"secure_boot": True, "module_key_enrolled": False}),
        UBUNTU,
        {},
        "has Secure Boot on, which refuses a kernel module built here as long as its key is not"
        " enrolled; switch Secure Boot off in the firmware, set nvidia_driver_source to 'distro'"
        " for modules that Canonical signed, or install dkms, run `update-secureboot-policy"
        " --new-key && mokutil --import /var/lib/shim-signed/mok/MOK.der`, reboot, choose Enroll"
        " MOK at the console, then run again.",
    ),
    (
        driven(OLD),
        DEBIAN,
        {},
        f"needs a reboot: driver {OLD} is loaded, and {WANTED} takes its place at a reboot only;"
        " set nvidia_driver_reboot: true to let the run reboot the host once, or false to install"
        " now and reboot it yourself later.",
    ),
    (
        driven(nvidia={"module": {"version": OLD, "open": True}}),
        DEBIAN,
        {},
        f"needs a reboot: driver {OLD} is loaded, and {WANTED} takes its place at a reboot only;"
        " set nvidia_driver_reboot: true to let the run reboot the host once, or false to reboot it"
        " yourself later.",
    ),
    (
        driven(nvidia={"module": {"version": WANTED, "open": False}}),
        DEBIAN,
        {},
        "needs a reboot: the proprietary module is loaded, and gives way to the open one at a"
        " reboot only; set nvidia_driver_reboot: true to let the run reboot the host once, or false"
        " to reboot it yourself later.",
    ),
    (
        host(kernel={"nouveau": True}),
        DEBIAN,
        {},
        "needs a reboot: nouveau drives the GPUs, and gives them up at a reboot only; set"
        " nvidia_driver_reboot: true to let the run reboot the host once, or false to install now"
        " and reboot it yourself later.",
    ),
    (
        driven(OLD),
        DEBIAN,
        {"reboot": True, "serving": ["vllm@a.service", "vllm@b.service"]},
        "needs a reboot while vllm@a.service, vllm@b.service serve; stop them first (systemctl stop"
        " vllm@a.service vllm@b.service), then run again.",
    ),
    (
        driven(OLD),
        DEBIAN,
        {"reboot": False, "serving": ["vllm@a.service"]},
        "needs another driver while vllm@a.service serves; stop it first (systemctl stop"
        " vllm@a.service), then run again.",
    ),
    (
        host(nvidia={"library": OLD}),
        DEBIAN,
        {},
        f"has driver {OLD} from NVIDIA's installer or a copy, not from packages, and"
        " nvidia_driver_source is 'nvidia'; set nvidia_driver_replace: true to have it removed, or"
        " nvidia_driver_source to 'preinstalled' to keep it.",
    ),
    (
        host(paths={"/usr/bin/nvidia-uninstall": {"exists": True}}),
        DEBIAN,
        {},
        "has driver of an unknown version from NVIDIA's installer or a copy, not from packages, and"
        " nvidia_driver_source is 'nvidia'; set nvidia_driver_replace: true to have it removed, or"
        " nvidia_driver_source to 'preinstalled' to keep it.",
    ),
    (
        host(nvidia={"library": OLD}),
        DEBIAN,
        {"replace": True},
        f"has libraries of driver {OLD} that no package and no nvidia-uninstall owns; remove them"
        " by hand, or set nvidia_driver_source to 'preinstalled' to keep them.",
    ),
    (
        host(packages={"nvidia-open-kernel-dkms": "550.163.01-2"}),
        TRIXIE,
        {},
        "has a driver from the distribution's packages (nvidia-open-kernel-dkms), and"
        " nvidia_driver_source is 'nvidia'; set nvidia_driver_replace: true to have it removed, or"
        " nvidia_driver_source to 'distro' to keep it.",
    ),
    (
        host(packages={"nvidia-driver-cuda": f"{WANTED}-1"}),
        TRIXIE,
        {"source": "distro"},
        "has a driver from NVIDIA's repository (nvidia-driver-cuda), and nvidia_driver_source is"
        " 'distro'; set nvidia_driver_replace: true to have it removed, or nvidia_driver_source to"
        " 'nvidia' to keep it.",
    ),
    (
        host(packages={"nvidia-kernel-dkms": f"{WANTED}-1"}),
        DEBIAN,
        {},
        "has a driver with the proprietary kernel module (nvidia-kernel-dkms), and"
        " nvidia_driver_source is 'nvidia', which brings the open one; set nvidia_driver_replace:"
        " true to have it removed, or nvidia_driver_source to 'preinstalled' to keep it.",
    ),
    (
        VIRGIN,
        DEBIAN,
        {"source": "distro"},
        "nvidia_driver_source is 'distro', but Debian 12 has its open kernel module and its"
        " libraries in versions that do not work together; set nvidia_driver_source to 'nvidia'.",
    ),
    (
        host(nvidia={"devices": [H100, SWITCH]}),
        TRIXIE,
        {"source": "distro"},
        "has NVSwitches, which need the fabric manager, and Debian 13 has none of its own; set"
        " nvidia_driver_source to 'nvidia'.",
    ),
    (
        VIRGIN,
        DEBIAN,
        {"source": "preinstalled"},
        "nvidia_driver_source is 'preinstalled', but no NVIDIA driver is loaded; load it (modprobe"
        " nvidia), mend it, or set nvidia_driver_source to 'nvidia'.",
    ),
    (
        host(nvidia={"module": {"version": OLD, "open": True}, "library": WANTED}),
        DEBIAN,
        {"source": "preinstalled"},
        f"nvidia_driver_source is 'preinstalled', but the loaded module is {OLD} and its library is"
        f" {WANTED}; reboot the host, mend it, or set nvidia_driver_source to"
        " 'nvidia'.",
    ),
    (
        host(nvidia={"module": {"version": WANTED, "open": True}}),
        DEBIAN,
        {"source": "preinstalled"},
        f"nvidia_driver_source is 'preinstalled', but the loaded module is {WANTED} and its library"
        " is missing; reboot the host, mend it, or set nvidia_driver_source to 'nvidia'.",
    ),
    (
        host(
            nvidia={"module": {"version": "550.54.15", "open": True}, "library": "550.54.15"},
        ),
        DEBIAN,
        {"source": "preinstalled"},
        "nvidia_driver_source is 'preinstalled', but the loaded module is 550.54.15, and vLLM's"
        " images need branch 580 or newer; upgrade it, or set nvidia_driver_source to 'nvidia'.",
    ),
    (
        switched("inactive", {}),
        DEBIAN,
        {"source": "preinstalled"},
        "nvidia_driver_source is 'preinstalled', but the host has NVSwitches and"
        f" nvidia-fabricmanager.service does not run; install the fabric manager of {WANTED} and"
        " start it (systemctl enable --now nvidia-fabricmanager.service), mend it, or set"
        " nvidia_driver_source to 'nvidia'.",
    ),
    (
        switched("active", {"nvidia-fabricmanager-580": f"{OLD}-1"}),
        DEBIAN,
        {"source": "preinstalled"},
        f"nvidia_driver_source is 'preinstalled', but the loaded module is {WANTED} and the fabric"
        f" manager {OLD}; install the one of the same release, mend it, or set"
        " nvidia_driver_source to 'nvidia'.",
    ),
    (
        driven("595.91.07", read={_driver.PREFERENCES: None}),
        DEBIAN,
        {"reboot": True},
        "has driver 595.91.07, which no run of this collection has pinned, and"
        f" nvidia_driver_version is {WANTED}, which is older; set nvidia_driver_version to"
        " '595.91.07' to keep it, or nvidia_driver_replace: true to have it replaced.",
    ),
    (
        signed(),
        UBUNTU,
        {"replace": True, "reboot": True},
        "has Secure Boot on, which refuses a kernel module built here as long as its key is not"
        " enrolled; switch Secure Boot off in the firmware, set nvidia_driver_source to 'distro'"
        " for modules that Canonical signed, or install dkms, run `update-secureboot-policy"
        " --new-key && mokutil --import /var/lib/shim-signed/mok/MOK.der`, reboot, choose Enroll"
        " MOK at the console, then run again.",
    ),
    (
        signed(packages={"nvidia-utils-580-server": None}, unfinished=["nvidia-utils-580-server"]),
        UBUNTU,
        {"source": "distro", "serving": ["vllm@a.service"]},
        "needs another driver while vllm@a.service serves; stop it first (systemctl stop"
        " vllm@a.service), then run again.",
    ),
    (
        signed("595", "595.71.05"),
        UBUNTU,
        {"source": "distro", "reboot": True},
        f"has a driver of branch 595 (linux-modules-nvidia-595-server-open-{UBUNTUS},"
        " linux-modules-nvidia-595-server-open-generic, nvidia-headless-no-dkms-595-server-open,"
        " nvidia-utils-595-server), and nvidia_driver_version asks for 580; set"
        " nvidia_driver_replace: true to have it removed, or nvidia_driver_version to a release of"
        " 595 to keep it.",
    ),
]


@pytest.mark.parametrize(("state", "facts", "settings", "sentence"), REFUSED)
def test_refused_before_anything_changes(
    state: dict[str, Any], facts: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    found = plan(state, facts, **settings)
    assert (found["problems"], found["converged"]) == ([sentence], False)


@pytest.mark.parametrize(
    ("state", "settings"),
    [
        # A module that loads under Secure Boot has a key that is enrolled.
        (driven(kernel={"secure_boot": True, "module_key_enrolled": False}), {}),
        (host(kernel={"secure_boot": True, "module_key_enrolled": True}), {}),
        (driven(OLD), {"reboot": False}),
        (driven(OLD), {"reboot": True, "local": True}),
        # What serves on a CPU loses nothing by a first driver.
        (VIRGIN, {"serving": ["vllm@cpu.service"]}),
        # Installed already, and the operator reboots later: engines may go on until then.
        (
            driven(nvidia={"module": {"version": OLD, "open": True}}),
            {"reboot": False, "serving": ["vllm@a.service"]},
        ),
        (host(nvidia={"devices": [V100, H100]}), {}),
    ],
)
def test_not_refused(state: dict[str, Any], settings: dict[str, Any]) -> None:
    assert plan(state, **settings)["problems"] == []


# -- notes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "settings", "note"),
    [
        (
            driven(OLD),
            {"version": OLD},
            f"driver {OLD} lacks security fixes that {WANTED} has (NVIDIA's bulletin 5861); set"
            f" nvidia_driver_version to {WANTED} or newer.",
        ),
        (
            host(nvidia={"devices": [V100, H100]}),
            {},
            "has a GPU from before Turing (10de:1db4 at 0000:3b:00.0), which the open kernel"
            " modules leave out; the others work.",
        ),
        (
            host(nvidia={"devices": [B200, B200]}),
            {},
            "has GPUs of an HGX baseboard, but no NVSwitch and no bridge that manages one is seen;"
            " if they are there, the fabric manager will be missing (CUDA error 802).",
        ),
        (
            driven(packages={f"linux-image-{NEXT}": "6.1.190-1"}),
            {},
            f"kernel {NEXT} boots next and has no driver; install linux-headers-{NEXT} before the"
            " host is rebooted.",
        ),
        (
            driven(),
            {"local": True, "reboot": True},
            "is the machine that Ansible runs on; it is never rebooted by a run.",
        ),
    ],
)
def test_what_the_operator_is_told(
    state: dict[str, Any], settings: dict[str, Any], note: str
) -> None:
    assert plan(state, **settings)["notes"] == [note]


# -- the versions that apt is told -----------------------------------------------------------------

OURS = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64  Packages"
ARCHIVE = "http://archive.example/debian bookworm/main amd64 Packages"


def table(*rows: tuple[str, str, str]) -> str:
    return "\n".join(f"{name:>26} | {version:>20} | {where}" for name, version, where in rows)


ALL = [(name, f"{version}-1", OURS) for name in DRIVER for version in (WANTED, OLD)]
HEADERS = (f"linux-headers-{RELEASE}", "6.1.187-1", ARCHIVE)


def test_exact_versions_are_chosen_from_the_lists() -> None:
    meta = ("linux-headers-amd64", "6.1.187-1", ARCHIVE)
    found = choose_packages(plan(VIRGIN), table(*ALL, HEADERS, meta))
    assert found == {
        "install": [
            *(f"{name}={WANTED}-1" for name in DRIVER),
            f"linux-headers-{RELEASE}",
            "linux-headers-amd64=6.1.187-1",
        ],
        "problems": [],
    }


def test_headers_are_of_the_kernels_archive_and_not_of_the_newest() -> None:
    """Backports are enabled, and apt would leave them alone."""
    backports = "http://archive.example/debian trixie-backports/main amd64 Packages"
    newer = ("linux-headers-amd64", "6.16.3-1~bpo13+1", backports)
    same = ("linux-headers-amd64", "6.1.187-1", ARCHIVE)
    assert choose_packages(plan(VIRGIN), table(*ALL, HEADERS, newer, same))["install"][-1] == (
        "linux-headers-amd64=6.1.187-1"
    )
    # The archive has gone on: which of them it is apt knows.
    other = ("linux-headers-amd64", "6.1.190-1", ARCHIVE)
    assert choose_packages(plan(VIRGIN), table(*ALL, HEADERS, newer, other))["install"][-1] == (
        "linux-headers-amd64"
    )
    assert choose_packages(plan(VIRGIN), table(*ALL, HEADERS))["install"][-1] == HEADERS[0]


def test_apt_chooses_the_releases_of_the_distribution() -> None:
    backports = "http://archive.example/debian trixie-backports/non-free amd64 Packages"
    planned = plan(VIRGIN, TRIXIE, source="distro")
    names = [*planned["packages"], "nvidia-modprobe", "linux-headers-amd64"]
    rows = [
        row
        for name in names
        for row in ((name, "555.1-1~bpo13+1", backports), (name, "550.163.01-2", ARCHIVE))
    ]
    assert choose_packages(planned, table(*rows)) == {"install": names, "problems": []}


def test_our_repository_comes_before_others_that_use_the_names() -> None:
    ours = "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64  Packages"
    archive = "http://archive.ubuntu.com/ubuntu noble/restricted amd64 Packages"
    names = [spec.partition("=")[0] for spec in plan(driven(), UBUNTU)["packages"]]
    rows = [
        row
        for name in [*names, "nvidia-utils-580"]
        for row in (
            (name, f"{WANTED}-1ubuntu9~archive", archive),
            *([(name, f"{WANTED}-1ubuntu1", ours)] if name != "nvidia-utils-580" else []),
        )
    ]
    state = host(kernel={"headers": True})
    state["packages"] = {}
    found = choose_packages(plan(state, UBUNTU), table(*rows))
    assert found == {"install": [f"{name}={WANTED}-1ubuntu1" for name in names], "problems": []}


@pytest.mark.parametrize(
    ("rows", "refusal", "sentence"),
    [
        (
            ALL,
            "",
            f"the package lists have no linux-headers-{RELEASE}, the headers of kernel {RELEASE},"
            " so it would have no driver; upgrade the kernel and boot the new one (apt-get install"
            " --only-upgrade 'linux-image-*', then reboot), or enable the archive that has it, then"
            " run again.",
        ),
        (
            [HEADERS, *(row for row in ALL if WANTED not in row[1] or row[0] != DRIVER[0])],
            "",
            "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64 has no"
            f" nvidia-driver-cuda {WANTED}, but {OLD}-1; set nvidia_driver_version to one of its"
            " releases.",
        ),
        (
            [HEADERS, *ALL[2:]],
            "W: first\nE: Failed to fetch https://x Could not connect\n",
            "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64 has no"
            " package nvidia-driver-cuda (apt-get update: E: Failed to fetch https://x Could not"
            " connect); see that the host reaches it, and look at nvidia_driver_repository, then"
            " run again.",
        ),
        (
            [HEADERS, *ALL[2:]],
            "",
            "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64 has no"
            " package nvidia-driver-cuda; see that the host reaches it, and look at"
            " nvidia_driver_repository, then run again.",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_installed(
    rows: list[tuple[str, str, str]], refusal: str, sentence: str
) -> None:
    assert choose_packages(plan(VIRGIN), table(*rows), refusal)["problems"] == [sentence]


def test_debians_own_needs_its_components() -> None:
    found = choose_packages(plan(VIRGIN, TRIXIE, source="distro"), table(HEADERS))
    assert found["problems"][0] == (
        "the distribution's archive has no package nvidia-open-kernel-dkms; enable its components"
        " (Debian: contrib, non-free and non-free-firmware), then run again."
    )


def test_ubuntus_signed_modules_are_needed_for_the_kernel_that_runs() -> None:
    state = host(kernel={"release": "6.8.0-90-custom"})
    state["packages"] = {}
    found = choose_packages(plan(state, UBUNTU, source="distro"), "")
    assert found["problems"][-1] == (
        "the package lists have no linux-modules-nvidia-580-server-open-6.8.0-90-custom, the signed"
        " modules of kernel 6.8.0-90-custom, so it would have no driver; upgrade the kernel and"
        " boot the new one (apt-get install --only-upgrade 'linux-image-*', then reboot), or enable"
        " the archive that has it, then run again."
    )


# -- how far it has come -------------------------------------------------------------------------


def test_a_driver_that_runs_needs_nothing_more() -> None:
    assert progress(plan(driven()), driven()) == {
        "hold": [],
        "build": [],
        "load": False,
        "start": [],
        "users": None,
        "reboot": None,
        "unbootable": None,
        "problem": None,
    }


def test_what_was_installed_is_held_loaded_and_started() -> None:
    state = driven(held=[], services={"nvidia-persistenced.service": {}}, nvidia={"module": None})
    found = progress(plan(VIRGIN), state)
    assert found["hold"] == [*DRIVER, "libcuda1", "libnvidia-ml1"]
    assert (found["load"], found["build"]) == (True, [])
    assert found["start"] == ["nvidia-persistenced.service"]


def test_a_build_that_was_killed_is_done_again() -> None:
    state = driven(nvidia={"module": None, "built": {}})
    assert progress(plan(VIRGIN), state)["build"] == [RELEASE]


def test_the_proprietary_module_of_the_same_release_gives_way_at_a_reboot() -> None:
    state = driven(nvidia={"module": {"version": WANTED, "open": False}})
    found = progress(plan(state, reboot=True), state)
    assert found["reboot"] == (
        "the proprietary module is loaded, and gives way to the open one at a reboot only; reboot"
        " the host, then run again."
    )
    assert progress(plan(state, reboot=True), state, rebooted=True)["problem"] is not None


def test_users_of_the_gpus_are_named() -> None:
    state = driven(nvidia={"users": [{"pid": 4711, "process": "python3"}]})
    assert progress(plan(state), state)["users"] == (
        "its GPUs are in use by python3 (4711); stop that first, then run again."
    )


def test_a_run_reboots_once() -> None:
    planned = plan(driven(OLD), reboot=True)
    after = driven(nvidia={"module": {"version": OLD, "open": True}})
    asked = f"driver {OLD} is loaded, and {WANTED} takes its place at a reboot only"
    assert progress(planned, after)["reboot"] == f"{asked}; reboot the host, then run again."
    again = progress(planned, after, rebooted=True)
    assert again["reboot"] is None
    assert again["problem"] == (
        f"{asked}; reboot the host, then run again. The run has rebooted it already; look at"
        " `journalctl -k -b`."
    )


def test_the_distributions_release_is_what_its_library_says() -> None:
    planned = plan(VIRGIN, TRIXIE, source="distro")
    state = host(
        nvidia={"module": {"version": "550.163.01", "open": True}, "library": "550.163.01"}
    )
    assert progress(planned, state)["problem"] is None
    mixed = host(state, nvidia={"library": "550.173.01"})
    assert progress(planned, mixed)["reboot"] is not None


def test_a_kernel_without_module_is_not_booted_into() -> None:
    state = driven(
        packages={f"linux-image-{NEXT}": "6.1.190-1"}, nvidia={"module": {"version": OLD}}
    )
    found = progress(plan(driven(OLD), reboot=True), state)
    assert found["build"] == [NEXT]
    passed_over = driven(nvidia={"module": {"version": OLD}, "built": {RELEASE: OLD}})
    told = progress(plan(driven(OLD), reboot=True), passed_over)["unbootable"]
    assert str(told).startswith(f"kernel {RELEASE} boots next and has no module of driver {WANTED}")
    assert found["unbootable"] == (
        f"kernel {NEXT} boots next and has no module of driver {WANTED}; install"
        f" linux-headers-{NEXT} and look at /var/lib/dkms/nvidia*/{WANTED}/build/make.log, then run"
        " again."
    )
    both = host(state, nvidia={"built": {RELEASE: WANTED, NEXT: WANTED}})
    assert progress(plan(driven(OLD), reboot=True), both)["unbootable"] is None


@pytest.mark.parametrize(
    ("nvidia", "kernel", "sentence"),
    [
        (
            {"module": None, "built": {NEXT: WANTED}},
            {},
            f"no module of driver {WANTED} was built for kernel {RELEASE}, but for {NEXT}; see"
            f" /var/lib/dkms/nvidia*/{WANTED}/build/make.log, or boot a kernel that has it.",
        ),
        (
            {"module": None, "built": {}},
            {},
            f"no module of driver {WANTED} was built for kernel {RELEASE}, but for no kernel; see"
            f" /var/lib/dkms/nvidia*/{WANTED}/build/make.log, or boot a kernel that has it.",
        ),
        (
            {"module": None},
            {},
            f"driver {WANTED} is built for kernel {RELEASE} and cannot be loaded; see `modprobe"
            " nvidia` and `journalctl -k -b -g NVRM`.",
        ),
        (
            {"module": None},
            {"nouveau": True},
            "nouveau drives the GPUs, and gives them up at a reboot only; reboot the host, then run"
            " again.",
        ),
        (
            {"library": None},
            {},
            "the packages are installed and libnvidia-ml.so.1 is in none of the loader's"
            " directories; run `dpkg --verify`, then `ldconfig`.",
        ),
        (
            {"library": OLD},
            {},
            f"programs load libnvidia-ml {OLD} and not {WANTED}; remove the other copy from the"
            " loader's directories (find /usr/lib /usr/local/lib -name 'libnvidia-ml.so*').",
        ),
    ],
)
def test_what_is_still_wrong_has_a_sentence(
    nvidia: dict[str, Any], kernel: dict[str, Any], sentence: str
) -> None:
    state = driven(nvidia=nvidia, kernel=kernel)
    assert progress(plan(VIRGIN), state)["problem"] == sentence


# -- without a release of ours -------------------------------------------------------------------

BRANCH_570 = (
    *("libnvidia-compute-570", "nvidia-dkms-570-open", "nvidia-kernel-common-570"),
    *("nvidia-kernel-source-570-open", "nvidia-utils-570", "nvidia-compute-utils-570"),
)


def test_the_distributions_other_branch_is_not_purged_under_engines() -> None:
    state = host(
        packages=dict.fromkeys(BRANCH_570, "570.195.03-0ubuntu0.24.04.1"),
        nvidia={"module": {"version": "570.195.03", "open": True}, "library": "570.195.03"},
    )
    found = plan(state, UBUNTU, source="distro", serving=["vllm@a.service"])
    assert found["disturbs"] is True
    assert found["problems"] == [
        f"has a driver of branch 570 ({', '.join(sorted(BRANCH_570))}), and nvidia_driver_version"
        " asks for 580; set nvidia_driver_replace: true to have it removed.",
        "needs a reboot: driver 570.195.03 is loaded, and the distribution's takes its place at a"
        " reboot only; set nvidia_driver_reboot: true to let the run reboot the host once, or false"
        " to install now and reboot it yourself later.",
        "needs another driver while vllm@a.service serves; stop it first (systemctl stop"
        " vllm@a.service), then run again.",
    ]
    agreed = plan(state, UBUNTU, source="distro", replace=True, reboot=True)
    assert (agreed["problems"], agreed["purge"]) == ([], sorted(BRANCH_570))
    assert agreed["reboot"] is not None


def test_a_purge_of_another_branch_that_was_killed_still_ends_in_a_reboot() -> None:
    state = host(nvidia={"module": {"version": "570.195.03", "open": True}})
    found = plan(state, UBUNTU, source="distro", reboot=True)
    assert str(found["reboot"]).startswith("driver 570.195.03 is loaded, and the distribution's")


def test_the_distributions_driver_that_runs_is_left_alone() -> None:
    found = plan(signed(), UBUNTU, source="distro", serving=["vllm@a.service"])
    assert (found["problems"], found["install"], found["disturbs"]) == ([], False, False)
    assert found["reboot"] is None


def test_dkms_modules_that_load_under_secure_boot_have_a_key() -> None:
    built = signed(packages={"nvidia-dkms-580-open": f"{OLD}-1ubuntu1"})
    for name in [name for name in built["packages"] if name.startswith("linux-modules-")]:
        del built["packages"][name]
    assert plan(built, UBUNTU, replace=True, reboot=True)["problems"] == []
    installers = host(built, paths={"/usr/bin/nvidia-uninstall": {"exists": True}})
    assert plan(installers, UBUNTU, replace=True, reboot=True)["problems"] != []
    enrolled = signed(kernel={"module_key_enrolled": True})
    assert plan(enrolled, UBUNTU, replace=True, reboot=True)["problems"] == []


@pytest.mark.parametrize(
    ("read", "settings"),
    [
        ({}, {}),  # pinned by a run: what its variables say now goes
        ({_driver.PREFERENCES: None}, {"replace": True}),
        ({_driver.PREFERENCES: None}, {"version": "610.57.04"}),
    ],
)
def test_a_downgrade_that_was_asked_for(read: dict[str, Any], settings: dict[str, Any]) -> None:
    state = driven("595.91.07", read=read)
    assert plan(state, **{"reboot": True, **settings})["problems"] == []


def test_what_the_signed_modules_need_follows_the_kernel_too() -> None:
    version = f"{OLD}-0ubuntu0.24.04.2"
    needed = {
        "nvidia-kernel-common-580-server": version,
        f"nvidia-firmware-580-server-{OLD}": version,
    }
    state = signed(packages=needed)
    held = progress(plan(state, UBUNTU, source="distro"), state)["hold"]
    assert held == ["nvidia-headless-no-dkms-580-server-open", "nvidia-utils-580-server"]
    dkms = driven(packages={"nvidia-kernel-common-580": f"{WANTED}-1"})
    assert progress(plan(dkms), dkms)["hold"] == ["nvidia-kernel-common-580"]


def test_libraries_that_a_new_kernel_has_outrun_are_upgraded_and_not_rebooted() -> None:
    state = signed(nvidia={"module": {"version": WANTED, "open": True}})
    replaced = plan(state, UBUNTU, source="distro", reboot=False)
    assert (replaced["problems"], replaced["reboot"] is None) == ([], False)
    state["nvidia"]["built"] = {UBUNTUS: WANTED}
    found = plan(state, UBUNTU, source="distro")
    assert found["problems"] == [
        f"the kernel has brought module {WANTED}, and the libraries are still {OLD}; upgrade them"
        " (apt-get update && apt-get install --only-upgrade --allow-change-held-packages"
        " nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server), then run again."
    ]
    assert (found["reboot"], found["converged"]) == (None, False)


def test_debians_metapackage_says_nothing_of_the_module() -> None:
    state = driven(packages={"nvidia-driver": f"{WANTED}-1", "cuda-drivers": f"{WANTED}-1"})
    state["held"] += ["nvidia-driver", "cuda-drivers"]
    found = plan(state)
    assert (found["problems"], found["purge"], found["converged"]) == ([], [], True)
    proprietary = host(packages={"nvidia-driver": f"{OLD}-1", "nvidia-kernel-dkms": f"{OLD}-1"})
    assert plan(proprietary, replace=True)["purge"] == ["nvidia-kernel-dkms"]


SCREEN = {"nvidia-settings": "510.47.03-0ubuntu4", "libxnvctrl0": "510.47.03-0ubuntu4"}


@pytest.mark.parametrize("source", ["nvidia", "distro"])
def test_programs_for_a_screen_are_of_no_driver(source: str) -> None:
    found = plan(host(packages=SCREEN), UBUNTU, source=source)
    assert (found["problems"], found["purge"]) == ([], [])


@pytest.mark.parametrize(
    ("facts", "packages", "keep"),
    [
        (UBUNTU, {"nvidia-utils-580-server": f"{OLD}-0ubuntu0.24.04.2"}, "preinstalled"),
        (UBUNTU, {"nvidia-driver-580-open": f"{OLD}-0ubuntu0.24.04.2"}, "preinstalled"),
        (UBUNTU, {"nvidia-headless-580-server-open": f"{OLD}-0ubuntu0.24.04.2"}, "distro"),
        (DEBIAN, {"nvidia-open-kernel-dkms": "550.163.01-2"}, "preinstalled"),
        (TRIXIE, {"nvidia-open-kernel-dkms": "550.163.01-2"}, "distro"),
    ],
)
def test_the_way_to_keep_a_driver_keeps_it(
    facts: dict[str, Any], packages: dict[str, str], keep: str
) -> None:
    (sentence,) = plan(host(packages=packages), facts)["problems"]
    assert sentence.endswith(f"or nvidia_driver_source to {keep!r} to keep it.")


def test_signed_modules_come_as_packages_and_not_from_dkms() -> None:
    newer = "6.8.0-95-generic"
    package = f"linux-modules-nvidia-580-server-open-{newer}"
    state = signed(packages={f"linux-image-{newer}": "6.8.0-95.97"})
    planned = plan(state, UBUNTU, source="distro")
    assert planned["notes"] == [
        f"kernel {newer} boots next and has no driver; install {package} before the host is"
        " rebooted."
    ]
    waiting = host(state, nvidia={"library": WANTED})
    found = progress(planned, waiting)
    assert found["unbootable"] == (
        f"kernel {newer} boots next and has no module of driver {WANTED}; install {package}, then"
        " run again."
    )
    assert found["build"] == []
    bare = host(state, nvidia={"module": None, "built": {}})
    assert progress(planned, bare)["problem"] == (
        f"kernel {UBUNTUS} has no module of driver {OLD}; install"
        f" linux-modules-nvidia-580-server-open-{UBUNTUS}, or boot a kernel that has it."
    )


# -- the role's tasks ----------------------------------------------------------------------------

TASKS = Path(__file__).resolve().parents[4] / "roles" / "nvidia_driver" / "tasks"


def tasks(name: str) -> list[dict[str, Any]]:
    found = yaml.safe_load((TASKS / name).read_text())
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("name", ["install.yml", "build.yml", "unified.yml"])
def test_what_a_program_prints_is_read_in_the_language_it_is_looked_for(name: str) -> None:
    conditions = ("until", "changed_when", "failed_when")
    for task in tasks(name):
        if any(".std" in str(task.get(key)) for key in conditions):
            assert task["environment"]["LC_ALL"] == "C", task["name"]


def test_unified_memory_is_loaded_once_the_driver_runs_and_its_absence_is_told() -> None:
    included = [task.get("ansible.builtin.include_tasks") for task in tasks("finish.yml")]
    assert included.index("reboot.yml") < included.index("unified.yml")
    load, tell = tasks("unified.yml")
    assert load["ansible.builtin.command"]["argv"][-1] == "nvidia-uvm"
    assert load["failed_when"] is False
    assert "stderr" in tell["ansible.builtin.debug"]["msg"]
