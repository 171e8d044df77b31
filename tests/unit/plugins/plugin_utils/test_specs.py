# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import check_value

THING = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "port": {"type": "int"},
        "model": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"]},
    },
}


@pytest.mark.parametrize(
    ("spec", "value", "converted"),
    [
        ({"type": "int"}, "8", 8),
        ({"type": "bool"}, "yes", True),
        ({"type": "bool"}, False, False),
        ({"type": "str"}, 5, "5"),
        ({"type": "raw"}, None, None),
        ({"type": "dict"}, {"a": 1}, {"a": 1}),
        ({"type": "list", "elements": "int"}, ["1", 2], [1, 2]),
        ({"type": "str", "choices": ["a", "b"]}, "a", "a"),
        (
            THING,
            [{"name": "x", "model": "m", "port": "1"}],
            [{"name": "x", "model": "m", "port": 1}],
        ),
        (THING, [{"name": "x", "state": "absent"}], [{"name": "x", "state": "absent"}]),
    ],
)
def test_values_become_what_the_specification_says(spec: Any, value: Any, converted: Any) -> None:
    assert check_value("x", value, spec) == (converted, [])


@pytest.mark.parametrize(
    ("spec", "value", "said"),
    [
        ({"type": "int"}, "lots", "x is 'lots'; it must be a whole number."),
        ({"type": "int"}, None, "x is null; it must be a whole number."),
        ({"type": "bool"}, "maybe", "x is 'maybe'; it must be true or false."),
        ({"type": "str"}, ["a"], "x is a list; it must be a string."),
        ({"type": "list"}, "a,b", "x is a string; it must be a list."),
        ({"type": "dict"}, "a=b", "x is a string; it must be a dictionary."),
        ({"type": "dict"}, None, "x is null; it must be a dictionary."),
        ({"type": "list", "elements": "int"}, [1, "b"], "x[1] is 'b'; it must be a whole number."),
        ({"type": "str", "choices": ["a", "b"]}, "c", "x is 'c'; allowed are a, b."),
        ({"type": "int", "no_log": True}, "hunter2", "x is a string; it must be a whole number."),
        (THING, ["a"], "x[0] is a string; it must be a dictionary."),
        (
            THING,
            [{"name": "n", "model": "m", "prot": 1}],
            "x[0].prot is not a key of it; did you mean port?",
        ),
        (
            THING,
            [{"name": "n", "model": "m", "zzz": 1}],
            "x[0].zzz is not a key of it; allowed are name, port, model, state.",
        ),
        (THING, [{"name": "n"}], "x[0].model is missing; it is required."),
        (THING, [{"state": "absent"}], "x[0].name is missing; it is required."),
        (
            THING,
            [{"name": "n", "model": "m", "port": "p"}],
            "x[0].port is 'p'; it must be a whole number.",
        ),
        (
            THING,
            [{"name": "n", "model": "m", "state": "gone"}],
            "x[0].state is 'gone'; allowed are present, absent.",
        ),
    ],
)
def test_mismatches_are_named_with_their_place(spec: Any, value: Any, said: str) -> None:
    assert check_value("x", value, spec)[1] == [said]


def test_what_is_right_beside_a_mismatch_can_still_be_checked() -> None:
    value = [{"name": "n", "model": "m", "port": "p"}, "nonsense"]
    converted, problems = check_value("x", value, THING)
    assert converted == [{"name": "n", "model": "m"}, None]
    assert len(problems) == 2


def test_long_values_are_cut() -> None:
    said = check_value("x", "a" * 500, {"type": "int"})[1][0]
    assert len(said) < 120
