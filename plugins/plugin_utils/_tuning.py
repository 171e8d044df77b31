# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What keeps a host steady and, where asked for, fast: decided here, carried out by host_tuning.

Everything but the guard is off by default: whether it helps depends on the machine, and a clock
lock or a governor can cost more than it gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

APT_FILE = "/etc/apt/apt.conf.d/52baremetal-vllm"
NEEDRESTART_FILE = "/etc/needrestart/conf.d/baremetal-vllm.conf"
TMPFILES_FILE = "/etc/tmpfiles.d/baremetal-vllm.conf"
CLOCK_UNIT = "baremetal-vllm-gpu-clocks.service"
CLOCK_FILE = f"/etc/systemd/system/{CLOCK_UNIT}"

_HUGEPAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
_CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq"
_GOVERNOR = f"{_CPUFREQ}/scaling_governor"
_GOVERNORS = f"{_CPUFREQ}/scaling_available_governors"
_EVERY_GOVERNOR = _GOVERNOR.replace("cpu0", "cpu*")

# What preflight asks host_state for.
PACKAGES: tuple[str, ...] = ()
SERVICES = (CLOCK_UNIT,)
READS = (
    APT_FILE,
    NEEDRESTART_FILE,
    TMPFILES_FILE,
    CLOCK_FILE,
    _HUGEPAGES,
    _GOVERNOR,
    _GOVERNORS,
)
PATHS: tuple[str, ...] = ()

# Regular expressions that unattended-upgrades matches from the start of a package's name. Modules
# that Ubuntu builds for each kernel, and what they need in their own release, are none of them: a
# new kernel comes all the same, and would come without a module.
GUARDED_PACKAGES = (
    "nvidia-(?!kernel-common-|firmware-)",
    "libnvidia-",
    "libcuda1$",
    "libnvcuvid1$",
    "libxnvctrl0$",
    "cuda-",
    "docker-ce",
    "docker[.]io$",
    "containerd",
    "runc$",
    "keepalived$",
    "nginx",
    "libnginx-mod-",
)
# Regular expressions that needrestart matches against the names of units.
GUARDED_UNITS = (
    "^containerd",
    "^docker",
    "^keepalived",
    "^nginx",
    "^nvidia-fabricmanager",
    "^nvidia-persistenced",
    r"^vllm\@",  # as Perl writes it
)

_MANAGED = "Managed by Ansible (baremetal.vllm). Changes here are overwritten."

APT_TEXT = (
    f"// {_MANAGED}\n"
    "// unattended-upgrades leaves these alone: each would stop engines or streams that run.\n"
    "Unattended-Upgrade::Package-Blacklist {\n"
    + "".join(f'  "{pattern}";\n' for pattern in GUARDED_PACKAGES)
    + "};\n"
)
NEEDRESTART_TEXT = (
    f"# {_MANAGED}\n"
    "# needrestart lists these and restarts none: each would stop engines or streams that run.\n"
    + "".join(f"$nrconf{{override_rc}}{{qr({pattern})}} = 0;\n" for pattern in GUARDED_UNITS)
    + "1;\n"
)

Settings = Mapping[str, Any]
State = Mapping[str, Any]


def plan(facts: Mapping[str, Any], state: State, settings: Settings) -> dict[str, Any]:
    """What host_tuning has to do on a host.

    :param facts: not read; every part has the same interface.
    :param state: result of host_state with ``READS`` and ``SERVICES``.
    :param settings: ``guard``, ``cpu_governor``, ``transparent_hugepages``, ``gpu_clock_lock`` (the
        role's variables) and ``wants_gpus``.
    :returns: ``problems`` (always empty: what a machine lacks is a note), ``notes``, ``converged``,
        ``before`` (argument lists to run before the files are changed), ``directories`` and
        ``files`` (entries of file_set), ``commands`` (argument lists that put them in force).
    """
    notes: list[str] = []
    texts = {
        APT_FILE: APT_TEXT if settings["guard"] else None,
        NEEDRESTART_FILE: NEEDRESTART_TEXT if settings["guard"] else None,
        **_kernel(state, settings, notes),
        **_clocks(state, settings, notes),
    }
    read = state.get("read") or {}
    differing = [path for path, text in texts.items() if read.get(path) != text]
    commands = _commands(state, texts, differing)
    released = CLOCK_FILE in differing and texts[CLOCK_FILE] is None
    return {
        "problems": [],
        "notes": notes,
        "converged": not differing and not commands,
        # The unit unlocks the clocks when it stops, so it stops while systemd still knows it.
        "before": [["systemctl", "disable", "--now", CLOCK_UNIT]] if released else [],
        "directories": [
            {"path": directory}
            for directory in sorted(
                {str(PurePosixPath(path).parent) for path in differing if texts[path] is not None}
            )
        ],
        "files": [_entry(path, texts[path]) for path in differing],
        "commands": commands,
    }


