# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What is wrong with a host, and what mends it: facts in, findings out.

A doctor that cries wolf is not read. Nothing is said of what the inventory does not ask of a host,
what is missing on a host that was never set up is one note, and of several troubles with one cause
the cause is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils import (
    _doctor_driver,
    _doctor_edge,
    _doctor_gpus,
    _doctor_host,
    _doctor_log,
    _toolkit,
    _tuning,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import (
    Commands,
    Finding,
    Findings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_tables import GLOBS

# What host_state is asked for.
PACKAGES = (
    *("containerd", "containerd.io", "docker-ce", "docker-ce-cli", "docker.io", "runc"),
    *("nginx", "nginx-common", "needrestart", "unattended-upgrades"),
    *("linux-image-[0-9]*", "linux-image-unsigned-[0-9]*"),
    *GLOBS,
)
SERVICES = (
    *("containerd.service", "docker.service", "nginx.service", "vllm-firewall.service"),
    *("nvidia-persistenced.service", "nvidia-cdi-refresh.service", "keepalived.service"),
    *(_doctor_gpus.FABRIC_MANAGER, _tuning.CLOCK_UNIT),
)
PATHS = (*_doctor_edge.PATHS, *_toolkit.PATHS)
READS = (
    *_doctor_gpus.SPECIFICATIONS,
    *_doctor_host.UPGRADES_ON,
    *_doctor_host.BLACKLISTS,
    _tuning.NEEDRESTART_FILE,
)
DISKS = ("/", "/boot", "/var", "/var/lib/docker", "/var/log")


@dataclass(frozen=True)
class Settings:
    """What the inventory wants of a host.

    :param instances: names of the instances that shall be there.
    :param ports: port -> what it is for, of instances and edge.
    :param addresses: port -> address on which it shall be listened on, where that is known.
    :param edge_ports: those of the edge, on which nginx may listen.
    :param certificate: the files that the edge serves TLS with, None where it does not.
    :param shares_address: whether it shares a virtual address with other edges.
    :param managed: parts that the collection installs itself: ``docker``, ``driver``, ``toolkit``.
    :param by_hand: parts that somebody else installs (``..._source: preinstalled``).
    :param guard: whether unattended upgrades shall be kept away (host_tuning_guard).
    """

    gpu_host: bool = True
    edge: bool = False
    wants_gpus: bool = True
    instances: Sequence[str] = ()
    ports: Mapping[int, str] = field(default_factory=dict)
    addresses: Mapping[int, str] = field(default_factory=dict)
    edge_ports: Sequence[int] = ()
    certificate: _doctor_edge.Certificate | None = None
    shares_address: bool = False
    managed: Sequence[str] = ("docker", "driver", "toolkit")
    by_hand: Sequence[str] = ()
    guard: bool = True
    vllm_release: str = ""
    commands: Commands = field(default_factory=Commands)


def questions(
    settings: Settings, state_directory: str, instance_names: Sequence[str]
) -> dict[str, Any]:
    """The options of host_state."""
    own = settings.certificate
    return {
        "packages": list(PACKAGES),
        "services": [*SERVICES, *(f"vllm@{name}.service" for name in instance_names)],
        "paths": list(PATHS),
        "read": list(READS),
        "certificates": [{"certificate": own.certificate, "key": own.key}] if own else [],
        "disks": [*DISKS, state_directory],
        "containers": [f"vllm-{name}" for name in instance_names],
        "instances_directory": state_directory,
        "ports": sorted(settings.ports),
        "kernel_log": True,
    }


def diagnose(
    host: str,
    facts: Mapping[str, Any],
    state: Mapping[str, Any],
    gpu_info: Mapping[str, Any] | None,
    settings: Settings,
) -> list[Finding]:
    """Everything that is wrong with one host, the worst first.

    :param facts: ``platform`` of ``state``; the distribution is read.
    :param state: result of host_state for ``questions``.
    :param gpu_info: the fact of that name, None where no instance wants GPUs.
    """
    findings = Findings(host, settings.commands, settings.by_hand)
    deployed = any(each.get("current") for each in state.get("instances") or [])
    edge = settings.edge and bool(
        (state.get("paths") or {}).get(_doctor_edge.IN_FORCE, {}).get("exists")
    )
    if settings.gpu_host and settings.instances:
        if not deployed:
            findings.add("not_provisioned", missing=_missing(state, settings))
        drives = True
        if settings.wants_gpus:
            drives = _examine_gpus(findings, facts, state, gpu_info, deployed)
        if deployed:
            _examine_engines(findings, state, settings, drives)
    if edge:
        _doctor_host.examine_edge_units(findings, state, settings.shares_address)
        _doctor_host.examine_nginx_floor(findings, state)
        _doctor_edge.examine_dropin(findings, state)
        _doctor_edge.examine_certificate(findings, state, settings.certificate, settings.commands)
    if not settings.edge:
        _doctor_edge.examine_former(findings, state)
    if settings.guard and (edge or deployed):
        _doctor_host.examine_upgrades(findings, state)
    _doctor_host.examine_ports(
        findings, state, settings.ports, settings.addresses, settings.edge_ports
    )
    _doctor_host.examine_disks(findings, state)
    _doctor_host.examine_clock(findings, state)
    _doctor_host.examine_unfinished(findings, state)
    return findings.sorted()


def _missing(state: Mapping[str, Any], settings: Settings) -> str:
    """What site.yml will bring first."""
    missing = []
    if settings.wants_gpus and not _doctor_driver.is_installed(state):
        missing.append("the NVIDIA driver")
    if not (state.get("docker") or {}).get("version"):
        missing.append("Docker Engine")
    if settings.wants_gpus and not state.get("cdi_devices"):
        missing.append("a CDI specification")
    return f"; still missing: {', '.join(missing)}" if missing else ""


def _examine_gpus(
    findings: Findings,
    facts: Mapping[str, Any],
    state: Mapping[str, Any],
    gpu_info: Mapping[str, Any] | None,
    deployed: bool,
) -> bool:
    """Driver, cards, fabric and CDI. Returns whether the driver works."""
    told = gpu_info or {}
    _doctor_driver.examine(findings, facts, state, gpu_info, deployed)
    drives = not any(finding.severity == "error" for finding in findings)
    if (state.get("nvidia") or {}).get("module"):
        _doctor_host.examine_driver_floor(findings, state)
        _doctor_gpus.examine_cards(findings, told)
        if drives:
            _doctor_gpus.examine_fabric(findings, state, told, deployed)
        if drives and deployed:
            _doctor_gpus.examine_cdi(findings, state, told)
    _doctor_log.examine(findings, state, told)
    return drives


def _examine_engines(
    findings: Findings, state: Mapping[str, Any], settings: Settings, drives: bool
) -> None:
    """What a host with instances has beside its GPUs.

    :param drives: whether the driver works; units that need it fail without it.
    """
    _doctor_host.examine_docker(findings, state, settings.wants_gpus)
    _doctor_host.examine_engines(findings, state, settings.instances)
    helpers = ["vllm-firewall.service"]
    if settings.wants_gpus and drives:
        told = {finding.code for finding in findings} & {"cdi_missing", "cdi_stale"}
        helpers += ["nvidia-persistenced.service", _tuning.CLOCK_UNIT]
        helpers += [] if told else ["nvidia-cdi-refresh.service"]
    _doctor_host.examine_helpers(findings, state, helpers)
    parts = [part for part in settings.managed if part == "docker" or settings.wants_gpus]
    _doctor_host.examine_holds(findings, state, parts)
    _doctor_host.examine_package_floors(findings, state)
    _doctor_host.examine_vllm_floor(findings, settings.vllm_release)
