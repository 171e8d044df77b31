# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Which kernels vLLM uses on a GPU: by itself, and when flags or variables ask for others.

The rules are data (``data/backends.json``), each with the file and release it was read from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import version
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    Backends,
    Model,
    Refusal,
)

_DATA = Path(__file__).parent / "data" / "backends.json"

# Old names of one backend (0.10.x) and the name that vLLM prints since.
_SAME_ATTENTION = {
    "TRITON_ATTN_VLLM_V1": "TRITON_ATTN",
    "FLASH_ATTN_VLLM_V1": "FLASH_ATTN",
    "FLASHINFER_VLLM_V1": "FLASHINFER",
}
# First release with the flag, last release with the variable (config/attention.py, envs.py).
_ATTENTION_FLAG = "0.13.0"
_ATTENTION_VARIABLE_GONE = "0.15.0"
_MOE_FLAG = "0.17.0"


def automatic(capability: tuple[int, int], model: Model, release: str) -> Backends:
    """The kernels that vLLM chooses where nobody asks for others.

    :raises Refusal: below compute capability 8.0, or MXFP4 weights that no kernel can read.
    """
    return chosen(capability, model, release, {}, {})


def chosen(
    capability: tuple[int, int],
    model: Model,
    release: str,
    flags: Mapping[str, Any],
    env: Mapping[str, str],
) -> Backends:
    """The kernels with ``flags`` (spelt with hyphens) and ``env`` taken into account.

    :raises Refusal: vLLM would not start, or would not do what the flag says.
    """
    if capability < (8, 0):
        raise Refusal(
            f"Compute capability {_text(capability)} is too old: vLLM serves {model.name} from 8.0"
            " (A100, RTX 30) on; use a newer GPU."
        )
    fp8 = str(flags.get("kv-cache-dtype", "auto")).startswith("fp8")
    runner = _model_runner(model, release, env)
    return Backends(
        attention=_attention(
            capability, model, release, _asked_attention(release, flags, env), fp8
        ),
        moe=_moe(capability, model, release, flags, env),
        sampler=_sampler(release, env),
        model_runner=runner,
    )


def fp8_kv(capability: tuple[int, int], model: Model, release: str) -> tuple[str, str]:
    """Whether an FP8 KV cache is sound: ``works``, ``opt-in`` or ``no``, and why."""
    for rule in _rules("fp8_kv"):
        if _applies(rule, capability, release) and rule.get("sinks", model.attention_sinks) == (
            model.attention_sinks
        ):
            return rule["verdict"], rule["why"]
    return "opt-in", (
        f"nobody has shown yet whether FP8 is right on compute capability {_text(capability)}:"
        " send a real request after the start"
    )


def asked_by(model: Model, flags: Mapping[str, Any], env: Mapping[str, str]) -> tuple[str, str]:
    """The flag or variable that asks for the attention and for the MoE kernel; empty for none.

    :param flags: with ``attention-config`` as a mapping.
    """
    config = flags.get("attention-config")
    nested = config.get("backend") if isinstance(config, Mapping) else None
    attention = (
        ("attention-backend", flags.get("attention-backend")),
        ("attention-config", nested),
        ("VLLM_ATTENTION_BACKEND", env.get("VLLM_ATTENTION_BACKEND")),
    )
    switches = [
        (name, is_true(env.get(name)))
        for name, rule in _catalogue()["mxfp4_moe_variables"].items()
        if isinstance(rule, dict) and model.quantization == "mxfp4"
    ]
    moe = (("moe-backend", flags.get("moe-backend")), *switches)
    return _first_asking(attention), _first_asking(moe)


def _first_asking(given: Iterable[tuple[str, Any]]) -> str:
    return next((name for name, value in given if value and str(value).lower() != "auto"), "")


@functools.cache
def _catalogue() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return read


