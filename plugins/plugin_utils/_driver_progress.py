# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""From the plan for the driver to what apt is told, and how far a host has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_state import (
    REBOOT_YOURSELF,
    State,
    is_proprietary,
    kernels,
    lacking_services,
    loaded,
    reboot_reason,
    runs,
    to_hold,
)


def choose_packages(
    planned: Mapping[str, Any], table: str, refusal: str = ""
) -> dict[str, list[str]]:
    """Turn the plan's packages into what the host's package lists have.

    The driver comes in an exact version; what has none in the plan is for apt to choose, which
    knows the priorities of its archives.

    :param planned: what ``plan`` returned.
    :param table: output of ``apt-cache madison`` for all of them.
    :param refusal: what ``apt-get update`` complained of.
    :return: ``install``: ``name=version`` in full, or ``name``; ``problems``: sentences.
    """
    rows = _rows(table)
    kernel_of = {name: kernel for kernel, name in planned["headers"].items()}
    address = ((planned["source"] or {}).get("uris") or [""])[0].rstrip("/")
    install, problems = [], []
    for spec in planned["packages"]:
        name, _equals, version = spec.partition("=")
        fitting = _fitting(rows, name, version, address)
        if fitting:
            install.append(f"{name}={fitting[0]}" if version else name)
        elif name in kernel_of:
            problems.append(_no_headers(name, kernel_of[name]))
        else:
            problems.append(_not_there(planned, rows, name, address, refusal))
    for spec in planned["optional"]:
        name, _equals, version = spec.partition("=")
        if name.startswith("linux-"):
            there = [row[1] for row in rows if row[0] == name]
            install += [spec if version in there else name] if there else []
            continue
        fitting = _fitting(rows, name, version, address)
        if fitting and not version:
            install.append(name)
        elif fitting and not _is_foreign(rows, name, fitting[0], address):
            install.append(f"{name}={fitting[0]}")
    return {"install": install, "problems": problems}


def _rows(table: str) -> list[tuple[str, str, str]]:
    """Package, version and origin; apt prints the newest version of a package first."""
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    return [(row[0], row[1], row[2]) for row in cells if len(row) == 3]


def _fitting(
    rows: Sequence[tuple[str, str, str]], name: str, version: str, address: str
) -> list[str]:
    """Versions that do, those of our repository first: other archives use the same names."""
    found = [row for row in rows if row[0] == name and fnmatchcase(row[1], version or "*")]
    ours = [row for row in found if address and row[2].startswith(address)]
    return [row[1] for row in ours or found]


def _is_foreign(
    rows: Sequence[tuple[str, str, str]], name: str, version: str, address: str
) -> bool:
    return not any(
        row[:2] == (name, version) and address and row[2].startswith(address) for row in rows
    )


def _no_headers(package: str, kernel: str) -> str:
    what = "headers" if package.startswith("linux-headers-") else "signed modules"
    return (
        f"the package lists have no {package}, the {what} of kernel {kernel}, so it would have no"
        " driver; upgrade the kernel and boot the new one (apt-get install --only-upgrade"
        " 'linux-image-*', then reboot), or enable the archive that has it, then run again."
    )


def _not_there(
    planned: Mapping[str, Any],
    rows: Sequence[tuple[str, str, str]],
    name: str,
    address: str,
    refusal: str,
) -> str:
    there = list(dict.fromkeys(row[1] for row in rows if row[0] == name))
    where = address or "the distribution's archive"
    if there and planned["wanted"]:
        return (
            f"{where} has no {name} {planned['wanted']}, but {', '.join(there[:5])}; set"
            " nvidia_driver_version to one of its releases."
        )
    if planned["origin"] == "distro":
        cure = "enable its components (Debian: contrib, non-free and non-free-firmware)"
    else:
        cure = "see that the host reaches it, and look at nvidia_driver_repository"
    reason = f" (apt-get update: {refusal.strip().splitlines()[-1]})" if refusal.strip() else ""
    return f"{where} has no package {name}{reason}; {cure}, then run again."


# -- how far it has come -----------------------------------------------------------------------


