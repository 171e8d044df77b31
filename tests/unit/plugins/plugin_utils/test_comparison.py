# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._comparison import compare

WHO = "gpt-oss-20b on gpu1"
PREDICTED = {"memory_gib": {"kv": 111.94}, "kv_tokens": 4341729, "max_concurrency": 33.124}
REPORTED = {"kv_gib": 111.94, "kv_tokens": 4341729, "max_concurrency": 33.12}


def test_what_came_as_predicted_is_one_line() -> None:
    found = compare(WHO, PREDICTED, REPORTED)
    assert found.line == (
        "gpt-oss-20b on gpu1: KV cache 111.9 GiB predicted, 111.9 GiB reported (+0.0 %);"
        " 4,341,729 tokens, 33.12x as predicted"
    )
    assert found.warning == ""


def test_both_figures_are_told_where_they_differ() -> None:
    found = compare(WHO, PREDICTED, {**REPORTED, "kv_tokens": 4300000, "max_concurrency": 32.81})
    assert found.line.endswith(
        "; 4,341,729 tokens, 33.12x predicted, 4,300,000 tokens, 32.81x reported (-1.0 %)"
    )
    assert found.warning == ""


@pytest.mark.parametrize(
    ("predicted_gib", "reported_gib", "warned"),
    [
        (100.0, 97.1, False),
        (100.0, 96.9, True),
        (100.0, 103.1, True),
        (4.0, 3.55, False),  # within half a GiB
        (4.0, 3.45, True),
    ],
)
def test_the_larger_of_three_percent_and_half_a_gib_is_no_warning(
    predicted_gib: float, reported_gib: float, warned: bool
) -> None:
    tokens = round(1000 * reported_gib)  # as many as there is room for
    predicted = {"memory_gib": {"kv": predicted_gib}, "kv_tokens": round(1000 * predicted_gib)}
    found = compare(
        WHO,
        predicted | {"max_concurrency": 1.0},
        {"kv_gib": reported_gib, "kv_tokens": tokens, "max_concurrency": 1.0},
    )
    assert bool(found.warning) is warned


def test_wrong_tokens_of_the_right_memory_are_a_warning() -> None:
    found = compare(WHO, PREDICTED, {**REPORTED, "kv_tokens": 4000000})
    assert found.warning.startswith(found.line)
    assert "more than 3%" in found.warning


@pytest.mark.parametrize(
    ("predicted", "reported"),
    [
        (None, REPORTED),
        ({"kv_tokens": None, "memory_gib": None}, REPORTED),
        (PREDICTED, {}),
        (PREDICTED, {"weights_gib": 13.0}),
    ],
    ids=["no plan", "nothing predicted", "no log", "log without figures"],
)
def test_nothing_is_said_where_there_is_nothing_to_compare(
    predicted: dict[str, Any] | None, reported: dict[str, Any]
) -> None:
    found = compare(WHO, predicted, reported)
    assert (found.line, found.warning) == ("", "")
