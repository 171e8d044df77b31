# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Healthy hosts of every kind, as host_state and gpu_info tell of them."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils import (
    _doctor,
    _doctor_edge,
    _tuning,
)

KERNEL = "6.12.57+deb13-amd64"
DRIVER = "580.178.04"
BOOTED, STARTED, PROVED = 1_795_200_000, 1_795_230_000, 1_795_230_060  # seconds since the epoch

Host = dict[str, Any]


def uuid(index: int) -> str:
    return f"GPU-1000000{index}-5a1d-4c1a-9d2e-000000000000"


def gpu(index: int = 0, **given: Any) -> dict[str, Any]:
    return {
        "index": index,
        "uuid": uuid(index),
        "pci_bus_id": f"00000000:{0x19 + index:02X}:00.0",
        "name": "NVIDIA L4",
        "ecc": {
            "supported": True,
            "enabled": True,
            "pending": True,
            "uncorrected_volatile": 0,
            "uncorrected_aggregate": 3,
        },
        "remapped_rows": {"correctable": 1, "uncorrectable": 0, "pending": False, "failed": False},
        "mig": {"supported": False, "enabled": None, "pending": None, "instances": []},
        "persistence_mode": True,
        "lost": False,
        "message": "",
        **given,
    }


def gpu_info(*gpus: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {
        "state": "ok",
        "message": "",
        "driver_version": DRIVER,
        "kernel_module_version": DRIVER,
        "nvswitch": False,
        "gpus": list(gpus),
        "lost_gpus": [],
        **given,
    }


def unit(active: str = "active", **given: Any) -> dict[str, Any]:
    return {
        "load": "loaded",
        "active": active,
        "sub": "running" if active == "active" else "dead",
        "enabled": "enabled",
        "main_pid": 1,
        "active_enter": STARTED if active == "active" else None,
        "n_restarts": 0,
        "need_daemon_reload": False,
        **given,
    }


NO_UNIT = unit("inactive", load="not-found", enabled="", active_enter=None)


def specification(*names: str, driver: str = DRIVER) -> str:
    """As nvidia-ctk writes it, cut to what matters."""
    devices = "".join(
        f"- containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n  name: {name}\n"
        for name in names
    )
    return (
        "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\n"
        "containerEdits:\n  deviceNodes:\n  - path: /dev/nvidia-uvm\n  mounts:\n"
        f"  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.{driver}\n"
        f"devices:\n{devices}"
    )


def state(gpus: int = 1, **given: Any) -> dict[str, Any]:
    """A host with a running engine that was set up by the collection."""
    names = [name for index in range(gpus) for name in (str(index), uuid(index))] + ["all"]
    devices = [
        {"address": f"0000:{0x19 + index:02x}:00.0", "device": "27b8", "class": "030200"}
        for index in range(gpus)
    ]
    found: dict[str, Any] = {
        "packages": dict.fromkeys(_doctor.PACKAGES)
        | {
            "docker-ce": "5:29.9.0-1~debian.13~trixie",
            "docker-ce-cli": "5:29.9.0-1~debian.13~trixie",
            "containerd.io": "2.4.1-2~debian.13~trixie",
            "nginx": "1.26.3-3+deb13u10",
            "nginx-common": "1.26.3-3+deb13u10",
            "nvidia-driver-cuda": f"{DRIVER}-1",
            "nvidia-kernel-open-dkms": f"{DRIVER}-1",
            "nvidia-persistenced": f"{DRIVER}-1",
            "libnvidia-ml1": f"{DRIVER}-1",
            "libcuda1": f"{DRIVER}-1",
            "nvidia-container-toolkit-base": "1.20.1-1",
            f"linux-image-{KERNEL}": "6.12.57-1",
            "unattended-upgrades": "2.12",
            "needrestart": "3.8-3",
        },
        "held": [
            *("containerd.io", "docker-ce", "docker-ce-cli", "libcuda1", "libnvidia-ml1"),
            *("nvidia-container-toolkit-base", "nvidia-driver-cuda", "nvidia-kernel-open-dkms"),
            "nvidia-persistenced",
        ],
        "unfinished": [],
        "services": {name: copy.deepcopy(NO_UNIT) for name in _doctor.SERVICES}
        | {
            "containerd.service": unit(),
            "docker.service": unit(),
            "nginx.service": unit(),
            "nvidia-persistenced.service": unit(),
            # It writes the specification and ends.
            "nvidia-cdi-refresh.service": unit("inactive", enabled="enabled"),
            "vllm@gpt-oss-20b.service": unit(),
        },
        "paths": {path: {"exists": False} for path in _doctor.PATHS}
        | {
            path: {"exists": True}
            for path in (*_doctor_edge.PATHS, "/dev/nvidia-uvm", "/sys/module/nvidia_uvm")
        },
        "read": dict.fromkeys(_doctor.READS)
        | {
            "/var/run/cdi/nvidia.yaml": specification(*names),
            "/etc/apt/apt.conf.d/20auto-upgrades": (
                'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
            ),
            "/etc/apt/apt.conf.d/50unattended-upgrades": (
                'Unattended-Upgrade::Package-Blacklist {\n//  "linux-";\n};\n'
            ),
            _tuning.APT_FILE: _tuning.APT_TEXT,
            _tuning.NEEDRESTART_FILE: _tuning.NEEDRESTART_TEXT,
        },
        "disks": {
            "/": {"total_bytes": 500 << 30, "free_bytes": 80 << 30, "device": "8:1"},
            "/boot": {"total_bytes": 500 << 20, "free_bytes": 200 << 20, "device": "8:2"},
            "/var/lib/docker": {"total_bytes": 500 << 30, "free_bytes": 80 << 30, "device": "8:1"},
        },
        "instances": [
            {
                "name": "gpt-oss-20b",
                "current": "3f9c0a1b2c3d",
                "publish": "127.0.0.1:8000",
                "proved_at": PROVED,
                "replica_of": None,
            }
        ],
        "containers": {"vllm-gpt-oss-20b": {"state": "running"}},
        "docker": {"socket": True, "version": "29.9.0", "cdi": True},
        "nvidia_gpus": gpus,
        "nvidia": {
            "devices": devices,
            "switch_managers": [],
            "module": {"version": DRIVER, "open": True},
            "library": DRIVER,
            "built": {KERNEL: DRIVER},
        },
        "kernel": {
            "release": KERNEL,
            "headers": True,
            "secure_boot": False,
            "module_key_enrolled": None,
            "nouveau": False,
            "reboot_required": False,
        },
        "kernel_log": [
            {
                "time": "2026-11-20T20:00:05+0000",
                "line": f"NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER}",
            },
            {"time": "2026-11-20T20:00:06+0000", "line": "nvidia: module license 'Dual MIT/GPL'"},
        ],
        "time": {"synchronized": True},
        "cdi_devices": [f"nvidia.com/gpu={name}" for name in sorted(names)],
        "listening": [
            {"address": "0.0.0.0", "port": 22, "process": None},
            {"address": "127.0.0.1", "port": 8000, "process": "docker-proxy"},
            {"address": "127.0.0.1", "port": 8080, "process": "nginx"},
        ],
    }
    return found | given


def settings(**given: Any) -> _doctor.Settings:
    return _doctor.Settings(
        **{
            "gpu_host": True,
            "edge": True,
            "wants_gpus": True,
            "instances": ["gpt-oss-20b"],
            "ports": {8000: "the instance gpt-oss-20b", 8080: "the edge"},
            "addresses": {8000: "127.0.0.1", 8080: "127.0.0.1"},
            "edge_ports": [8080],
            "vllm_release": "0.33.0",
            **given,
        }
    )


def server() -> Host:
    """One L4, everything from the collection."""
    return {"state": state(), "gpu_info": gpu_info(gpu()), "settings": settings()}


def laptop() -> Host:
    """One card that drives the screen; Secure Boot with its owner's key; no ECC, no MIG."""
    found = server()
    found["state"]["kernel"].update(secure_boot=True, module_key_enrolled=True)
    found["state"]["packages"].update({"unattended-upgrades": None, "needrestart": None})
    found["state"]["nvidia"]["devices"][0].update({"device": "2757", "class": "030000"})
    found["state"]["nvidia"]["devices"].append(
        {"address": "0000:19:00.1", "device": "22bb", "class": "040300"}
    )
    found["gpu_info"]["gpus"][0].update(
        name="NVIDIA GeForce RTX 4090 Laptop GPU",
        ecc={
            "supported": False,
            "enabled": None,
            "pending": None,
            "uncorrected_volatile": None,
            "uncorrected_aggregate": None,
        },
        remapped_rows=None,
        persistence_mode=False,
        display_active=True,
    )
    return found


def hgx() -> Host:
    """Eight H100 behind NVSwitches."""
    found = {
        "state": state(8),
        "gpu_info": gpu_info(
            *(gpu(index, fabric={"state": "completed", "status": 0}) for index in range(8)),
            nvswitch=True,
        ),
        "settings": settings(),
    }
    nvidia = found["state"]["nvidia"]
    nvidia["devices"] += [
        {"address": f"0000:0{index}:00.0", "device": "22a3", "class": "068000"}
        for index in range(3, 7)
    ]
    found["state"]["packages"]["nvidia-fabricmanager"] = f"{DRIVER}-1"
    found["state"]["held"].append("nvidia-fabricmanager")
    found["state"]["services"]["nvidia-fabricmanager.service"] = unit()
    return found


def virtual_machine() -> Host:
    """One H100 passed through: its links lead to switches that the host below manages."""
    found = server()
    found["gpu_info"]["nvswitch"] = True
    found["gpu_info"]["gpus"][0]["fabric"] = None
    return found


def mig() -> Host:
    """A GPU that is cut in two, beside a whole one; nvidia-ctk leaves the cut one out."""
    found = {
        "state": state(2),
        "gpu_info": gpu_info(gpu(0), gpu(1)),
        "settings": settings(),
    }
    parts = ["MIG-20000000-5a1d-4c1a-9d2e-000000000000", "MIG-20000001-5a1d-4c1a-9d2e-000000000000"]
    found["gpu_info"]["gpus"][0]["mig"] = {
        "supported": True,
        "enabled": True,
        "pending": True,
        "instances": [{"uuid": part} for part in parts],
    }
    names = ["0:0", "0:1", *parts, "1", uuid(1), "all"]
    found["state"]["read"]["/var/run/cdi/nvidia.yaml"] = specification(*names)
    found["state"]["cdi_devices"] = [f"nvidia.com/gpu={name}" for name in names]
    return found


def by_index() -> Host:
    """A specification of an older toolkit, which names GPUs by index alone."""
    found = server()
    found["state"]["read"] |= {
        "/var/run/cdi/nvidia.yaml": None,
        "/etc/cdi/nvidia.yaml": specification("0", "all"),
    }
    found["state"]["cdi_devices"] = ["nvidia.com/gpu=0", "nvidia.com/gpu=all"]
    return found


def without_gpus() -> Host:
    """A desktop whose instances run on the CPU; nouveau draws on its card, and nobody minds."""
    found = server()
    found["settings"] = settings(wants_gpus=False)
    found["gpu_info"] = None
    found["state"]["kernel"].update(nouveau=True, headers=False, secure_boot=True)
    found["state"]["nvidia"].update(module=None, library=None, built={})
    found["state"]["cdi_devices"] = []
    found["state"]["docker"]["cdi"] = False
    found["state"]["read"]["/var/run/cdi/nvidia.yaml"] = None
    return found


def edge() -> Host:
    """nginx alone."""
    found = without_gpus()
    found["settings"] = settings(
        gpu_host=False,
        wants_gpus=False,
        instances=[],
        ports={8080: "the edge"},
        addresses={8080: "127.0.0.1"},
    )
    docker = ("docker-ce", "docker-ce-cli", "containerd.io")
    found["state"]["packages"] |= dict.fromkeys(docker)
    found["state"] |= {
        "instances": [],
        "containers": {},
        "docker": {"socket": False, "version": None, "cdi": None},
        "nvidia_gpus": 0,
    }
    found["state"]["nvidia"]["devices"] = []
    found["state"]["services"] |= {
        "docker.service": copy.deepcopy(NO_UNIT),
        "containerd.service": copy.deepcopy(NO_UNIT),
    }
    return found


PEM = "/etc/ssl/llm.pem"


def edge_with_tls(tls: str = "files", **certificate: Any) -> Host:
    """An edge whose certificate holds for 90 days, of which 60 are left."""
    found = edge()
    found["settings"] = dataclasses.replace(
        found["settings"], certificate=_doctor_edge.Certificate(tls, PEM, "/etc/ssl/llm.key")
    )
    found["state"]["certificates"] = {
        PEM: {
            "exists": True,
            "problem": "",
            "now": STARTED,
            "not_before": STARTED - 30 * 86400,
            "not_after": STARTED + 60 * 86400,
            **certificate,
        }
    }
    return found


def distribution() -> Host:
    """Debian's own engine, whose version numbers are its own; driver installed by hand."""
    found = server()
    found["settings"] = settings(managed=["toolkit"])
    packages = found["state"]["packages"]
    packages |= dict.fromkeys(("docker-ce", "docker-ce-cli", "containerd.io"))
    packages |= {"docker.io": "26.1.5+dfsg1-9+deb13u1", "containerd": "1.7.24~ds1-6+deb13u1"}
    packages |= {"runc": "1.1.15+ds1-2+b4"}
    found["state"]["docker"]["version"] = "26.1.5+dfsg1"
    found["state"]["held"] = ["nvidia-container-toolkit-base"]
    return found


HEALTHY = {
    "server": server,
    "laptop": laptop,
    "eight H100 with NVSwitch": hgx,
    "virtual machine": virtual_machine,
    "MIG": mig,
    "CDI by index": by_index,
    "gpus: none": without_gpus,
    "edge only": edge,
    "edge with TLS": edge_with_tls,
    "the distribution's engine": distribution,
}


def virgin() -> Host:
    """A fresh Debian with a card that nouveau draws on."""
    found = without_gpus()
    found["settings"] = settings()
    found["gpu_info"] = gpu_info(
        state="no_driver", message="No NVIDIA driver runs.", driver_version=None
    )
    packages = dict.fromkeys(_doctor.PACKAGES) | {"unattended-upgrades": "2.12"}
    found["state"] |= {
        "packages": packages,
        "held": [],
        "instances": [],
        "containers": {},
        "paths": {"/etc/nginx/vllm/in_force": {"exists": False}},
        "docker": {"socket": False, "version": None, "cdi": None},
        "listening": [{"address": "0.0.0.0", "port": 22, "process": "sshd"}],
        "services": {name: copy.deepcopy(NO_UNIT) for name in _doctor.SERVICES},
    }
    return found
