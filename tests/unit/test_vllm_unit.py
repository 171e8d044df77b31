# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How the unit of an engine stands to nginx on the same host."""

from __future__ import annotations

from pathlib import Path

ROLE = Path(__file__).resolve().parents[2] / "roles" / "vllm"
UNIT = (ROLE / "templates" / "vllm@.service.j2").read_text().splitlines()


def values(key: str) -> list[str]:
    """What all lines of a key name."""
    return [
        word
        for line in UNIT
        if line.startswith(f"{key}=")
        for word in line.partition("=")[2].split()
    ]


def test_streams_end_before_their_engines_stop() -> None:
    """At a reboot: what is before nginx when units start is behind it when they stop."""
    assert "nginx.service" in values("Before")


def test_nginx_does_not_wait_at_boot_until_a_model_is_loaded() -> None:
    """The unit counts as started when its process runs, and nothing waits in it for more."""
    assert values("Type") == ["exec"]
    assert values("ExecStartPost") == []
