# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a person asks of playbooks/plan.yml with ``-e``, where every value may be text."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import nearest
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import is_count
from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import shown
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import intents
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Refusal

# Variables of the playbook, and what each is.
VARIABLES = {
    "gpu_set": "a GPU of the catalogue; without it the hosts of the inventory are planned",
    "gpu_count": "how many of them one host has, 1",
    "model": "a Hugging Face id, or a directory or config.json on this machine",
    "intent": "chat, throughput or long_context; chat",
    "vllm_release": "the vLLM release",
    "max_model_len": "context in tokens, or auto",
    "options": "flags of vllm serve",
    "env": "environment variables of the engine",
    "plan_json": "file that the plan is written to",
}
# They describe an instance, so that they replace those of the inventory.
_OF_AN_INSTANCE = ("model", "intent", "max_model_len", "options", "env")
# Names in an inventory that only look like ours are left alone.
_ALIKE = 0.7


@dataclass(frozen=True)
class Request:
    """One instance on a set of GPUs; ``gpu_set`` is empty where hosts are meant.

    :param model: Hugging Face id, or the absolute directory of a model on this machine.
    :param config: what the directory holds, as host_state reads it of a host; None for an id.
    """

    gpu_set: str
    gpu_count: int
    model: str
    intent: str
    release: str
    max_model_len: int | str
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None

    def instance(self) -> dict[str, Any]:
        """The request as an entry of vllm_instances that takes every GPU."""
        return {
            "name": self.model.partition("@")[0].rpartition("/")[2].lower(),
            "model": self.model,
            "intent": self.intent,
            "gpus": "all",
            "max_model_len": self.max_model_len,
            "options": dict(self.options),
            "env": dict(self.env),
        }


def read_request(given: Mapping[str, Any], known: Collection[str], release: str) -> Request | None:
    """What is asked for, or None where the instances of the inventory are to be planned.

    :param given: the extra variables.
    :param known: names of the roles' variables, which may be given too.
    :param release: vLLM release where none is given.
    :raises Refusal: a name or a value that cannot be; what is allowed is said.
    """
    _refuse_unknown(given, known)
    gpu_set = str(given.get("gpu_set") or "").strip()
    if "gpu_set" in given and not gpu_set:
        raise Refusal(
            "gpu_set is empty; give a GPU of the catalogue, such as -e gpu_set=h200, or leave it"
            " out to plan the hosts of the inventory."
        )
    if not gpu_set:
        if "gpu_count" in given:
            raise Refusal("gpu_count is given without gpu_set; add -e gpu_set=h200 or the like.")
        if not any(name in given for name in _OF_AN_INSTANCE):
            return None
    if not str(given.get("model", "")).strip():
        raise Refusal("model is missing; add -e model=openai/gpt-oss-20b or a directory.")
    model, config = _model(str(given["model"]).strip())
    return Request(
        gpu_set=gpu_set,
        gpu_count=_count("gpu_count", given.get("gpu_count", 1)),
        model=model,
        config=config,
        intent=_intent(str(given.get("intent", "chat"))),
        release=str(given.get("vllm_release", release)).strip().removeprefix("v"),
        max_model_len=_length(given.get("max_model_len", "auto")),
        options=_dictionary("options", given.get("options", {})),
        env={name: str(value) for name, value in _dictionary("env", given.get("env", {})).items()},
    )


def _refuse_unknown(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Misspelt variables. Beside an inventory there are others, which only must not look alike."""
    names = {*VARIABLES, *known}
    prefixes = tuple({name.partition("_")[0] + "_" for name in known})
    for name in given:
        if name in names or name.startswith("ansible_"):
            continue
        hint = nearest(name, VARIABLES, _ALIKE) or nearest(name, names, _ALIKE)
        if hint or "gpu_set" in given or name.startswith(prefixes):
            hint = hint or nearest(name, names) or f"; they are {', '.join(VARIABLES)}."
            raise Refusal(f"{name} is not a variable of this playbook{hint}")


def _count(name: str, value: Any) -> int:
    if not is_count(value):
        raise Refusal(f"{name} is {shown(value)}; it must be a whole number from 1.")
    return int(value)


def _length(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    if not is_count(value):
        raise Refusal(f"max_model_len is {shown(value)}; it must be auto or a count of tokens.")
    return int(value)


def _intent(value: str) -> str:
    if value in intents.names():
        return value
    hint = nearest(value, intents.names()) or "."
    raise Refusal(f"intent is {value!r}; it must be {', '.join(intents.names())}{hint}")


def _dictionary(name: str, value: Any) -> dict[str, Any]:
    """A dictionary, or its JSON as ``-e options='{...}'`` gives it."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError:
            value = None
    if not isinstance(value, Mapping):
        raise Refusal(
            f"{name} must be a dictionary; write -e '{{\"{name}\": {{...}}}}' around all of it."
        )
    return dict(value)


def _model(name: str) -> tuple[str, dict[str, Any] | None]:
    """An id as it is; a directory, or a config.json, of this machine with what it holds."""
    path = Path(name).expanduser()
    looks_local = name.startswith(("/", "./", "../", "~")) or name.endswith(".json")
    if not looks_local and not path.is_dir():
        return name, None
    file = (path / "config.json" if path.is_dir() else path).resolve()
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(
            f"model: {file} cannot be read ({error.strerror}); give a Hugging Face id, or a"
            " directory or config.json on this machine."
        ) from error
    except ValueError as error:
        raise Refusal(f"model: {file} is no JSON ({error}); give a config.json.") from error
    if not isinstance(config, Mapping):
        raise Refusal(f"model: {file} holds no JSON object; give a Hugging Face config.json.")
    weights = sum(each.stat().st_size for each in file.parent.glob("*.safetensors"))
    return str(file.parent), {"config": config, "checkpoint_bytes": weights}