def _rules(name: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = _catalogue()[name]
    return rules


def _text(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _in_release(rule: Mapping[str, Any], release: str) -> bool:
    known = version(release)
    return version(rule.get("from", "0.0.0")) <= known and (
        "until" not in rule or known < version(rule["until"])
    )


def _applies(rule: Mapping[str, Any], capability: tuple[int, int], release: str) -> bool:
    lowest, highest = rule["capability"]
    return tuple(lowest) <= capability <= tuple(highest) and _in_release(rule, release)


def _asked_attention(release: str, flags: Mapping[str, Any], env: Mapping[str, str]) -> str:
    """The attention backend that somebody asked for, under today's name; empty for none."""
    config = flags.get("attention-config")
    nested = config.get("backend") if isinstance(config, Mapping) else None
    asked = flags.get("attention-backend") or nested
    if asked and version(release) < version(_ATTENTION_FLAG):
        raise Refusal(
            f"attention-backend exists from vLLM {_ATTENTION_FLAG}, not in {release};"
            " set the variable VLLM_ATTENTION_BACKEND instead."
        )
    variable = env.get("VLLM_ATTENTION_BACKEND")
    if variable and version(release) >= version(_ATTENTION_VARIABLE_GONE):
        raise Refusal(
            f"vLLM {release} does not read VLLM_ATTENTION_BACKEND (gone in"
            f" {_ATTENTION_VARIABLE_GONE}); set the flag attention-backend instead."
        )
    name = str(asked or variable or "").upper()
    return "" if name == "AUTO" else _SAME_ATTENTION.get(name, name)


def _attention(
    capability: tuple[int, int], model: Model, release: str, asked: str, fp8: bool
) -> str:
    if asked and model.attention_sinks:
        _check_sinks(capability, model, release, asked)
    if asked:
        return asked
    for rule in _rules("attention"):
        if (
            rule["sinks"] == model.attention_sinks
            and (fp8 or not rule.get("fp8_kv"))
            and _applies(rule, capability, release)
        ):
            return str(rule["backend"])
    raise Refusal(
        f"No attention backend is known for compute capability {_text(capability)} in vLLM"
        f" {release}; set attention-backend."
    )


def _check_sinks(capability: tuple[int, int], model: Model, release: str, asked: str) -> None:
    able = {
        name: rules for name, rules in _catalogue()["attention_with_sinks"].items() if name != "//"
    }
    fitting = [
        name
        for name, rules in able.items()
        if any(_applies(rule, capability, release) for rule in rules)
    ]
    if asked not in fitting:
        raise Refusal(
            f"{asked} cannot do the attention sinks of {model.name} on compute capability"
            f" {_text(capability)} in vLLM {release}; leave the choice to vLLM or use"
            f" {' or '.join(fitting)}."
        )


def _moe(
    capability: tuple[int, int],
    model: Model,
    release: str,
    flags: Mapping[str, Any],
    env: Mapping[str, str],
) -> str:
    asked = str(flags.get("moe-backend") or "auto").replace("-", "_").lower()
    if not model.experts:
        return ""
    if model.quantization != "mxfp4":
        return "TRITON" if asked == "auto" else asked.upper()
    if asked != "auto":
        return _asked_moe(capability, release, asked)
    return _moe_by_variable(capability, release, env) or _automatic_moe(capability, release)


def _automatic_moe(capability: tuple[int, int], release: str) -> str:
    for rule in _rules("mxfp4_moe"):
        if _applies(rule, capability, release):
            return str(rule["backend"])
    raise Refusal(
        f"No kernel for MXFP4 experts is known for compute capability {_text(capability)} in"
        f" vLLM {release}; use a GPU from 8.0 to 12.1."
    )


def _asked_moe(capability: tuple[int, int], release: str, asked: str) -> str:
    choices = _catalogue()["mxfp4_moe_choices"]
    if version(release) < version(choices["from"]):
        instead = (
            "leave it out" if version(release) >= version(_MOE_FLAG) else "the flag does not exist"
        )
        raise Refusal(
            f"moe-backend has no effect on MXFP4 experts before vLLM {choices['from']}, and"
            f" {release} is older: {instead} (VLLM_MXFP4_USE_MARLIN=1 chooses Marlin)."
        )
    fitting = {
        name: rule["backend"]
        for name, rule in choices.items()
        if isinstance(rule, dict) and _choice_applies(rule, capability, release)
    }
    if asked not in fitting:
        raise Refusal(
            f"moe-backend {asked} is no choice for MXFP4 experts on compute capability"
            f" {_text(capability)} in vLLM {release}; it can be auto, {', '.join(sorted(fitting))}."
        )
    return str(fitting[asked])


def _choice_applies(rule: Mapping[str, Any], capability: tuple[int, int], release: str) -> bool:
    later = rule.get("later")
    return _applies(rule, capability, release) or (
        later is not None and _applies(later, capability, release)
    )


def _moe_by_variable(
    capability: tuple[int, int], release: str, env: Mapping[str, str]
) -> str | None:
    variables = _catalogue()["mxfp4_moe_variables"]
    for name, rule in variables.items():
        if not isinstance(rule, dict) or not is_true(env.get(name)):
            continue
        if version(release) >= version(variables["until"]):
            raise Refusal(
                f"vLLM {release} does not read {name} (gone in {variables['until']}); set"
                " moe-backend instead."
            )
        if release in rule.get("not_read", ()):
            raise Refusal(f"vLLM {release} declares {name} and never reads it; leave it out.")
        if not _applies(rule, capability, release):
            raise Refusal(
                f"{name} needs another compute capability than {_text(capability)}; leave it out."
            )
        return str(rule["backend"])
    return None


def _sampler(release: str, env: Mapping[str, str]) -> str:
    """What filters by top-k and top-p; ``VLLM_USE_FLASHINFER_SAMPLER`` overrides the release."""
    variable = env.get("VLLM_USE_FLASHINFER_SAMPLER")
    if variable is not None and is_true(variable):
        return "flashinfer"
    rules: Iterable[Mapping[str, Any]] = _rules("sampler")
    names = [rule["sampler"] for rule in rules if _in_release(rule, release)]
    if variable is not None and names[0] == "flashinfer":
        return "triton"
    return str(names[0])


def _model_runner(model: Model, release: str, env: Mapping[str, str]) -> str:
    """``v2`` where the release runs that model on v1/worker/gpu, else ``v1``."""
    data = _catalogue()["model_runner"]
    variable = env.get("VLLM_USE_V2_MODEL_RUNNER")
    if variable is not None:
        return "v2" if is_true(variable) else "v1"
    dense = _in_release(data["dense"], release) and not model.experts
    named = any(
        _in_release(rule, release)
        and model.architecture in rule["names"]
        and not (rule["unquantized"] and model.quantization)
        for rule in data["architectures"]
    )
    return "v2" if dense or named or _in_release(data["all"], release) else "v1"


def is_true(variable: str | None) -> bool:
    """Whether a variable switches something on, as vLLM reads it."""
    return str(variable or "").strip().lower() in ("1", "true", "yes", "on")
