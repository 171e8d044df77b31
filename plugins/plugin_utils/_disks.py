# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Whether what is still to come fits the host's filesystems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_GIB = 2**30

Need = Mapping[str, Any]


def check_disks(state: Mapping[str, Any], needs: Sequence[Need]) -> list[str]:
    """One sentence for every filesystem that is too small.

    :param state: result of host_state; ``disks`` is read.
    :param needs: ``{path, need_gib, what}``. Of those on one filesystem the largest counts, and
        those with ``adds`` (weights, whose size is known) come on top of it.
    """
    problems = []
    filesystems: dict[str, list[Need]] = {}
    for need in needs:
        disk = state.get("disks", {}).get(need["path"])
        if not disk or disk.get("free_bytes") is None:
            problems.append(
                f"the free space of {need['path']} could not be read; look at its mount."
            )
        else:
            filesystems.setdefault(disk.get("device") or need["path"], []).append(need)
    for sharing in filesystems.values():
        free = state["disks"][sharing[0]["path"]]["free_bytes"] / _GIB
        counted = _counted(sharing)
        if free < sum(float(need["need_gib"]) for need in counted):
            problems.append(_sentence(counted, free))
    return problems


def _counted(sharing: Sequence[Need]) -> list[Need]:
    reserves = [need for need in sharing if not need.get("adds")]
    largest = sorted(reserves, key=lambda need: float(need["need_gib"]))[-1:]
    return largest + [need for need in sharing if need.get("adds")]


def _sentence(counted: Sequence[Need], free: float) -> str:
    paths = " and ".join(dict.fromkeys(need["path"] for need in counted))
    mend = "make room or put a larger disk there."
    if len(counted) == 1:
        wanted = f"{counted[0]['what']} needs {float(counted[0]['need_gib']):g} GiB"
        return f"{paths} has {free:.1f} GiB free and {wanted}; {mend}"
    parts = ", ".join(f"{need['what']} {float(need['need_gib']):g} GiB" for need in counted)
    total = sum(float(need["need_gib"]) for need in counted)
    has = f"{paths} are on one filesystem, which has" if " and " in paths else f"{paths} has"
    return f"{has} {free:.1f} GiB free of the {total:g} GiB that are needed ({parts}); {mend}"
