# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._plan_request import (
    Request,
    read_request,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Refusal

KNOWN = ("vllm_release", "vllm_instances", "vllm_image", "edge_port")
ONE = {"gpu_set": "h200", "model": "openai/gpt-oss-20b"}


def read(**given: Any) -> Request | None:
    return read_request(given, KNOWN, "0.32.0")


def test_little_is_needed() -> None:
    assert read(**ONE) == Request(
        gpu_set="h200",
        gpu_count=1,
        model="openai/gpt-oss-20b",
        intent="chat",
        release="0.32.0",
        max_model_len="auto",
    )


def test_text_of_the_command_line_becomes_numbers_and_dictionaries() -> None:
    request = read(
        **ONE,
        gpu_count="4",
        intent="throughput",
        vllm_release="v0.26.0",
        max_model_len="32768",
        options='{"max-num-seqs": 8}',
        env={"VLLM_X": 1},
        plan_json="plan.json",
        ansible_become="false",
    )
    assert request is not None
    assert (request.gpu_count, request.max_model_len) == (4, 32768)
    assert (request.intent, request.release) == ("throughput", "0.26.0")
    assert request.options == {"max-num-seqs": 8}
    assert request.env == {"VLLM_X": "1"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"gpu_sets": "h200"},
            "gpu_sets is not a variable of this playbook; did you mean gpu_set?",
        ),
        ({**ONE, "intend": "chat"}, "did you mean intent?"),
        ({"intend": "chat"}, "did you mean intent?"),
        ({**ONE, "vllm_relase": "0.32.0"}, "did you mean vllm_release?"),
        ({"vllm_relase": "0.32.0"}, "did you mean vllm_release?"),
        ({**ONE, "colour": "red"}, "colour is not a variable of this playbook; they are gpu_set,"),
        ({**ONE, "intent": "chatt"}, "intent is 'chatt'; it must be .*did you mean chat?"),
        ({**ONE, "gpu_count": "two"}, "gpu_count is 'two'; it must be a whole number from 1."),
        ({**ONE, "gpu_count": 0}, "gpu_count is 0"),
        ({**ONE, "gpu_count": "0"}, "gpu_count is '0'; it must be a whole number from 1."),
        ({**ONE, "gpu_count": "²"}, "gpu_count is '²'"),
        ({**ONE, "max_model_len": "0"}, "max_model_len is '0'"),
        ({**ONE, "gpu_set": ""}, "gpu_set is empty; give a GPU of the catalogue"),
        ({**ONE, "gpu_set": " "}, "gpu_set is empty"),
        ({"gpu_set": ""}, "gpu_set is empty"),
        ({"gpu_set": None, "gpu_count": 2}, "gpu_set is empty"),
        ({**ONE, "max_model_len": "8k"}, "max_model_len is '8k'"),
        ({**ONE, "options": "max-num-seqs=8"}, "options must be a dictionary"),
        ({**ONE, "options": [1]}, "options must be a dictionary"),
        ({"gpu_set": "h200"}, "model is missing"),
        ({"gpu_count": 2}, "gpu_count is given without gpu_set"),
        ({**ONE, "model": "/none/config.json"}, "/none/config.json cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said.replace("?", r"\?")):
        read(**given)


def test_without_gpu_set_the_instances_of_the_inventory_are_meant() -> None:
    assert read(vllm_release="0.26.0", plan_json="x", site="berlin") is None


def test_without_gpu_set_another_model_is_tried_on_the_hosts() -> None:
    request = read(model="openai/gpt-oss-120b", intent="long_context")
    assert request is not None
    assert request.gpu_set == ""
    assert request.instance() == {
        "name": "gpt-oss-120b",
        "model": "openai/gpt-oss-120b",
        "intent": "long_context",
        "gpus": "all",
        "max_model_len": "auto",
        "options": {},
        "env": {},
    }


@pytest.mark.parametrize("named", ["", "config.json"], ids=["directory", "file"])
def test_a_model_on_this_machine_is_read(tmp_path: Path, named: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "model.safetensors").write_text("x" * 12)
    request = read(**{**ONE, "model": str(tmp_path / named)})
    assert request is not None
    assert request.model == str(tmp_path)
    assert request.config == {"config": {"model_type": "llama"}, "checkpoint_bytes": 12}


@pytest.mark.parametrize(("text", "said"), [("{", "is no JSON"), ("[]", "holds no JSON object")])
def test_a_broken_configuration_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Refusal, match=said):
        read(**{**ONE, "model": str(tmp_path)})
