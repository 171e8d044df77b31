# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Every finding with its sentence and its mend, and healthy hosts without one."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils import (
    _doctor,
    _doctor_findings,
    _doctor_report,
    _inventory,
    _tuning,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import Finding
from ansible_collections.baremetal.vllm.tests.unit.plugins.plugin_utils import doctor_hosts as kind
from ansible_collections.baremetal.vllm.tests.unit.plugins.plugin_utils.doctor_hosts import (
    DRIVER,
    KERNEL,
    Host,
    gpu,
    settings,
    specification,
    unit,
    uuid,
)

Change = Callable[[Host], None]


def diagnose(host: Host, distribution: str = "Debian") -> list[Finding]:
    return _doctor.diagnose(
        "gpu1", {"distribution": distribution}, host["state"], host["gpu_info"], host["settings"]
    )


@pytest.mark.parametrize("make", kind.HEALTHY.values(), ids=kind.HEALTHY)
def test_nothing_is_said_of_a_healthy_host(make: Callable[[], Host]) -> None:
    assert diagnose(make()) == []


def test_a_host_that_was_never_set_up_is_one_note() -> None:
    assert diagnose(kind.virgin()) == [
        Finding(
            host="gpu1",
            severity="note",
            what="There is no vLLM instance on this host yet; still missing: the NVIDIA driver,"
            " Docker Engine, a CDI specification.",
            mend="ansible-playbook playbooks/site.yml",
            code="not_provisioned",
        )
    ]


def test_a_host_that_lacks_nothing_but_instances_is_one_note() -> None:
    host = kind.server()
    host["state"] |= {"instances": [], "containers": {}, "listening": []}
    (finding,) = diagnose(host)
    assert finding.what == "There is no vLLM instance on this host yet."


# -- one change, one finding ---------------------------------------------------------------------


def on(*path: str, **values: Any) -> Change:
    """Set keys of what lies at `path` of a host."""

    def change(host: Host) -> None:
        place = host
        for name in path:
            place = place[name]
        place.update(values)

    return change


def both(*changes: Change) -> Change:
    def change(host: Host) -> None:
        for each in changes:
            each(host)

    return change


def packages(**versions: str | None) -> Change:
    named = {name.replace("_", "-"): value for name, value in versions.items()}
    return on("state", "packages", **named)


def service(name: str, **values: Any) -> Change:
    return lambda host: host["state"]["services"].update({name: unit(**values)})


def log(*lines: str, time: str | None = "2026-11-21T12:00:00+0000") -> Change:
    """Lines of the kernel; by default after the engine was started."""
    return on("state", kernel_log=[{"time": time, "line": line} for line in lines])


def xid(text: str) -> str:
    return f"NVRM: Xid (PCI:0000:19:00): {text}"


def first_gpu(**values: Any) -> Change:
    return lambda host: host["gpu_info"]["gpus"][0].update(values)


def spec(text: str | None, *names: str) -> Change:
    def change(host: Host) -> None:
        host["state"]["read"]["/var/run/cdi/nvidia.yaml"] = text
        host["state"]["cdi_devices"] = [f"nvidia.com/gpu={name}" for name in names]

    return change


def without(*names: str) -> Change:
    return on("state", "packages", **dict.fromkeys(names))


def canonical(host: Host, kernel: str) -> None:
    """Ubuntu's signed modules, which came for kernel 6.8.0-90 only."""
    own = "6.8.0-90-generic"
    host["state"]["kernel"].update(release=kernel, headers=False)
    host["state"]["nvidia"].update(built={own: DRIVER})
    host["state"]["packages"] |= {
        f"linux-image-{KERNEL}": None,
        f"linux-image-{own}": "6.8.0-90.91",
        "linux-image-6.8.0-94-generic": "6.8.0-94.96",
        f"linux-modules-nvidia-580-server-open-{own}": "6.8.0-90.91",
    }


def certificate(**values: Any) -> Change:
    return lambda host: host["state"]["certificates"][kind.PEM].update(values)


OFF = on("state", "nvidia", module=None)
ABSENT = both(
    on("state", "nvidia", module=None, library=None, built={}),
    lambda host: host.update(gpu_info=kind.gpu_info(state="no_driver", message="No driver.")),
)
# apt has replaced the driver, and DKMS has built the module of the new one.
REPLACED = on("state", "nvidia", library="580.190.08", built={KERNEL: "580.190.08"})
PLAY = "ansible-playbook playbooks/provision.yml --limit gpu1"
NEXT = "6.12.63+deb13-amd64"
PAST = "2026-11-20T23:00:00+0000"

