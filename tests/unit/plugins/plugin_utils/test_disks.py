# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._disks import check_disks

GIB = 2**30
DOCKER, STATE, STORE = "/var/lib/docker", "/var/lib/vllm", "/var/lib/vllm/models"
IMAGE = {"path": DOCKER, "need_gib": 40, "what": "the image"}
KEPT = {"path": STATE, "need_gib": 40, "what": "what vLLM keeps"}
SMALL = {"path": STORE, "need_gib": 13.5, "what": "openai/gpt-oss-20b", "adds": True}
LARGE = {"path": STORE, "need_gib": 64, "what": "openai/gpt-oss-120b", "adds": True}


def state(free: float, *alone: str) -> dict[str, Any]:
    """All paths on one filesystem with this many GiB free, those named alone on their own."""
    return {
        "disks": {
            path: {"free_bytes": int(free * GIB), "device": path if path in alone else "8:1"}
            for path in (DOCKER, STATE, STORE)
        }
    }


@pytest.mark.parametrize(
    ("needs", "free"),
    [([], 0.0), ([IMAGE], 40), ([IMAGE, KEPT], 40), ([IMAGE, SMALL], 53.5), ([SMALL, LARGE], 77.5)],
)
def test_what_fits_is_told_to_the_byte(needs: list[dict[str, Any]], free: float) -> None:
    assert check_disks(state(free), needs) == []
    short = check_disks(state(free - 0.01), needs)
    assert len(short) == min(1, len(needs))


def test_filesystems_are_judged_each_for_itself() -> None:
    assert check_disks(state(40, STORE), [IMAGE, SMALL]) == []
    (problem,) = check_disks(state(39, STORE), [IMAGE, SMALL])
    assert problem == (
        "/var/lib/docker has 39.0 GiB free and the image needs 40 GiB; make room or put a larger"
        " disk there."
    )


def test_needs_of_one_filesystem_are_told_together() -> None:
    (problem,) = check_disks(state(50), [IMAGE, KEPT, SMALL])
    assert problem == (
        "/var/lib/vllm and /var/lib/vllm/models are on one filesystem, which has 50.0 GiB free of"
        " the 53.5 GiB that are needed (what vLLM keeps 40 GiB, openai/gpt-oss-20b 13.5 GiB); make"
        " room or put a larger disk there."
    )
    (problem,) = check_disks(state(50), [SMALL, LARGE])
    assert problem == (
        "/var/lib/vllm/models has 50.0 GiB free of the 77.5 GiB that are needed"
        " (openai/gpt-oss-20b 13.5 GiB, openai/gpt-oss-120b 64 GiB); make room or put a larger disk"
        " there."
    )


def test_a_disk_that_could_not_be_read_is_named() -> None:
    assert check_disks({"disks": {}}, [IMAGE]) == [
        "the free space of /var/lib/docker could not be read; look at its mount."
    ]