def _entry(path: str, text: str | None) -> dict[str, Any]:
    return {"path": path, "state": "absent"} if text is None else {"path": path, "content": text}


# -- kernel --------------------------------------------------------------------------------------


def _kernel(state: State, settings: Settings, notes: list[str]) -> dict[str, str | None]:
    """The lines that systemd-tmpfiles writes at boot, None where there is none to write."""
    lines = []
    hugepages = settings["transparent_hugepages"]
    if hugepages and _text(state, _HUGEPAGES):
        lines.append(_line(_HUGEPAGES, hugepages))
    elif hugepages:
        notes.append(
            f"host_tuning_transparent_hugepages is {hugepages}, and the kernel has no transparent"
            " huge pages; nothing is set."
        )
    governor = settings["cpu_governor"]
    known = _text(state, _GOVERNORS).split()
    if governor and (governor in known or (not known and _text(state, _GOVERNOR))):
        lines.append(_line(_EVERY_GOVERNOR, governor))
    elif governor and known:
        notes.append(
            f"host_tuning_cpu_governor is {governor}, and the processor's driver knows"
            f" {', '.join(known)}; nothing is set."
        )
    elif governor:
        notes.append(
            f"host_tuning_cpu_governor is {governor}, and the kernel does not govern the clock of"
            " the processor (firmware or hypervisor does); nothing is set."
        )
    return {TMPFILES_FILE: f"# {_MANAGED}\n{''.join(lines)}" if lines else None}


def _line(path: str, value: str) -> str:
    """An existing file is written; one that refuses does not fail the boot."""
    return f"w- {path} - - - - {value}\n"


def _text(state: State, path: str) -> str:
    return str((state.get("read") or {}).get(path) or "").strip()


def _in_force(state: State, text: str) -> bool:
    """Whether the kernel has what the lines say; of the processors the first is asked."""
    values = {fields[1]: fields[-1] for fields in map(str.split, text.splitlines()) if fields}
    chosen = re.search(r"\[(\w+)\]", _text(state, _HUGEPAGES))
    actual = {
        _HUGEPAGES: chosen[1] if chosen else "",
        _EVERY_GOVERNOR: _text(state, _GOVERNOR),
    }
    return all(actual[path] == value for path, value in values.items() if path in actual)


# -- clocks --------------------------------------------------------------------------------------


def _clocks(state: State, settings: Settings, notes: list[str]) -> dict[str, str | None]:
    lock = settings["gpu_clock_lock"]
    if lock and not settings["wants_gpus"]:
        notes.append(
            f"host_tuning_gpu_clock_lock is {lock}, and no instance of this host uses GPUs; nothing"
            " is locked."
        )
        lock = ""
    return {CLOCK_FILE: clock_unit(lock) if lock else None}


def clock_unit(lock: str) -> str:
    """The unit that locks the SM clocks.

    :param lock: lowest and highest clock in MHz: ``1200,1500``.
    """
    return (
        f"# {_MANAGED}\n"
        "[Unit]\n"
        "Description=Lock the SM clocks of the GPUs\n"
        "# A driver that nothing keeps initialised forgets them.\n"
        "After=nvidia-persistenced.service\n"
        "Wants=nvidia-persistenced.service\n"
        "ConditionPathExists=/proc/driver/nvidia/version\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        "RemainAfterExit=yes\n"
        f"ExecStart=/usr/bin/nvidia-smi --lock-gpu-clocks={lock}\n"
        "ExecStop=/usr/bin/nvidia-smi --reset-gpu-clocks\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


# -- commands ------------------------------------------------------------------------------------


def _commands(
    state: State, texts: Mapping[str, str | None], differing: list[str]
) -> list[list[str]]:
    """What puts the files in force. A run that was killed before them finds them missing again."""
    commands: list[list[str]] = []
    kernel = texts[TMPFILES_FILE]
    if kernel and (TMPFILES_FILE in differing or not _in_force(state, kernel)):
        commands.append(["systemd-tmpfiles", "--create", TMPFILES_FILE])
    unit = (state.get("services") or {}).get(CLOCK_UNIT) or {}
    changed = CLOCK_FILE in differing
    if texts[CLOCK_FILE]:
        # Without a driver systemd passes over the unit, which is then right to be inactive.
        driven = bool((state.get("nvidia") or {}).get("module"))
        stands = unit.get("active") == "active" or not driven
        if changed or not stands or unit.get("enabled") != "enabled":
            commands += [
                ["systemctl", "daemon-reload"],
                ["systemctl", "enable", CLOCK_UNIT],
                ["systemctl", "restart", CLOCK_UNIT],
            ]
    elif changed:
        commands.append(["systemctl", "daemon-reload"])
    return commands