def progress(planned: Mapping[str, Any], state: State, rebooted: bool = False) -> dict[str, Any]:
    """Judge a host after something was done.

    :param planned: what ``plan`` returned.
    :param state: result of host_state read since, with ``gpu_users``.
    :param rebooted: whether this run has rebooted the host: it does so once.
    :return: ``hold``: packages to hold; ``build``: kernels for which DKMS should build; ``load``:
        whether to try the module; ``start``: units to enable, and to start once it is loaded;
        ``users``: sentence about programs that hold GPUs, or None; ``reboot``: sentence why one is
        needed, or None; ``unbootable``: sentence why one would not help, or None; ``problem``:
        sentence about what is still wrong, or None.
    """
    nvidia, kernel = state["nvidia"], state["kernel"]
    done = runs(state, planned["wanted"]) and not is_proprietary(state)
    wanted = planned["wanted"] or nvidia["library"]
    unbuilt = [each for each in kernels(state) if nvidia["built"].get(each) != wanted]
    reboot = None if done else reboot_reason(state, wanted)
    users = nvidia.get("users") or []
    names = ", ".join(f"{user['process']} ({user['pid']})" for user in users[:5])
    return {
        "hold": to_hold(state),
        "build": [] if done or planned["prebuilt"] else unbuilt,
        "load": not loaded(state) and not kernel["nouveau"],
        "start": lacking_services(state, planned["services"]),
        "users": f"its GPUs are in use by {names}; stop that first, then run again."
        if users
        else None,
        "reboot": f"{reboot}; {REBOOT_YOURSELF}." if reboot and not rebooted else None,
        "unbootable": _unbootable(planned, state, wanted) if reboot else None,
        "problem": None if done else _problem(planned, state, wanted, reboot, rebooted),
    }


def _unbootable(planned: Mapping[str, Any], state: State, wanted: str | None) -> str | None:
    """A host whose next kernel has no module comes back without GPUs.

    dpkg does not mind when DKMS has passed over a kernel because it found no headers.
    """
    release = kernels(state)[-1]
    if state["nvidia"]["built"].get(release) == wanted:
        return None
    if planned["prebuilt"]:
        return (
            f"kernel {release} boots next and has no module of driver {wanted}; install"
            f" {planned['prebuilt']}{release}, then run again."
        )
    return (
        f"kernel {release} boots next and has no module of driver {wanted}; install"
        f" linux-headers-{release} and look at /var/lib/dkms/nvidia*/{wanted}/build/make.log, then"
        " run again."
    )


def _problem(
    planned: Mapping[str, Any],
    state: State,
    wanted: str | None,
    reboot: str | None,
    rebooted: bool,
) -> str:
    nvidia, release = state["nvidia"], state["kernel"]["release"]
    built = nvidia["built"].get(release)
    module, library = (nvidia["module"] or {}).get("version"), nvidia["library"]
    if reboot:
        again = " The run has rebooted it already; look at `journalctl -k -b`." if rebooted else ""
        return f"{reboot}; {REBOOT_YOURSELF}.{again}"
    if not library:
        return (
            "the packages are installed and libnvidia-ml.so.1 is in none of the loader's"
            " directories; run `dpkg --verify`, then `ldconfig`."
        )
    if wanted and library != wanted:
        return (
            f"programs load libnvidia-ml {library} and not {wanted}; remove the other copy from the"
            " loader's directories (find /usr/lib /usr/local/lib -name 'libnvidia-ml.so*')."
        )
    if module:
        return f"module {module} and library {library} differ; {REBOOT_YOURSELF}."
    if built is None and planned["prebuilt"]:
        return (
            f"kernel {release} has no module of driver {wanted}; install"
            f" {planned['prebuilt']}{release}, or boot a kernel that has it."
        )
    if built is None:
        others = ", ".join(sorted(nvidia["built"])) or "no kernel"
        return (
            f"no module of driver {wanted} was built for kernel {release}, but for {others}; see"
            f" /var/lib/dkms/nvidia*/{wanted}/build/make.log, or boot a kernel that has it."
        )
    return (
        f"driver {built} is built for kernel {release} and cannot be loaded; see"
        " `modprobe nvidia` and `journalctl -k -b -g NVRM`."
    )