# code, host, change, sentence, mend
CASES: list[tuple[str, Callable[[], Host], Change, str, str]] = [
    (
        "gpu_missing",
        kind.server,
        both(ABSENT, on("state", "nvidia", devices=[])),
        "vllm_instances wants GPUs, and no NVIDIA GPU is on the PCI bus.",
        "lspci -nn -d 10de:",
    ),
    (
        "driver_missing",
        kind.hgx,
        ABSENT,
        "No NVIDIA driver is installed for the 8 GPUs at 0000:19:00.0, 0000:1a:00.0, 0000:1b:00.0,"
        " 0000:1c:00.0, 0000:1d:00.0, 0000:1e:00.0, 0000:1f:00.0, 0000:20:00.0.",
        PLAY,
    ),
    (
        "driver_library_missing",
        kind.server,
        on("state", "nvidia", library=None),
        f"The NVIDIA kernel module {DRIVER} runs, and libnvidia-ml.so.1, which belongs to it, is"
        " not installed.",
        PLAY,
    ),
    (
        "driver_mismatch",
        kind.server,
        REPLACED,
        f"The NVIDIA kernel module that runs is {DRIVER} and its libraries are 580.190.08: the"
        " driver was replaced while it ran, and no container can start on a GPU before a reboot.",
        "systemctl reboot",
    ),
    (
        "nouveau_loaded",
        kind.server,
        both(OFF, on("state", "kernel", nouveau=True)),
        "nouveau has taken the GPUs, so the NVIDIA driver that is installed cannot.",
        f"{PLAY} -e nvidia_driver_reboot=true",
    ),
    (
        "headers_missing",
        kind.server,
        both(OFF, on("state", "kernel", headers=False), on("state", "nvidia", built={})),
        f"The headers of the running kernel {KERNEL} are not installed, so no NVIDIA module could"
        " be built for it.",
        f"apt-get install --yes linux-headers-{KERNEL} && dkms autoinstall -k {KERNEL} && modprobe"
        " nvidia",
    ),
    (
        "driver_not_built",
        kind.server,
        both(OFF, on("state", "nvidia", built={"6.1.0-41-amd64": DRIVER})),
        f"The NVIDIA module is not built for the running kernel {KERNEL}, only for 6.1.0-41-amd64.",
        f"dkms autoinstall -k {KERNEL} && modprobe nvidia",
    ),
    (
        "driver_package_missing",
        kind.server,
        both(OFF, lambda host: canonical(host, "6.8.0-94-generic")),
        f"The running kernel 6.8.0-94-generic lacks its package of NVIDIA modules for driver"
        f" {DRIVER}.",
        "apt-get update && apt-get install --yes"
        " linux-modules-nvidia-580-server-open-6.8.0-94-generic && modprobe nvidia",
    ),
    (
        "secure_boot",
        kind.server,
        both(OFF, on("state", "kernel", secure_boot=True, module_key_enrolled=False)),
        "Secure Boot is on and the kernel has not loaded the NVIDIA module, which nobody has signed"
        " with a key that the firmware knows.",
        "Run `mokutil --import /var/lib/dkms/mok.pub`, choose a password, reboot, and confirm the"
        " key at the console; or switch Secure Boot off in the firmware.",
    ),
    (
        "driver_not_loaded",
        kind.server,
        OFF,
        "The NVIDIA driver is installed and its module is not loaded.",
        "modprobe nvidia",
    ),
    (
        "driver_silent",
        kind.server,
        on("gpu_info", state="error", message="NVML did not start (Unknown, error 999)."),
        "NVML did not start (Unknown, error 999).",
        "nvidia-smi; journalctl -k -b --no-pager -g NVRM | tail -20",
    ),
    (
        "nvml_unread",
        kind.server,
        on("gpu_info", state="no_library", message="No nvidia-ml-py.", gpus=[]),
        "The GPUs could not be examined: No nvidia-ml-py.",
        "Run `pip install nvidia-ml-py` for the Python that runs ansible-playbook, then the doctor"
        " again.",
    ),
    (
        "next_kernel_without_driver",
        kind.server,
        on("state", "packages", **{f"linux-image-{NEXT}": "6.12.63-1"}),
        f"The newest kernel on the host, {NEXT}, has no NVIDIA module: after the next reboot the"
        " GPUs would be gone.",
        f"apt-get install --yes linux-headers-{NEXT} && dkms autoinstall -k {NEXT}",
    ),
    (
        "next_kernel_without_package",
        kind.server,
        lambda host: canonical(host, "6.8.0-90-generic"),
        "The newest kernel on the host, 6.8.0-94-generic, lacks its package of NVIDIA modules:"
        " after the next reboot the GPUs would be gone.",
        "apt-get update && apt-get install --yes"
        " linux-modules-nvidia-580-server-open-6.8.0-94-generic",
    ),
    (
        "gpu_lost",
        kind.server,
        on(
            "gpu_info",
            state="gpu_lost",
            message="GPU 1 does not answer.",
            lost_gpus=[{"index": 1, "pci_bus_id": "00000000:3B:00.0", "message": "lost"}],
        ),
        "The driver gets no answer from GPU 1 (00000000:3B:00.0); if a reboot does not change that,"
        " have card, slot and power checked.",
        "systemctl reboot",
    ),
    (
        "row_remap_failed",
        kind.server,
        first_gpu(remapped_rows={"pending": True, "failed": True}),
        "GPU 0 (00000000:19:00.0) has memory rows that could not be replaced: it has to be"
        " exchanged.",
        "Take it out of vllm_instances (gpus), run site.yml, and send the output of"
        " `nvidia-bug-report.sh` to its vendor.",
    ),
    (
        "row_remap_pending",
        kind.server,
        both(
            first_gpu(remapped_rows={"pending": True, "failed": False}),
            # The same trouble: it is told once.
            lambda host: host["gpu_info"]["gpus"][0]["ecc"].update(uncorrected_volatile=1),
        ),
        "GPU 0 (00000000:19:00.0) has memory rows that are replaced at its next reset; until then"
        " it may stop with memory errors.",
        "systemctl reboot",
    ),
    (
        "ecc_uncorrected",
        kind.server,
        lambda host: host["gpu_info"]["gpus"][0]["ecc"].update(uncorrected_volatile=2),
        "GPU 0 (00000000:19:00.0) has had 2 uncorrected memory errors since the driver was loaded.",
        "systemctl reboot",
    ),
    (
        "ecc_pending",
        kind.server,
        lambda host: host["gpu_info"]["gpus"][0]["ecc"].update(pending=False),
        "Error correction of GPU 0 (00000000:19:00.0) will be off after its next reset.",
        "systemctl reboot",
    ),
    (
        "mig_pending",
        kind.server,
        first_gpu(mig={"supported": True, "enabled": False, "pending": True, "instances": []}),
        "MIG of GPU 0 (00000000:19:00.0) will be on after its next reset.",
        "systemctl reboot",
    ),
    (
        "fabric_manager_missing",
        kind.hgx,
        both(
            without("nvidia-fabricmanager"),
            lambda host: host["state"]["services"].update(
                {"nvidia-fabricmanager.service": kind.NO_UNIT}
            ),
        ),
        "The GPUs are connected by NVSwitches and nvidia-fabricmanager, without which no CUDA"
        " program starts, is not installed.",
        PLAY,
    ),
    (
        "fabric_manager_version",
        kind.hgx,
        packages(nvidia_fabricmanager="580.159.04-1"),
        f"nvidia-fabricmanager is 580.159.04 and the driver is {DRIVER}; they must be the same.",
        PLAY,
    ),
    (
        "fabric_manager_down",
        kind.hgx,
        service("nvidia-fabricmanager.service", active="failed"),
        "The GPUs are connected by NVSwitches and nvidia-fabricmanager.service is failed.",
        "systemctl enable --now nvidia-fabricmanager.service || journalctl -u nvidia-fabricmanager"
        " -n 30 --no-pager",
    ),
    (
        "fabric_not_completed",
        kind.hgx,
        first_gpu(fabric={"state": "in_progress", "status": 0}),
        "The fabric of GPU 0 (00000000:19:00.0) is in progress instead of completed, so CUDA"
        " programs fail there with error 802.",
        "systemctl restart nvidia-fabricmanager.service vllm@gpt-oss-20b.service",
    ),
    (
        "xid_reboot",
        kind.server,
        log(xid("79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")),
        "GPU 0 (00000000:19:00.0) reported Xid 79 (GPU has fallen off the bus) at"
        " 2026-11-21T12:00:00+0000: NVIDIA says to restart the host.",
        "systemctl reboot",
    ),
    (
        "xid_reset",
        kind.server,
        log(xid("48, pid=8828, name=VLLM::EngineCor, An uncorrectable double bit error (DBE)")),
        "GPU 0 (00000000:19:00.0) reported Xid 48 (An uncorrectable double bit error (DBE)) at"
        " 2026-11-21T12:00:00+0000: NVIDIA says to reset the GPU, which a reboot does too.",
        "systemctl reboot",
    ),
    (
        "xid_support",
        kind.server,
        log(xid("54, Auxiliary power is not connected"), time=None),
        "GPU 0 (00000000:19:00.0) reported Xid 54 (Auxiliary power is not connected): NVIDIA says"
        " to contact its support.",
        "nvidia-bug-report.sh",
    ),
    (
        "xid_nvlink",
        kind.server,
        log(xid("74, NVLink: fatal error detected on link 3")),
        "GPU 0 (00000000:19:00.0) reported Xid 74 (NVLink: fatal error detected on link 3) at"
        " 2026-11-21T12:00:00+0000: an NVLink had an error.",
        "nvidia-smi nvlink --status; nvidia-smi nvlink --errorcounters",
    ),
    (
        "xid_restart",
        kind.server,
        log(xid("31, pid=8828, name=VLLM::EngineCor, Ch 00000008, MMU Fault")),
        "GPU 0 (00000000:19:00.0) reported Xid 31 (Ch 00000008, MMU Fault) at"
        " 2026-11-21T12:00:00+0000: NVIDIA says to restart what runs on it, and that has not"
        " happened since.",
        "systemctl restart vllm@gpt-oss-20b.service",
    ),
    (
        "xid_past",
        kind.server,
        log(xid("48, DBE"), time=PAST),
        f"GPU 0 (00000000:19:00.0) reported Xid 48 (DBE) at {PAST}; the engines were started again"
        " since and have generated tokens.",
        "journalctl -k -b --no-pager -g Xid",
    ),
    (
        "docker_missing",
        kind.server,
        both(
            on("state", "docker", socket=False, version=None, cdi=None),
            without("docker-ce", "docker-ce-cli", "containerd.io"),
            lambda host: host["state"]["services"].update({"docker.service": kind.NO_UNIT}),
        ),
        "Docker Engine is not installed: systemd knows no docker.service.",
        PLAY,
    ),
    (
        "docker_down",
        kind.server,
        both(
            on("state", "docker", version=None, cdi=None),
            service("docker.service", active="failed"),
        ),
        "Docker Engine does not answer: docker.service is failed.",
        "systemctl start docker.service || journalctl -u docker -n 30 --no-pager",
    ),
    (
        "docker_cdi_off",
        kind.server,
        on("state", "docker", version="26.1.5", cdi=False),
        "Docker Engine 26.1.5 does not give devices by CDI, so no container gets a GPU.",
        PLAY,
    ),
    (
        "toolkit_missing",
        kind.server,
        both(
            spec(None),
            without("nvidia-container-toolkit-base"),
            lambda host: host["state"]["services"].update(
                {"nvidia-cdi-refresh.service": kind.NO_UNIT}
            ),
        ),
        "The NVIDIA container toolkit is not installed, so no container gets a GPU.",
        PLAY,
    ),
    (
        "cdi_missing",
        kind.server,
        # A failed unit is the same trouble, told once.
        both(spec(None), service("nvidia-cdi-refresh.service", active="failed")),
        "No CDI specification names the GPUs, so no container gets one.",
        "systemctl restart nvidia-cdi-refresh.service || nvidia-ctk cdi generate"
        " --output=/etc/cdi/nvidia.yaml",
    ),
    (
        "cdi_stale",
        kind.server,
        spec(specification("0", uuid(7), "all"), "0", uuid(7), "all"),
        f"The CDI specification does not fit the host: it lacks {uuid(0)} and it names {uuid(7)},"
        " which is not there.",
        "systemctl restart nvidia-cdi-refresh.service && rm -f /etc/cdi/nvidia.yaml || nvidia-ctk"
        " cdi generate --output=/etc/cdi/nvidia.yaml",
    ),
    (
        "driver_below_floor",
        kind.server,
        both(
            on("state", "nvidia", library="580.159.04", module={"version": "580.159.04"}),
            spec(specification("0", uuid(0), driver="580.159.04"), "0", uuid(0)),
        ),
        f"The NVIDIA driver 580.159.04 has known security holes; {DRIVER} is the oldest one without"
        " them.",
        f'Set nvidia_driver_version: "{DRIVER}" or newer in the inventory and run `{PLAY}`.',
    ),
    (
        "toolkit_below_floor",
        kind.server,
        packages(nvidia_container_toolkit_base="1.18.0-1"),
        "The NVIDIA container toolkit 1.18.0 has known security holes; 1.19.1 is the oldest one"
        " without them.",
        PLAY,
    ),
    (
        "docker_below_floor",
        kind.server,
        packages(docker_ce="5:28.5.2-1~debian.13~trixie"),
        "Docker Engine 28.5.2 has known security holes; 29.9.0 is the oldest one without them.",
        PLAY,
    ),
    (
        "nginx_below_floor",
        kind.edge,
        packages(nginx="1.26.3-3+deb13u9"),
        "nginx 1.26.3-3+deb13u9 has known security holes; 1.26.3-3+deb13u10 is the oldest one"
        " without them.",
        "apt-get update && apt-get install --yes --only-upgrade nginx nginx-common",
    ),
    (
        "nginx_unfixed",
        kind.edge,
        packages(nginx="1.22.1-9+deb12u10"),
        "nginx 1.22.1-9+deb12u10 of Debian 12 lacks the fixes of October 2026, which Debian 13"
        " has.",
        "Run the edge on a host with Debian 13.",
    ),
    (
        "vllm_below_floor",
        kind.server,
        on(settings=settings(vllm_release="0.31.0")),
        "vLLM 0.31.0 has known holes: a chat template other than that of gpt-oss stops the server"
        " (PYSEC-2026-4344, fixed in 0.32.0); a chat template stops the server (PYSEC-2026-4349,"
        " fixed in 0.32.0); GHSA-5r3c-5x4v-8gjh (fixed in 0.33.0).",
        'Set vllm_release: "0.33.0" or newer in the inventory and run `ansible-playbook'
        " playbooks/site.yml`.",
    ),
    (
        "vllm_advisory",
        kind.server,
        on(settings=settings(vllm_release="0.32.0")),
        "vLLM 0.32.0 lacks the fix of GHSA-5r3c-5x4v-8gjh, whose contents are not published.",
        'Set vllm_release: "0.33.0" or newer in the inventory and run `ansible-playbook'
        " playbooks/site.yml`.",
    ),
    (
        "packages_not_held",
        kind.server,
        on(
            "state",
            held=[
                *("containerd.io", "docker-ce-cli", "libcuda1", "libnvidia-ml1"),
                *("nvidia-driver-cuda", "nvidia-persistenced"),
            ],
        ),
        "docker-ce, nvidia-container-toolkit-base, nvidia-kernel-open-dkms may be replaced by the"
        " next apt upgrade, under the engines that run.",
        "apt-mark hold docker-ce nvidia-container-toolkit-base nvidia-kernel-open-dkms",
    ),
    (
        "upgrades_unguarded",
        kind.server,
        on("state", "read", **{_tuning.APT_FILE: None}),
        "unattended-upgrades may replace nginx, nginx-common while the engines run.",
        PLAY,
    ),
    (
        "restarts_unguarded",
        kind.server,
        on("state", "read", **{_tuning.NEEDRESTART_FILE: None}),
        "needrestart may restart containerd.service, docker.service, nginx.service after an upgrade"
        " of a library.",
        PLAY,
    ),
    (
        "packages_unfinished",
        kind.server,
        on("state", unfinished=["nvidia-kernel-open-dkms"]),
        "The installation of nvidia-kernel-open-dkms was interrupted or has failed.",
        "dpkg --configure -a && apt-get install --yes --fix-broken",
    ),
    (
        "reboot_pending",
        kind.server,
        on("state", "kernel", reboot_required=True),
        "An update waits for a reboot.",
        "systemctl reboot",
    ),
    (
        "unit_missing",
        kind.server,
        lambda host: host["state"]["services"].update({"vllm@gpt-oss-20b.service": kind.NO_UNIT}),
        "vllm@gpt-oss-20b.service was set up, and systemd knows no such unit any more.",
        "ansible-playbook playbooks/site.yml",
    ),
    (
        "unit_failed",
        kind.server,
        service("vllm@gpt-oss-20b.service", active="failed", n_restarts=5),
        "vllm@gpt-oss-20b.service has failed after 5 restarts.",
        "journalctl -u vllm@gpt-oss-20b.service -n 50 --no-pager",
    ),
    (
        "unit_restarting",
        kind.server,
        service("vllm@gpt-oss-20b.service", active="activating", n_restarts=3),
        "vllm@gpt-oss-20b.service does not stay up: it was restarted 3 times.",
        "journalctl -u vllm@gpt-oss-20b.service -n 50 --no-pager",
    ),
    (
        "unit_stopped",
        kind.edge,
        service("nginx.service", active="inactive"),
        "nginx.service is stopped.",
        "systemctl start nginx.service",
    ),
    (
        "edge_dropin_missing",
        kind.edge,
        on(
            "state", "paths", **{"/etc/systemd/system/nginx.service.d/vllm.conf": {"exists": False}}
        ),
        "nginx.service has lost /etc/systemd/system/nginx.service.d/vllm.conf, without which a stop"
        " cuts the streams after 5 seconds and nothing confines nginx.",
        "ansible-playbook playbooks/site.yml",
    ),
    (
        "edge_left_behind",
        kind.server,
        on(settings=settings(edge=False)),
        "This host is no edge by the inventory and has /etc/nginx/vllm/in_force: nginx goes on as"
        " the edge that it was, with the keys of its last run, and lets clients in that have been"
        " revoked since.",
        "ansible-playbook playbooks/site.yml",
    ),
    (
        "edge_certificate_unusable",
        kind.edge_with_tls,
        certificate(problem="/etc/ssl/llm.key is not of that certificate"),
        "The edge cannot be started with its certificate: /etc/ssl/llm.key is not of that"
        " certificate.",
        "Put a good certificate and its key there and run `systemctl reload nginx`.",
    ),
    (
        "edge_certificate_expired",
        kind.edge_with_tls,
        certificate(not_after=kind.STARTED),
        "/etc/ssl/llm.pem has expired on 2026-11-21 03:00 UTC, and clients refuse it.",
        "Put a good certificate and its key there and run `systemctl reload nginx`.",
    ),
    (
        "edge_certificate_expires",
        kind.edge_with_tls,
        certificate(not_before=0, not_after=kind.STARTED + 14 * 86400 - 1),
        "/etc/ssl/llm.pem expires on 2026-12-05 02:59 UTC.",
        "Put a good certificate and its key there and run `systemctl reload nginx`.",
    ),
    (
        "port_taken",
        kind.server,
        both(
            on("state", containers={"vllm-gpt-oss-20b": None}),
            on("state", listening=[{"address": "0.0.0.0", "port": 8000, "process": "python3"}]),
        ),
        "python3 listens on 0.0.0.0:8000, the port of the instance gpt-oss-20b.",
        "ss -ltnp 'sport = :8000'",
    ),
    (
        "disk_full",
        kind.server,
        on(
            "state",
            disks={"/var/lib/docker": {"total_bytes": 100 << 30, "free_bytes": 0, "device": "8:3"}},
        ),
        "/var/lib/docker has 0 MiB of 100.0 GiB left.",
        "du -xh --max-depth=2 /var/lib/docker | sort -h | tail -20",
    ),
    (
        "disk_nearly_full",
        kind.server,
        on(
            "state",
            disks={
                "/boot": {"total_bytes": 500 << 20, "free_bytes": 40 << 20, "device": "8:2"},
            },
        ),
        "/boot has 40 MiB of 500 MiB left.",
        "du -xh --max-depth=2 /boot | sort -h | tail -20",
    ),
    (
        "time_unsynchronised",
        kind.edge,
        on("state", time={"synchronized": False}),
        "The clock is not synchronised.",
        "timedatectl set-ntp true || apt-get install --yes systemd-timesyncd",
    ),
]


