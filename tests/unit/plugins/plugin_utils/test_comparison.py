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


# gpt-oss-120b on an H100: the review's case.
TWO_STARTS = {
    "memory_gib": {"kv": 11.95, "kv_restart": 12.93},
    "kv_tokens": 340000,
    "max_concurrency": 2.594,
}


@pytest.mark.parametrize(
    ("compiled", "kv_gib", "said", "warned"),
    [
        (True, 11.95, "11.9 GiB predicted for a first start, 11.9 GiB reported (+0.0 %)", False),
        (False, 12.93, "12.9 GiB predicted for a restart, 12.9 GiB reported (+0.0 %)", False),
        (None, 11.95, "11.9 GiB (first start) to 12.9 GiB (restart) predicted", False),
        (None, 12.44, "predicted, 12.4 GiB reported (+0.0 %)", False),
        (None, 12.93, "predicted, 12.9 GiB reported (+0.0 %)", False),
        (True, 12.93, "for a first start, 12.9 GiB reported (+8.2 %)", True),
        (False, 11.95, "for a restart, 11.9 GiB reported (-7.6 %)", True),
        (None, 11.0, "(restart) predicted, 11.0 GiB reported (-7.9 %)", True),
        (None, 13.6, "(restart) predicted, 13.6 GiB reported (+5.2 %)", True),
    ],
)
def test_a_restart_is_held_against_the_prediction_for_one(
    compiled: bool | None, kv_gib: float, said: str, warned: bool
) -> None:
    there = kv_gib / 11.95  # tokens go with the memory
    reported = {
        "kv_gib": kv_gib,
        "kv_tokens": round(340000 * there),
        "max_concurrency": round(2.594 * there, 2),
    }
    reported |= {} if compiled is None else {"compiled": compiled}
    found = compare(WHO, TWO_STARTS, reported)
    assert said in found.line
    assert bool(found.warning) is warned


def test_tokens_of_a_restart_go_with_its_memory() -> None:
    reported = {"compiled": False, "kv_gib": 12.93, "kv_tokens": 367883, "max_concurrency": 2.81}
    found = compare(WHO, TWO_STARTS, reported)
    assert found.line.endswith("; 367,883 tokens, 2.81x as predicted")
    wrong = compare(WHO, TWO_STARTS, reported | {"kv_tokens": 340000})
    assert wrong.warning


def test_one_figure_for_every_start_needs_no_word() -> None:
    same = PREDICTED | {"memory_gib": {"kv": 111.94, "kv_restart": 111.94}}
    reported = REPORTED | {"compiled": True}
    assert compare(WHO, same, reported).line == compare(WHO, PREDICTED, REPORTED).line


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
