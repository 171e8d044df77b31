# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the kernel's log says of GPUs: Xids, and what NVIDIA says to do about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import Findings, data
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_gpus import (
    engine_units,
    named,
)

State = Mapping[str, Any]

# NVRM: Xid (PCI:0000:5d:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)(?:,\s*(.*))?")
_PROCESS = re.compile(r"^(?:(?:pid|name)=[^,]*,?\s*)*")
_ACTION = re.compile(r"to 0x([0-9a-fA-F]+)")
_RECOVERY = 154
_LONGEST = 80  # characters of the kernel's text

# The worst first: of one GPU only that is told.
_BUCKETS = ("reboot", "support", "reset", "nvlink", "restart")


@dataclass(frozen=True)
class _Event:
    place: str
    xid: int
    text: str
    time: str | None
    bucket: str

    @property
    def epoch(self) -> float | None:
        """Seconds since the epoch, None where only dmesg could be asked."""
        if not self.time:
            return None
        try:
            return datetime.fromisoformat(self.time).timestamp()
        except ValueError:
            return None


def examine(findings: Findings, state: State, gpu_info: Mapping[str, Any]) -> None:
    """Look for Xids of this boot, and whether their trouble is over."""
    engines = _Engines(state)
    for place, events in _by_gpu(state.get("kernel_log") or []).items():
        if not events:
            continue
        worst = min((each.bucket for each in events), key=_BUCKETS.index)
        event = [each for each in events if each.bucket == worst][-1]
        since = engines.started_since(event)
        if since and event.bucket == "restart":
            continue
        over = since and engines.proved_since(event)
        findings.add(
            "xid_past" if over else f"xid_{event.bucket}",
            gpu=_gpu(place, gpu_info),
            xid=event.xid,
            text=event.text,
            when=f" at {event.time}" if event.time else "",
            units=" ".join(engines.units) or "vllm@*",
        )


def _by_gpu(log: Iterable[Mapping[str, Any]]) -> dict[str, list[_Event]]:
    """Events that still matter, by PCI address: 154 with action 0 ends those before it."""
    found: dict[str, list[_Event]] = {}
    for entry in log:
        match = _XID.search(str(entry["line"]))
        if not match:
            continue
        place, xid, text = match[1].lower(), int(match[2]), _PROCESS.sub("", match[3] or "")
        events = found.setdefault(place, [])
        bucket = _bucket(xid, text)
        if bucket == "none":
            events.clear()
        elif bucket in _BUCKETS:
            shown = text[:_LONGEST].rstrip(". ") or "no text"
            events.append(_Event(place, xid, shown, entry.get("time"), bucket))
    return found


def _bucket(xid: int, text: str) -> str:
    """What NVIDIA says to do; ``none`` where the GPU says that it needs nothing any more."""
    if xid == _RECOVERY:
        action = _ACTION.search(text)
        number = str(int(action[1], 16)) if action else ""
        if number == "0":
            return "none"
        return str(data()["recovery_actions"].get(number, "reset"))
    lists = data()["xids"]
    return next((name for name in (*_BUCKETS, "ignore") if xid in lists.get(name, ())), "support")


def _gpu(place: str, gpu_info: Mapping[str, Any]) -> str:
    """The GPU by its index where NVML knows it; the kernel leaves the function of the id out."""
    for gpu in gpu_info.get("gpus") or []:
        if gpu.get("pci_bus_id") and _address(gpu["pci_bus_id"]) == _address(place):
            return named(gpu)
    return f"The GPU at {place}"


def _address(bus_id: str) -> tuple[int, ...]:
    return tuple(int(part, 16) for part in bus_id.partition(".")[0].split(":"))


class _Engines:
    """The engines of a host and when they were started and seen to generate."""

    def __init__(self, state: State) -> None:
        services = state.get("services") or {}
        self._instances = [each for each in state.get("instances") or [] if each.get("current")]
        self.units = engine_units(state)
        self._states = [services.get(unit) or {} for unit in self.units]

    def started_since(self, event: _Event) -> bool:
        """Whether all of them run and were started after the event."""
        if event.epoch is None or not self._states:
            return False
        return all(
            unit.get("active") == "active" and (unit.get("active_enter") or 0) > event.epoch
            for unit in self._states
        )

    def proved_since(self, event: _Event) -> bool:
        """Whether all of them have generated a token after the event."""
        return all(
            event.epoch is not None and (each.get("proved_at") or 0) > event.epoch
            for each in self._instances
        )
