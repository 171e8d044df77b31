# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What is wrong with a host beside its GPUs: engine, units, packages, disk, clock, ports."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils import (
    _driver_state,
    _toolkit,
    _tuning,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._debian_version import (
    is_older,
    upstream,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import Findings, data
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_tables import SECURE_VERSIONS
from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import version as release_of
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import releases

State = Mapping[str, Any]

_GIB = 2**30
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on

# Packages that must not be replaced under an engine, beside those of the driver.
HELD = {
    "docker": ("docker-ce", "docker-ce-cli", "containerd.io"),
    "toolkit": (
        *("nvidia-container-toolkit", "nvidia-container-toolkit-base"),
        *("libnvidia-container-tools", "libnvidia-container1"),
    ),
}
UPGRADES_ON = ("/etc/apt/apt.conf.d/20auto-upgrades", "/etc/apt/apt.conf.d/10periodic")
BLACKLISTS = (
    "/etc/apt/apt.conf.d/50unattended-upgrades",
    "/etc/apt/apt.conf.d/51unattended-upgrades",
    "/etc/apt/apt.conf.d/52unattended-upgrades-local",
    _tuning.APT_FILE,
)
_BLACKLIST = re.compile(r"Unattended-Upgrade::Package-Blacklist\s*\{(.*?)\}", re.S)
_COMMENT = re.compile(r"(?m)^\s*(//|#).*$")


def installed(state: State) -> dict[str, str]:
    """Version by package, of those that are installed."""
    return {name: value for name, value in (state.get("packages") or {}).items() if value}


def _service(state: State, unit: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (state.get("services") or {}).get(unit) or {}
    return found


# -- Docker --------------------------------------------------------------------------------------


def examine_docker(findings: Findings, state: State, wants_gpus: bool) -> None:
    """The engine of a host that has instances."""
    docker = state.get("docker") or {}
    unit = _service(state, "docker.service")
    if not docker.get("version") and unit.get("load") == "not-found":
        findings.add("docker_missing", floor=data()["floors"]["docker"]["floor"])
    elif not docker.get("version"):
        findings.add("docker_down", active=unit.get("active"))
    elif wants_gpus and docker.get("cdi") is False:
        findings.add("docker_cdi_off", version=docker["version"])


# -- units ---------------------------------------------------------------------------------------


def examine_engines(findings: Findings, state: State, wanted: Iterable[str]) -> None:
    """The units of instances that have a release in force."""
    names = set(wanted)
    for instance in state.get("instances") or []:
        if instance.get("current") and {instance["name"], instance.get("replica_of")} & names:
            _examine_unit(findings, state, f"vllm@{instance['name']}.service")


def examine_edge_units(findings: Findings, state: State, shares_address: bool) -> None:
    _examine_unit(findings, state, "nginx.service")
    if shares_address:
        _examine_unit(findings, state, "keepalived.service")


def _examine_unit(findings: Findings, state: State, unit: str) -> None:
    now = _service(state, unit)
    restarts = now.get("n_restarts") or 0
    if now.get("load") == "not-found":
        findings.add("unit_missing", unit=unit)
    elif now.get("active") == "failed":
        after = f" after {restarts} restarts" if restarts else ""
        findings.add("unit_failed", unit=unit, after=after)
    elif now.get("active") == "activating" and restarts:
        findings.add("unit_restarting", unit=unit, count=restarts)
    elif now.get("active") == "inactive":
        findings.add("unit_stopped", unit=unit)


def examine_helpers(findings: Findings, state: State, units: Iterable[str]) -> None:
    """Units that may rest, but must not fail."""
    for unit in units:
        if _service(state, unit).get("active") == "failed":
            findings.add("unit_failed", unit=unit, after="")


# -- packages ------------------------------------------------------------------------------------


def examine_holds(findings: Findings, state: State, parts: Iterable[str]) -> None:
    """Packages that the collection keeps at their version.

    :param parts: those that it installs itself: ``docker``, ``driver``, ``toolkit``.
    """
    names = {name for part in parts for name in HELD.get(part, ())} & set(installed(state))
    loose = sorted(
        (names - set(state.get("held") or []))
        | set(_driver_state.to_hold(state) if "driver" in parts else ())
    )
    if loose:
        findings.add("packages_not_held", names=", ".join(loose), packages=" ".join(loose))


def examine_upgrades(findings: Findings, state: State) -> None:
    """Upgrades and restarts that nobody watches, where host_tuning_guard is on."""
    packages, read = installed(state), state.get("read") or {}
    if "unattended-upgrades" in packages and _upgrades_run(read):
        left_alone = _blacklist(read)
        exposed = [
            name
            for name in sorted(packages)
            if any(re.match(pattern, name) for pattern in _tuning.GUARDED_PACKAGES)
            and name not in (state.get("held") or [])
            and not any(_matches(pattern, name) for pattern in left_alone)
        ]
        if exposed:
            findings.add("upgrades_unguarded", names=", ".join(exposed))
    if "needrestart" in packages and not read.get(_tuning.NEEDRESTART_FILE):
        units = [
            unit
            for unit in ("containerd.service", "docker.service", "nginx.service")
            if _service(state, unit).get("active") == "active"
        ]
        if units:
            findings.add("restarts_unguarded", names=", ".join(units))


def _upgrades_run(read: Mapping[str, str | None]) -> bool:
    text = "\n".join(_COMMENT.sub("", read.get(path) or "") for path in UPGRADES_ON)
    found = re.findall(r'APT::Periodic::Unattended-Upgrade\s+"?(\w+)', text)
    return bool(found) and found[-1] != "0"


def _blacklist(read: Mapping[str, str | None]) -> list[str]:
    texts = (_COMMENT.sub("", read.get(path) or "") for path in BLACKLISTS)
    blocks = (block for text in texts for block in _BLACKLIST.findall(text))
    return [pattern for block in blocks for pattern in re.findall(r'"([^"]+)"', block)]


def _matches(pattern: str, name: str) -> bool:
    try:
        return bool(re.match(pattern, name))
    except re.error:
        return False


def examine_unfinished(findings: Findings, state: State) -> None:
    if state.get("unfinished"):
        findings.add("packages_unfinished", names=", ".join(state["unfinished"]))
    if (state.get("kernel") or {}).get("reboot_required"):
        findings.add("reboot_pending")


# -- security floors -----------------------------------------------------------------------------


def examine_driver_floor(findings: Findings, state: State) -> None:
    """A branch that is not in the table gets no fixes: those of the next higher one count.

    Of branches above the table nothing is known, and nothing is said.
    """
    version = _driver_state.loaded(state) or ""
    numbers = _driver_state.numbers(version)
    higher = [branch for branch in sorted(SECURE_VERSIONS) if numbers and branch >= numbers[0]]
    if higher and is_older(version, SECURE_VERSIONS[higher[0]]):
        findings.add("driver_below_floor", version=version, floor=SECURE_VERSIONS[higher[0]])


def examine_package_floors(findings: Findings, state: State) -> None:
    """The toolkit, and Docker's own engine; a distribution mends under numbers of its own."""
    floors = {"toolkit": _toolkit.FLOOR, "docker": data()["floors"]["docker"]["floor"]}
    for part, package in (("toolkit", "nvidia-container-toolkit-base"), ("docker", "docker-ce")):
        version = upstream(installed(state).get(package, ""))
        if version and is_older(version, floors[part]):
            findings.add(f"{part}_below_floor", version=version, floor=floors[part])


def examine_nginx_floor(findings: Findings, state: State) -> None:
    version = installed(state).get("nginx", "")
    for line in data()["floors"]["nginx"]["lines"]:
        if re.search(line["fits"], version) and is_older(version, line["floor"]):
            code = "nginx_below_floor" if line.get("fixed", True) else "nginx_unfixed"
            findings.add(code, version=version, floor=line["floor"])


def examine_vllm_floor(findings: Findings, release: str) -> None:
    holes = releases.advisories(release)
    if not holes:
        return
    floor = max((hole["fixed"] for hole in holes), key=release_of)
    if any(hole["text"] for hole in holes):
        findings.add("vllm_below_floor", holes=releases.advisory_note(release), floor=floor)
    else:
        ids = ", ".join(hole["id"] for hole in holes)
        findings.add("vllm_advisory", release=release, ids=ids, floor=floor)


# -- disk, clock, ports --------------------------------------------------------------------------


def examine_disks(findings: Findings, state: State) -> None:
    """Each filesystem once. A small one may be small: share and size must both be low."""
    seen: set[Any] = set()
    for path, disk in (state.get("disks") or {}).items():
        # Subvolumes of one filesystem are devices of their own with the same room.
        same = {disk["device"], (disk["total_bytes"], disk["free_bytes"])}
        if same & seen or not disk["total_bytes"]:
            continue
        seen |= same
        free, share = disk["free_bytes"], disk["free_bytes"] / disk["total_bytes"]
        size = {"path": path, "free": _size(free), "total": _size(disk["total_bytes"])}
        if free < _GIB and share < 0.05:
            findings.add("disk_full", **size)
        elif free < 10 * _GIB and share < 0.1:
            findings.add("disk_nearly_full", **size)


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"


def examine_clock(findings: Findings, state: State) -> None:
    if (state.get("time") or {}).get("synchronized") is False:
        findings.add("time_unsynchronised")


def examine_ports(
    findings: Findings,
    state: State,
    ports: Mapping[int, str],
    addresses: Mapping[int, str],
    edge_ports: Collection[int],
) -> None:
    """Ports that are ours and that others listen on.

    :param ports: port -> what it is for.
    :param addresses: port -> address on which it shall be listened on, where that is known.
    :param edge_ports: those that nginx may have.
    """
    instances = [each for each in state.get("instances") or [] if each.get("publish")]
    ours = {int(each["publish"].rpartition(":")[2]): each for each in instances}
    for entry in state.get("listening") or []:
        port = entry["port"]
        # Only root sees whose socket it is; what nobody can see is not judged.
        if (port not in ports and port not in ours) or not entry.get("process"):
            continue
        instance = ours.get(port)
        wanted = _address(instance) if instance else addresses.get(port)
        is_edge = port in edge_ports and entry["process"] == "nginx"
        if is_edge or _runs(state, instance) or not _meet(entry["address"], wanted):
            continue
        findings.add(
            "port_taken",
            process=entry["process"],
            address=f"{entry['address']}:{port}",
            port=port,
            what=ports.get(port) or f"the instance {instance['name'] if instance else ''}",
        )


def _address(instance: Mapping[str, Any]) -> str:
    address: str = instance["publish"].rpartition(":")[0]
    return address.strip("[]")


def _runs(state: State, instance: Mapping[str, Any] | None) -> bool:
    """Whether the socket can be that of our container."""
    name = f"vllm-{instance['name']}" if instance else ""
    container = (state.get("containers") or {}).get(name) or {}
    return bool(container.get("state") == "running")


def _meet(address: str, wanted: str | None) -> bool:
    """Whether a socket is in the way of one on another address, None where that is unknown."""
    return not wanted or address in (wanted, *_ANY_ADDRESS) or wanted in _ANY_ADDRESS