@pytest.mark.parametrize(
    ("code", "make", "change", "what", "mend"), CASES, ids=[case[0] for case in CASES]
)
def test_one_trouble_is_one_finding(
    code: str, make: Callable[[], Host], change: Change, what: str, mend: str
) -> None:
    host = make()
    change(host)
    found = [(finding.code, finding.what, finding.mend) for finding in diagnose(host)]
    assert found == [(code, what, mend)]


# Told where the host was asked, not by diagnose; see test_host_doctor.py.
ELSEWHERE = {"unreachable", "unreadable", "not_provisioned"}


def test_every_finding_is_tested() -> None:
    known = set(_doctor_findings.data()["findings"])
    assert known == {case[0] for case in CASES} | ELSEWHERE


# -- causes and silences -------------------------------------------------------------------------


def codes(make: Callable[[], Host], *changes: Change, distribution: str = "Debian") -> list[str]:
    host = make()
    both(*changes)(host)
    return [finding.code for finding in diagnose(host, distribution)]


def test_the_kernel_says_why_the_module_is_not_loaded() -> None:
    host = kind.server()
    both(OFF, log("NVRM: RmFetchGspRmImages: No firmware image found"))(host)
    (finding,) = diagnose(host)
    assert finding.what.endswith(" The kernel says: RmFetchGspRmImages: No firmware image found.")


