# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _tuning

HUGEPAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
GOVERNORS = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors"


def settings(**given: Any) -> dict[str, Any]:
    return {
        "guard": True,
        "cpu_governor": "",
        "transparent_hugepages": "",
        "gpu_clock_lock": "",
        "wants_gpus": True,
        **given,
    }


def host(unit: str = "", **read: str) -> dict[str, Any]:
    """A machine with huge pages and a governor, and what the role wrote in an earlier run."""
    names = {
        "apt": _tuning.APT_FILE,
        "needrestart": _tuning.NEEDRESTART_FILE,
        "tmpfiles": _tuning.TMPFILES_FILE,
        "clocks": _tuning.CLOCK_FILE,
        "hugepages": HUGEPAGES,
        "governor": GOVERNOR,
        "governors": GOVERNORS,
    }
    content: dict[str, str | None] = dict.fromkeys(_tuning.READS)
    content |= {
        HUGEPAGES: "always [madvise] never\n",
        GOVERNOR: "powersave\n",
        GOVERNORS: "performance powersave\n",
    }
    content |= {names[name]: text for name, text in read.items()}
    active = {"load": "loaded", "active": "active", "enabled": "enabled"}
    none = {"load": "not-found", "active": "inactive", "enabled": ""}
    return {
        "read": content,
        "services": {_tuning.CLOCK_UNIT: active if unit == "active" else none},
        "nvidia": {"module": {"version": "580.178.04", "open": True}},
    }


def guarded(**read: str) -> dict[str, Any]:
    return host(apt=_tuning.APT_TEXT, needrestart=_tuning.NEEDRESTART_TEXT, **read)


def plan(state: dict[str, Any], **given: Any) -> dict[str, Any]:
    return _tuning.plan({}, state, settings(**given))


def texts(planned: dict[str, Any]) -> dict[str, str | None]:
    return {entry["path"]: entry.get("content") for entry in planned["files"]}


def test_by_default_the_guard_is_all_that_is_written() -> None:
    planned = plan(host())
    assert texts(planned) == {
        _tuning.APT_FILE: _tuning.APT_TEXT,
        _tuning.NEEDRESTART_FILE: _tuning.NEEDRESTART_TEXT,
    }
    assert planned["directories"] == [
        {"path": "/etc/apt/apt.conf.d"},
        {"path": "/etc/needrestart/conf.d"},
    ]
    assert planned["commands"] == planned["before"] == planned["problems"] == planned["notes"] == []


def test_a_second_run_finds_nothing_to_do() -> None:
    assert plan(guarded())["converged"]


def test_without_guard_its_files_go_and_nothing_is_written() -> None:
    planned = plan(guarded(), guard=False)
    assert {entry["path"]: entry.get("state") for entry in planned["files"]} == {
        _tuning.APT_FILE: "absent",
        _tuning.NEEDRESTART_FILE: "absent",
    }
    assert planned["directories"] == []
    assert plan(host(), guard=False)["converged"]


@pytest.mark.parametrize(
    "package",
    [
        *("nvidia-kernel-open-dkms", "nvidia-dkms-580-open", "libnvidia-ml1", "libcuda1"),
        *("nvidia-utils-580-server", "nvidia-fabricmanager"),
        *("nvidia-container-toolkit-base", "libnvidia-container1", "docker-ce", "docker-ce-cli"),
        *("docker.io", "containerd.io", "containerd", "runc", "nginx", "nginx-common"),
        *("libnginx-mod-stream", "keepalived", "cuda-drivers-fabricmanager-580"),
    ],
)
def test_packages_that_unattended_upgrades_leaves_alone(package: str) -> None:
    assert any(re.match(pattern, package) for pattern in _tuning.GUARDED_PACKAGES)


@pytest.mark.parametrize(
    "package",
    [
        *("linux-image-amd64", "openssl", "docker-clean", "libc6", "runcible", "libcuda1000"),
        # A new kernel comes all the same; without these it would have no driver.
        *("linux-modules-nvidia-580-server-open-generic", "linux-objects-nvidia-580-server-open"),
        *("nvidia-kernel-common-580-server", "nvidia-firmware-580-server-580.126.09"),
    ],
)
def test_packages_that_it_goes_on_upgrading(package: str) -> None:
    assert not any(re.match(pattern, package) for pattern in _tuning.GUARDED_PACKAGES)


@pytest.mark.parametrize(
    "unit",
    [
        *("containerd.service", "docker.service", "nginx.service", "vllm@gpt-oss-20b.service"),
        *("nvidia-persistenced.service", "nvidia-fabricmanager.service", "keepalived.service"),
    ],
)
def test_units_that_needrestart_leaves_running(unit: str) -> None:
    assert any(re.search(pattern, unit) for pattern in _tuning.GUARDED_UNITS)


def test_needrestart_keeps_its_own_overrides() -> None:
    """Assigning the whole hash would drop its forty entries for dbus, the network and more."""
    assert "$nrconf{override_rc}{qr(^nginx)} = 0;\n" in _tuning.NEEDRESTART_TEXT
    assert "override_rc} =" not in _tuning.NEEDRESTART_TEXT


