# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the state of a host says of its driver, for the plan and for judging its progress."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _driver_tables as tables

State = Mapping[str, Any]  # result of the module host_state

REBOOT_YOURSELF = "reboot the host, then run again"


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in a version, to compare versions of one kind by."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def is_named_so(name: str) -> bool:
    """Tell whether a package has a name like those of the driver's."""
    return any(fnmatchcase(name, glob) for glob in tables.GLOBS)


def loaded(state: State) -> str | None:
    """Return the version of the loaded module."""
    return (state["nvidia"]["module"] or {}).get("version")


def driver_packages(state: State) -> dict[str, str | None]:
    """Return the driver's packages with their versions, None for those not wholly installed."""
    found: dict[str, str | None] = {
        name: version
        for name, version in state["packages"].items()
        if version and is_named_so(name) and tables.is_driver(name, version)
    }
    return found | {name: None for name in state.get("unfinished") or [] if is_named_so(name)}


def to_hold(state: State) -> list[str]:
    """Return the driver's packages that apt would upgrade.

    Modules that Ubuntu builds for each kernel are not among them: they must follow the kernel, and
    what they need must follow them.
    """
    packages = driver_packages(state)
    follows: tuple[str, ...] = (tables.PREBUILT,)
    if any(name.startswith(tables.PREBUILT) for name in packages):
        follows += tables.PREBUILT_NEEDS
    return [
        name
        for name, version in packages.items()
        if version and name not in state["held"] and not name.startswith(follows)
    ]


def lacking_services(state: State, names: Sequence[str]) -> list[str]:
    """Return the units that do not run, or would not after a reboot."""
    services = state.get("services") or {}
    return [
        name
        for name in names
        if (services.get(name) or {}).get("active") != "active"
        or (services.get(name) or {}).get("enabled") in ("", "disabled", None)
    ]


def pending_kernel(state: State) -> str | None:
    """Return the newest installed kernel where another one runs."""
    running = state["kernel"]["release"]
    found = [
        match[1]
        for name, version in state["packages"].items()
        if version and (match := re.fullmatch(r"linux-image-(?:unsigned-)?(\d.*)", name))
        if not match[1].endswith("-dbg")
    ]
    newest = max(found, key=numbers, default=running)
    return newest if numbers(newest) > numbers(running) else None


def kernels(state: State) -> list[str]:
    """Return the kernel that runs and the one that boots next, where that is another."""
    pending = pending_kernel(state)
    return [state["kernel"]["release"], *([pending] if pending else [])]


def runs(state: State, wanted: str | None) -> bool:
    """Tell whether module and library work together, and are of the wanted version."""
    module = loaded(state)
    return bool(module) and module == state["nvidia"]["library"] and wanted in (None, module)


def is_proprietary(state: State) -> bool:
    """Tell whether the loaded module is the one that Blackwell and later do without."""
    return (state["nvidia"]["module"] or {}).get("open") is False


def reboot_reason(state: State, wanted: str | None) -> str | None:
    """Return why only a reboot can bring the driver on the disk into force, or None.

    :param wanted: version that shall run; None while it is not known.
    """
    module = loaded(state)
    if not module:
        nouveau = state["kernel"]["nouveau"]
        return "nouveau drives the GPUs, and gives them up at a reboot only" if nouveau else None
    if wanted and module != wanted:
        return f"driver {module} is loaded, and {wanted} takes its place at a reboot only"
    if is_proprietary(state):
        return "the proprietary module is loaded, and gives way to the open one at a reboot only"
    return None