def test_ubuntu_keeps_the_key_of_dkms_elsewhere() -> None:
    host = kind.server()
    both(OFF, on("state", "kernel", secure_boot=True, module_key_enrolled=False))(host)
    (finding,) = diagnose(host, "Ubuntu")
    assert "`mokutil --import /var/lib/shim-signed/mok/MOK.der`" in finding.mend


def test_a_module_signed_by_the_distribution_has_another_trouble() -> None:
    signed = packages(**{"linux-modules-nvidia-580-server-open-generic": "1"})
    secure = on("state", "kernel", secure_boot=True, module_key_enrolled=False)
    assert codes(kind.server, OFF, secure, signed) == ["driver_not_loaded"]


def test_headers_are_of_no_interest_where_the_module_runs() -> None:
    assert codes(kind.server, on("state", "kernel", headers=False)) == []


@pytest.mark.parametrize(
    "name",
    [
        "linux-image-6.12.48+deb13-amd64",  # older
        "linux-image-6.12.57+deb13-amd64-dbg",
        "linux-image-amd64",
    ],
)
def test_a_kernel_that_will_not_be_started(name: str) -> None:
    assert codes(kind.server, on("state", "packages", **{name: "1"})) == []


def test_a_newer_kernel_with_a_module_is_fine() -> None:
    newer = on("state", "packages", **{f"linux-image-{NEXT}": "6.12.63-1"})
    assert (
        codes(kind.server, newer, on("state", "nvidia", built={KERNEL: DRIVER, NEXT: DRIVER})) == []
    )


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("595.91.07", []),
        ("595.71.05", ["driver_below_floor"]),
        ("570.211.01", ["driver_below_floor"]),  # a branch that gets no fixes any more
        ("620.10.01", []),
        ("580.190.08", []),
        # Between the branches of the table: the fixes of the next higher one count.
        ("590.48.01", ["driver_below_floor"]),
        ("600.10.01", ["driver_below_floor"]),
    ],
)
def test_each_branch_of_the_driver_has_its_floor(version: str, told: list[str]) -> None:
    driver = on("state", "nvidia", library=version, module={"version": version})
    names = ("0", uuid(0))
    assert codes(kind.server, driver, spec(specification(*names, driver=version), *names)) == told


