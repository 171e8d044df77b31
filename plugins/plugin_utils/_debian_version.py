# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Versions of Debian packages: their order, and the release of the software in them."""

from __future__ import annotations

import re
from itertools import zip_longest

_PARTS = re.compile(r"(\D*)(\d*)")


def upstream(version: str) -> str:
    """The version without epoch and Debian revision: ``5:29.9.0-1~debian.13`` is ``29.9.0``."""
    return _split(version)[1]


def is_older(one: str, other: str) -> bool:
    """Whether a version sorts before another one, as ``dpkg --compare-versions`` has it.

    Source: deb-version(7), "Sorting algorithm".
    """
    first, second = _split(one), _split(other)
    if first[0] != second[0]:
        return first[0] < second[0]
    return (_compare(first[1], second[1]) or _compare(first[2], second[2])) < 0


def _split(version: str) -> tuple[int, str, str]:
    """Epoch, upstream version and Debian revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    release, dash, revision = rest.rpartition("-")
    return int(epoch) if epoch.isdigit() else 0, release if dash else rest, revision if dash else ""


def _compare(one: str, other: str) -> int:
    """Text and number in turns; -1, 0 or 1."""
    for (text, number), (other_text, other_number) in zip_longest(
        _PARTS.findall(one), _PARTS.findall(other), fillvalue=("", "")
    ):
        keys = (_order(text), int(number or 0)), (_order(other_text), int(other_number or 0))
        if keys[0] != keys[1]:
            return -1 if keys[0] < keys[1] else 1
    return 0


def _order(text: str) -> list[int]:
    """A tilde sorts before the end, the end before letters, and letters before all else."""
    return [_rank(character) for character in text] + [0]


def _rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