def test_unattended_upgrades_keeps_the_blacklist_of_others() -> None:
    assert "#clear" not in _tuning.APT_TEXT
    assert _tuning.APT_TEXT.count("Package-Blacklist {") == 1
    assert _tuning.APT_TEXT.endswith('  "libnginx-mod-";\n};\n')


def test_huge_pages_and_governor_are_set_now_and_at_boot() -> None:
    planned = plan(guarded(), transparent_hugepages="never", cpu_governor="performance")
    (text,) = texts(planned).values()
    assert text is not None
    assert text.splitlines()[1:] == [
        f"w- {HUGEPAGES} - - - - never",
        "w- /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor - - - - performance",
    ]
    assert planned["commands"] == [["systemd-tmpfiles", "--create", _tuning.TMPFILES_FILE]]


def tuned(text: str, **read: str) -> dict[str, Any]:
    return guarded(tmpfiles=text, **read)


def test_what_is_in_force_is_left_alone() -> None:
    wanted = {"transparent_hugepages": "never", "cpu_governor": "performance"}
    (text,) = texts(plan(guarded(), **wanted)).values()
    state = tuned(str(text), hugepages="always madvise [never]\n", governor="performance\n")
    assert plan(state, **wanted)["converged"]


@pytest.mark.parametrize(
    "read",
    [{"hugepages": "[always] madvise never"}, {"governor": "powersave"}],
    ids=["huge pages", "governor"],
)
def test_what_was_changed_since_or_never_put_in_force_is_set_again(read: dict[str, str]) -> None:
    """A run killed between file and command leaves just this."""
    wanted = {"transparent_hugepages": "never", "cpu_governor": "performance"}
    (text,) = texts(plan(guarded(), **wanted)).values()
    right = {"hugepages": "always madvise [never]", "governor": "performance"}
    planned = plan(tuned(str(text), **right | read), **wanted)
    assert planned["files"] == []
    assert planned["commands"] == [["systemd-tmpfiles", "--create", _tuning.TMPFILES_FILE]]


@pytest.mark.parametrize(
    ("read", "given", "note"),
    [
        (
            {"hugepages": ""},
            {"transparent_hugepages": "madvise"},
            "host_tuning_transparent_hugepages is madvise, and the kernel has no transparent huge"
            " pages; nothing is set.",
        ),
        (
            {"governor": "", "governors": ""},
            {"cpu_governor": "performance"},
            "host_tuning_cpu_governor is performance, and the kernel does not govern the clock of"
            " the processor (firmware or hypervisor does); nothing is set.",
        ),
        (
            {},
            {"cpu_governor": "ondemand"},
            "host_tuning_cpu_governor is ondemand, and the processor's driver knows performance,"
            " powersave; nothing is set.",
        ),
        (
            {},
            {"gpu_clock_lock": "1200,1500", "wants_gpus": False},
            "host_tuning_gpu_clock_lock is 1200,1500, and no instance of this host uses GPUs;"
            " nothing is locked.",
        ),
    ],
    ids=["no huge pages", "no governor", "unknown governor", "no GPU"],
)
def test_what_the_machine_lacks_is_a_note(
    read: dict[str, str], given: dict[str, Any], note: str
) -> None:
    planned = plan(guarded(**read), **given)
    assert planned["notes"] == [note]
    assert planned["problems"] == []
    assert planned["converged"]


def test_clocks_are_locked_by_a_unit() -> None:
    planned = plan(guarded(), gpu_clock_lock="1200,1500")
    (text,) = texts(planned).values()
    assert text is not None
    assert "ExecStart=/usr/bin/nvidia-smi --lock-gpu-clocks=1200,1500\n" in text
    assert "After=nvidia-persistenced.service\n" in text
    assert planned["commands"] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", _tuning.CLOCK_UNIT],
        ["systemctl", "restart", _tuning.CLOCK_UNIT],
    ]


def locked(unit: str) -> dict[str, Any]:
    state = guarded(clocks=_tuning.clock_unit("1200,1500"))
    state["services"] = host(unit)["services"]
    return state


def test_locked_clocks_are_left_alone() -> None:
    assert plan(locked("active"), gpu_clock_lock="1200,1500")["converged"]


def test_a_unit_that_was_never_started_is_started() -> None:
    planned = plan(locked(""), gpu_clock_lock="1200,1500")
    assert ["systemctl", "restart", _tuning.CLOCK_UNIT] in planned["commands"]


def test_without_a_driver_the_unit_waits_for_one() -> None:
    state = locked("active")
    state["services"][_tuning.CLOCK_UNIT]["active"] = "inactive"
    state["nvidia"] = {"module": None}
    assert plan(state, gpu_clock_lock="1200,1500")["converged"]


def test_clocks_are_unlocked_before_their_unit_goes() -> None:
    planned = plan(locked("active"))
    assert planned["before"] == [["systemctl", "disable", "--now", _tuning.CLOCK_UNIT]]
    assert planned["files"] == [{"path": _tuning.CLOCK_FILE, "state": "absent"}]
    assert planned["commands"] == [["systemctl", "daemon-reload"]]