def test_the_floor_of_a_branch_without_fixes_is_that_of_the_next_one() -> None:
    host = kind.server()
    on("state", "nvidia", library="590.48.01", module={"version": "590.48.01"})(host)
    spec(specification("0", uuid(0), driver="590.48.01"), "0", uuid(0))(host)
    (finding,) = diagnose(host)
    assert "595.91.07 is the oldest one" in finding.what


def test_a_reboot_is_no_mend_where_the_module_was_not_built() -> None:
    host = kind.server()
    on("state", "nvidia", library="580.190.08")(host)
    (finding,) = diagnose(host)
    assert (finding.code, finding.what, finding.mend) == (
        "driver_not_built",
        f"The NVIDIA module is not built for the running kernel {KERNEL}, which has {DRIVER} while"
        " the libraries are 580.190.08.",
        f"dkms autoinstall -k {KERNEL} && systemctl reboot",
    )


def test_without_headers_the_module_is_not_built_either() -> None:
    host = kind.server()
    on("state", "nvidia", library="580.190.08")(host)
    on("state", "kernel", headers=False)(host)
    (finding,) = diagnose(host)
    assert (finding.code, finding.mend) == (
        "headers_missing",
        f"apt-get install --yes linux-headers-{KERNEL} && dkms autoinstall -k {KERNEL}"
        " && systemctl reboot",
    )


def test_the_module_of_the_kernel_that_boots_next_counts() -> None:
    newer = on("state", "packages", **{f"linux-image-{NEXT}": "6.12.63-1"})
    host = kind.server()
    both(REPLACED, newer)(host)
    (finding,) = diagnose(host)
    assert (finding.code, finding.mend) == (
        "driver_not_built",
        f"apt-get install --yes linux-headers-{NEXT} && dkms autoinstall -k {NEXT}"
        " && systemctl reboot",
    )
    assert f"for the next kernel {NEXT}, which has none while" in finding.what
    both_built = {KERNEL: DRIVER, NEXT: "580.190.08"}
    assert codes(
        kind.server, newer, on("state", "nvidia", library="580.190.08", built=both_built)
    ) == ["driver_mismatch"]


def test_signed_modules_of_another_driver_come_in_a_package() -> None:
    host = kind.server()
    canonical(host, "6.8.0-94-generic")
    host["state"]["nvidia"] |= {
        "library": "580.190.08",
        "built": {"6.8.0-94-generic": DRIVER},
    }
    (finding,) = diagnose(host)
    assert (finding.code, finding.mend) == (
        "driver_package_missing",
        "apt-get update && apt-get install --yes"
        " linux-modules-nvidia-580-server-open-6.8.0-94-generic && systemctl reboot",
    )


def test_a_metapackage_names_the_package_of_a_kernel() -> None:
    def meta(host: Host) -> None:
        canonical(host, "6.8.0-94-generic")
        names = [name for name in host["state"]["packages"] if name.startswith("linux-modules")]
        host["state"]["packages"] |= dict.fromkeys(names) | {
            "linux-modules-nvidia-580-server-open-generic-hwe-24.04": "6.8.0-94.96"
        }

    host = kind.server()
    both(OFF, meta)(host)
    (finding,) = diagnose(host)
    assert "linux-modules-nvidia-580-server-open-6.8.0-94-generic &&" in finding.mend


@pytest.mark.parametrize("path", ["/var/run/cdi/nvidia.yaml", "/etc/cdi/nvidia.yaml"])
def test_a_specification_without_the_node_that_cuda_needs(path: str) -> None:
    host = kind.by_index() if path.startswith("/etc") else kind.server()
    text = host["state"]["read"][path]
    host["state"]["read"][path] = text.replace("  - path: /dev/nvidia-uvm\n", "")
    (finding,) = diagnose(host)
    assert finding.code == "cdi_stale"
    assert finding.what == (
        "The CDI specification does not fit the host: it does not name /dev/nvidia-uvm, without"
        " which CUDA does not start."
    )


def test_a_node_that_the_host_lacks_too_is_not_missed() -> None:
    host = kind.server()
    text = host["state"]["read"]["/var/run/cdi/nvidia.yaml"]
    without_node = text.replace("  - path: /dev/nvidia-uvm\n", "")
    host["state"]["read"]["/var/run/cdi/nvidia.yaml"] = without_node
    host["state"]["paths"]["/dev/nvidia-uvm"] = {"exists": False}
    assert diagnose(host) == []


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("1.22.1-9", ["nginx_unfixed"]),
        ("1.26.3-3", ["nginx_below_floor"]),
        ("1.26.3-3+b1", ["nginx_below_floor"]),
        ("1.26.3-3+deb13u10", []),
        ("1.24.0-2ubuntu7.5", []),  # Ubuntu's own: nothing is known
        ("1.30.5-1~trixie", ["nginx_below_floor"]),
    ],
)
def test_nginx_of_every_archive(version: str, told: list[str]) -> None:
    assert codes(kind.edge, packages(nginx=version)) == told


BY_HAND = settings(managed=[], by_hand=["docker", "driver", "toolkit"])


@pytest.mark.parametrize(
    ("case", "mend"),
    [
        (
            "driver_missing",
            f"Install the NVIDIA driver, {DRIVER} or newer, by the means that you keep it by.",
        ),
        (
            "driver_library_missing",
            f"Install libnvidia-ml.so.1 of {DRIVER} by the means that you keep the driver by.",
        ),
        (
            "nouveau_loaded",
            "Write `blacklist nouveau` to a file in /etc/modprobe.d, run `update-initramfs -u`, and"
            " reboot.",
        ),
        (
            "fabric_manager_missing",
            f"Install nvidia-fabricmanager {DRIVER} by the means that you keep the driver by.",
        ),
        (
            "fabric_manager_version",
            f"Install nvidia-fabricmanager {DRIVER} by the means that you keep the driver by.",
        ),
        (
            "driver_below_floor",
            f"Install the NVIDIA driver {DRIVER} or newer by the means that you keep it by.",
        ),
        (
            "toolkit_missing",
            "Install nvidia-container-toolkit-base, 1.19.1 or newer, by the means that you keep it"
            " by.",
        ),
        (
            "toolkit_below_floor",
            "Install the NVIDIA container toolkit 1.19.1 or newer by the means that you keep it"
            " by.",
        ),
        (
            "docker_missing",
            "Install Docker Engine 29.9.0 or newer by the means that you keep it by.",
        ),
        (
            "docker_below_floor",
            "Install Docker Engine 29.9.0 or newer by the means that you keep it by.",
        ),
    ],
)
def test_what_is_installed_by_hand_is_mended_by_hand(case: str, mend: str) -> None:
    make, change = next(each[1:3] for each in CASES if each[0] == case)
    host = make()
    both(change, on(settings=BY_HAND))(host)
    assert [(finding.code, finding.mend) for finding in diagnose(host)] == [(case, mend)]


def test_of_two_parts_only_the_one_by_hand_is_mended_so() -> None:
    make, change = next(each[1:3] for each in CASES if each[0] == "toolkit_below_floor")
    host = make()
    both(change, on(settings=settings(managed=["toolkit"], by_hand=["driver"])))(host)
    assert [finding.mend for finding in diagnose(host)] == [PLAY]


def test_every_mend_that_installs_a_part_has_one_by_hand() -> None:
    """But for those of host_tuning, and of daemon.json, which is kept in any case."""
    own = {"docker_cdi_off", "upgrades_unguarded", "restarts_unguarded"}
    kinds = _doctor_findings.data()["findings"].items()
    assert {
        code for code, each in kinds if "provision.yml" in each["mend"] and not each.get("by_hand")
    } == own
    by_hand = [each for _code, each in kinds if "by_hand" in each]
    assert all(each["part"] in ("docker", "driver", "toolkit") for each in by_hand)
    assert all(each["by_hand"][0].isupper() and each["by_hand"][-1] == "." for each in by_hand)


def test_the_host_is_asked_for_all_that_is_judged() -> None:
    asked = _doctor.questions(settings(), "/srv/vllm", ["gpt-oss-20b"])
    assert asked["read"] == list(_doctor.READS)
    assert asked["disks"] == [*_doctor.DISKS, "/srv/vllm"]
    assert asked["ports"] == [8000, 8080]
    assert asked["kernel_log"] is True
    assert asked["certificates"] == []
    assert asked["instances_directory"] == "/srv/vllm"
    assert asked["packages"] == list(_doctor.PACKAGES)
    assert "docker.service" in asked["services"]
    assert "vllm@gpt-oss-20b.service" in asked["services"]
    assert asked["containers"] == ["vllm-gpt-oss-20b"]
    assert {"/etc/nginx/vllm/in_force", "/dev/nvidia-uvm", "/sys/module/nvidia_uvm"} <= {
        *asked["paths"]
    }


def test_a_specification_of_the_driver_before() -> None:
    host = kind.server()
    names = ("0", uuid(0), "all")
    spec(specification(*names, driver="580.159.04"), *names)(host)
    (finding,) = diagnose(host)
    assert finding.what == (
        "The CDI specification does not fit the host: it names the libraries of driver 580.159.04,"
        f" and {DRIVER} is installed."
    )


def test_of_two_specifications_the_one_in_force_counts() -> None:
    """One written by hand long ago is overridden, name by name, by the one in /var/run."""
    old = {"/etc/cdi/nvidia.yaml": specification("0", uuid(7), driver="570.86.15")}
    named = [*kind.state()["cdi_devices"], f"nvidia.com/gpu={uuid(7)}"]
    assert codes(kind.server, on("state", "read", **old), on("state", cdi_devices=named)) == []


def test_a_mig_instance_that_the_specification_lacks() -> None:
    def recut(host: Host) -> None:
        host["gpu_info"]["gpus"][0]["mig"]["instances"] = [{"uuid": "MIG-new"}]

    host = kind.mig()
    recut(host)
    (finding,) = diagnose(host)
    assert "it lacks MIG-new and it names MIG-20000000" in finding.what


def test_an_index_that_the_specification_lacks() -> None:
    host = kind.by_index()
    host["gpu_info"]["gpus"].append(gpu(1))
    (finding,) = diagnose(host)
    assert finding.what == "The CDI specification does not fit the host: it lacks 1."


def test_the_fabric_manager_of_ubuntu_is_called_after_its_branch() -> None:
    ubuntu = packages(
        nvidia_fabricmanager=None,
        nvidia_fabricmanager_580=f"{DRIVER}-0ubuntu0.24.04.1",
        nvidia_fabricmanager_dev_580="570.0-1",
    )
    held = on("state", held=[*kind.hgx()["state"]["held"], "nvidia-fabricmanager-580"])
    assert codes(kind.hgx, ubuntu, held) == []


def test_a_fabric_that_was_completed_with_an_error() -> None:
    host = kind.hgx()
    for each in host["gpu_info"]["gpus"]:
        each["fabric"]["status"] = 999
    (finding,) = diagnose(host)
    assert finding.what.endswith(
        "is completed with error 999, so CUDA programs fail there with error 802."
    )


def test_switches_that_are_managed_over_infiniband() -> None:
    """From B200 on they are not on the bus themselves."""

    def b200(host: Host) -> None:
        nvidia = host["state"]["nvidia"]
        nvidia["devices"] = [each for each in nvidia["devices"] if each["class"] == "030200"]
        nvidia["switch_managers"] = ["0000:05:00.0"]

    assert codes(kind.hgx, b200) == []
    down = service("nvidia-fabricmanager.service", active="inactive")
    assert codes(kind.hgx, b200, down) == ["fabric_manager_down"]


def test_a_gpu_that_works_for_nobody_is_no_trouble() -> None:
    host = kind.hgx()
    for each in host["gpu_info"]["gpus"]:
        each["processes"] = []
    assert diagnose(host) == []


@pytest.mark.parametrize(
    ("lines", "time", "told"),
    [
        # The unit has restarted the engine: that was all there was to do.
        ([xid("31, pid=1, name=x, MMU Fault")], PAST, []),
        # Follows another one, or is told by the memory of the GPU.
        ([xid("45, pid=1, Preemptive"), xid("63, Row Remapper"), xid("43, stopped")], PAST, []),
        # The GPU takes back what it asked for.
        (
            [
                xid("48, DBE"),
                xid("154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"),
                xid("154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"),
            ],
            None,
            [],
        ),
        (
            [xid("154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)")],
            None,
            ["xid_reboot"],
        ),
        # Of one GPU the worst is told, once.
        (
            [xid("31, MMU Fault"), xid("79, off the bus"), xid("31, MMU Fault")],
            None,
            ["xid_reboot"],
        ),
        ([xid("999, new")], None, ["xid_support"]),
        (["NVRM: loading NVIDIA UNIX Open Kernel Module"], None, []),
    ],
    ids=["restarted", "follows", "recovered", "action", "worst", "unknown", "no Xid"],
)
def test_xids(lines: list[str], time: str | None, told: list[str]) -> None:
    assert codes(kind.server, log(*lines, time=time)) == told


def test_each_gpu_has_its_own_xids() -> None:
    lines = (xid("79, off the bus"), "NVRM: Xid (PCI:0000:1a:00): 48, DBE")
    assert codes(kind.hgx, log(*lines)) == ["xid_reboot", "xid_reset"]


def test_a_gpu_that_nvml_does_not_know_is_called_by_its_place() -> None:
    host = kind.server()
    log("NVRM: Xid (PCI:0000:5d:00): 79, off the bus")(host)
    (finding,) = diagnose(host)
    assert finding.what.startswith("The GPU at 0000:5d:00 reported Xid 79")


def test_xids_do_not_matter_where_no_instance_uses_gpus() -> None:
    assert codes(kind.without_gpus, log(xid("79, off the bus"))) == []


@pytest.mark.parametrize(
    "change",
    [
        on("state", "read", **{"/etc/apt/apt.conf.d/20auto-upgrades": None}),
        on(
            "state",
            "read",
            **{
                "/etc/apt/apt.conf.d/20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "0";\n',
            },
        ),
        on(
            "state",
            "read",
            **{
                "/etc/apt/apt.conf.d/50unattended-upgrades": (
                    'Unattended-Upgrade::Package-Blacklist {\n"nvidia-";\n"nginx";\n};'
                )
            },
        ),
        on(settings=settings(guard=False)),
        packages(unattended_upgrades=None),
    ],
    ids=["off by default", "switched off", "own blacklist", "guard not wanted", "not installed"],
)
def test_upgrades_that_cannot_do_harm(change: Change) -> None:
    assert codes(kind.server, on("state", "read", **{_tuning.APT_FILE: None}), change) == []


def test_packages_of_parts_that_others_installed_may_be_loose() -> None:
    assert codes(kind.server, on("state", held=[]), on(settings=settings(managed=[]))) == []


def test_an_instance_that_shall_not_be_there_may_be_stopped() -> None:
    stopped = service("vllm@gpt-oss-20b.service", active="inactive")
    other = on(settings=settings(instances=["another"]))
    assert codes(kind.server, stopped, other) == []


def test_units_that_only_miss_the_driver_are_not_told() -> None:
    broken = REPLACED
    helpers = [
        service(name, active="failed")
        for name in ("nvidia-persistenced.service", "nvidia-cdi-refresh.service")
    ]
    assert codes(kind.server, broken, *helpers) == ["driver_mismatch"]
    assert codes(kind.server, *helpers) == ["unit_failed", "unit_failed"]


def test_a_fabric_manager_that_provisioning_will_bring() -> None:
    host = kind.hgx()
    host["state"] |= {"instances": [], "containers": {}, "listening": []}
    host["state"]["packages"]["nvidia-fabricmanager"] = None
    host["state"]["services"]["nvidia-fabricmanager.service"] = kind.NO_UNIT
    assert [finding.code for finding in diagnose(host)] == ["not_provisioned"]


def replica(host: Host) -> None:
    """Add a second engine of the instance, on the port after its own."""
    host["state"]["instances"].append(
        {
            "name": "gpt-oss-20b-2",
            "current": "3f9c0a1b2c3d",
            "publish": "127.0.0.1:8001",
            "proved_at": kind.PROVED,
            "replica_of": "gpt-oss-20b",
        }
    )


def test_replicas_are_looked_at_too() -> None:
    failed = service("vllm@gpt-oss-20b-2.service", active="failed")
    assert codes(kind.server, replica, failed) == ["unit_failed"]


@pytest.mark.parametrize(
    "listening",
    [
        # Docker without its proxy listens nowhere; another address is nobody's way.
        [],
        [{"address": "10.0.0.5", "port": 8000, "process": "python3"}],
        [{"address": "0.0.0.0", "port": 9999, "process": "python3"}],
        # Without root nobody sees whose socket it is.
        [{"address": "0.0.0.0", "port": 8080, "process": None}],
    ],
    ids=["no proxy", "another address", "another port", "unseen"],
)
def test_sockets_that_are_in_nobodys_way(listening: list[dict[str, Any]]) -> None:
    gone = on("state", containers={"vllm-gpt-oss-20b": None})
    assert codes(kind.server, gone, on("state", listening=listening)) == []


def test_a_replica_is_looked_at_on_its_port() -> None:
    host = kind.server()
    replica(host)
    listening = [{"address": "127.0.0.1", "port": 8001, "process": "python3"}]
    on("state", listening=listening)(host)
    service("vllm@gpt-oss-20b-2.service")(host)
    (finding,) = diagnose(host)
    assert finding.what == (
        "python3 listens on 127.0.0.1:8001, the port of the instance gpt-oss-20b-2."
    )
    host["state"]["containers"]["vllm-gpt-oss-20b-2"] = {"state": "running"}
    assert diagnose(host) == []


def test_nginx_is_ours_on_the_port_of_the_edge_alone() -> None:
    listening = [
        {"address": "127.0.0.1", "port": port, "process": "nginx"} for port in (8000, 8080)
    ]
    host = kind.virgin()
    on("state", listening=listening)(host)
    taken = [each.what for each in diagnose(host) if each.code == "port_taken"]
    assert taken == ["nginx listens on 127.0.0.1:8000, the port of the instance gpt-oss-20b."]


@pytest.mark.parametrize(
    ("address", "wanted", "told"),
    [
        ("10.0.0.5", {8000: "127.0.0.1"}, []),
        ("10.0.0.5", {8000: "10.0.0.5"}, ["port_taken"]),
        ("0.0.0.0", {8000: "127.0.0.1"}, ["port_taken"]),
        ("10.0.0.5", {8000: ""}, ["port_taken"]),  # only facts could tell
        ("10.0.0.5", {}, ["port_taken"]),
    ],
)
def test_before_the_first_run_addresses_are_compared(
    address: str, wanted: dict[int, str], told: list[str]
) -> None:
    listening = [{"address": address, "port": 8000, "process": "python3"}]
    change = both(on("state", listening=listening), on(settings=settings(addresses=wanted)))
    assert codes(kind.virgin, change) == [*told, "not_provisioned"]


@pytest.mark.parametrize(
    ("tls", "changed", "mend"),
    [
        ("acme", {"not_after": kind.STARTED + 86400}, "certbot renew --no-random-sleep-on-renew"),
        ("acme", {"problem": "/x is not there"}, "ansible-playbook playbooks/site.yml"),
        ("self_signed", {"not_after": kind.STARTED}, "ansible-playbook playbooks/site.yml"),
        ("self_signed", {"problem": "/x is not there"}, "ansible-playbook playbooks/site.yml"),
    ],
)
def test_each_certificate_is_renewed_by_who_made_it(
    tls: str, changed: dict[str, Any], mend: str
) -> None:
    (finding,) = diagnose(kind.edge_with_tls(tls, **changed))
    assert finding.mend == mend


def test_certbot_is_told_whom_a_private_directory_is_trusted_by() -> None:
    host = kind.edge_with_tls("acme", not_after=kind.STARTED)
    own = dataclasses.replace(host["settings"].certificate, authority="/etc/ssl/ca.pem")
    host["settings"] = dataclasses.replace(host["settings"], certificate=own)
    (finding,) = diagnose(host)
    assert finding.mend == (
        "REQUESTS_CA_BUNDLE=/etc/ssl/ca.pem certbot renew --no-random-sleep-on-renew"
    )


@pytest.mark.parametrize(("days", "told"), [(6.1, []), (5.9, ["edge_certificate_expires"])])
def test_a_certificate_that_never_holds_long(days: float, told: list[str]) -> None:
    now, day = kind.STARTED, 86400
    of_24_days = certificate(not_before=now + (days - 24) * day, not_after=now + days * day)
    assert codes(kind.edge_with_tls, of_24_days) == told


def test_the_host_is_asked_for_the_certificate_of_its_edge() -> None:
    asked = _doctor.questions(kind.edge_with_tls()["settings"], "/srv/vllm", [])
    assert asked["certificates"] == [{"certificate": kind.PEM, "key": "/etc/ssl/llm.key"}]


def test_a_certificate_before_the_first_run_is_not_missed() -> None:
    fresh = on("state", paths={})
    assert codes(kind.edge_with_tls, fresh, certificate(problem="/x is not there")) == []


def test_nginx_has_the_port_of_challenges() -> None:
    host = kind.edge()
    listening = [{"address": "0.0.0.0", "port": 80, "process": "nginx"}]
    on("state", listening=listening)(host)
    ports = {8080: "the edge", 80: "the ACME challenges of the edge"}
    challenged = dataclasses.replace(host["settings"], ports=ports, addresses={}, edge_ports=[80])
    host["settings"] = challenged
    assert diagnose(host) == []
    listening[0]["process"] = "apache2"
    (finding,) = diagnose(host)
    assert finding.what == (
        "apache2 listens on 0.0.0.0:80, the port of the ACME challenges of the edge."
    )


def test_an_edge_whose_nginx_was_removed() -> None:
    gone = on("state", "services", **{"nginx.service": kind.NO_UNIT})
    assert codes(kind.edge, gone) == ["unit_missing"]


def test_a_host_that_never_was_an_edge() -> None:
    none = on("state", "paths", **{"/etc/nginx/vllm/in_force": {"exists": False}})
    assert codes(kind.server, on(settings=settings(edge=False)), none) == []


def test_an_address_that_nobody_keeps() -> None:
    shared = dataclasses.replace(kind.edge()["settings"], shares_address=True)
    stopped = service("keepalived.service", active="inactive")
    assert codes(kind.edge, on(settings=shared)) == ["unit_missing"]
    assert codes(kind.edge, on(settings=shared), stopped) == ["unit_stopped"]
    assert codes(kind.edge, stopped) == []


def test_a_port_that_is_taken_before_the_first_run() -> None:
    taken = on("state", listening=[{"address": "0.0.0.0", "port": 8080, "process": "apache2"}])
    assert codes(kind.virgin, taken) == ["port_taken", "not_provisioned"]


@pytest.mark.parametrize(
    ("total", "free"),
    [(20 << 30, 3 << 30), (8 << 40, 100 << 30), (500 << 20, 60 << 20), (0, 0)],
    ids=["small", "large", "boot", "no size"],
)
def test_disks_with_room(total: int, free: int) -> None:
    disk = {"total_bytes": total, "free_bytes": free, "device": "8:1"}
    assert codes(kind.server, on("state", disks={"/": disk})) == []


@pytest.mark.parametrize("device", ["8:1", "0:42"], ids=["directory", "subvolume"])
def test_a_filesystem_is_told_once(device: str) -> None:
    disk = {"total_bytes": 100 << 30, "free_bytes": 0, "device": "8:1"}
    other = disk | {"device": device}
    assert codes(kind.server, on("state", disks={"/": disk, "/var": other})) == ["disk_full"]


def test_a_clock_that_nobody_can_judge_is_not_judged() -> None:
    assert codes(kind.server, on("state", time={"synchronized": None})) == []


def test_the_worst_is_told_first() -> None:
    full = {"/": {"total_bytes": 100 << 30, "free_bytes": 0, "device": "8:1"}}
    reboot = on("state", "kernel", reboot_required=True)
    clock = on("state", time={"synchronized": False})
    assert codes(kind.edge, reboot, clock, on("state", disks=full)) == [
        *("disk_full", "time_unsynchronised", "reboot_pending"),
    ]


# -- the tables and the page ---------------------------------------------------------------------


def test_every_severity_is_one_of_three() -> None:
    kinds = _doctor_findings.data()["findings"].values()
    assert {each["severity"] for each in kinds} == set(_doctor_findings.SEVERITIES)


def test_a_mend_is_a_command_or_a_sentence() -> None:
    for code, each in _doctor_findings.data()["findings"].items():
        sentence = each["mend"][0].isupper()
        assert sentence == each["mend"].endswith("."), code


def test_no_xid_is_in_two_lists() -> None:
    lists = _doctor_findings.data()["xids"]
    numbers = [number for name, each in lists.items() if name != "_about" for number in each]
    assert len(numbers) == len(set(numbers))


def page() -> str:
    return (Path(_inventory.__file__).parents[2] / "docs" / "doctor.md").read_text()


def page_rows() -> list[str]:
    lines = page().split("## Every finding")[1].splitlines()
    return [line for line in lines if line.startswith("| `")]


def as_page_text(text: str) -> str:
    """Names in braces as code, without which a page would take them for tags."""
    plain = _doctor_findings.Commands()
    own = {"{play}": plain.play, "{ansible}": plain.ansible, "{host}": "HOST", "|": "\\|"}
    for name, value in own.items():
        text = text.replace(name, value)
    parts = text.split("`")  # every second one is code
    parts[::2] = [re.sub(r"{(\w+)}", r"`<\1>`", part) for part in parts[::2]]
    parts[1::2] = [re.sub(r"{(\w+)}", r"<\1>", part) for part in parts[1::2]]
    return "`".join(parts).replace("``", "")


def as_page_row(code: str, each: dict[str, str]) -> str:
    mend = each["mend"] if each["mend"].endswith(".") else f"`{each['mend']}`"
    if "by_hand" in each:
        mend += f" Where its source is `preinstalled`: {each['by_hand']}"
    what, mend = as_page_text(each["what"]), as_page_text(mend)
    return f"| `{code}` | {each['severity']} | {what} | {mend} |"


def test_the_page_shows_what_is_printed() -> None:
    host = kind.server()
    both(
        REPLACED,
        on(
            "state",
            disks={"/": {"total_bytes": 500 << 30, "free_bytes": 7 << 30, "device": "8:1"}},
        ),
    )(host)
    printed = _doctor_report.table(diagnose(host), ["edge1", "gpu1", "gpu2"])
    assert f"```\n{printed}```\n" in page()


def test_the_page_lists_every_finding() -> None:
    findings = _doctor_findings.data()["findings"]
    assert page_rows() == [as_page_row(code, each) for code, each in findings.items()]


def test_findings_become_json() -> None:
    finding = diagnose(kind.virgin())[0].as_json()
    assert list(finding) == ["host", "severity", "what", "mend", "code"]
    json.dumps(finding)
