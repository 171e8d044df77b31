# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A person's options: checked against the release, and refused where they cannot be planned."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    canonical,
    check_environment,
    check_options,
    normalise,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import releases
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Model, Refusal

_DATA = Path(__file__).parent / "data" / "options.json"

# Says the same as the instance's max_model_len, so the planner takes it from either place.
_LENGTH = "max-model-len"
# Suffixes that vLLM reads (utils/argparse_utils.human_readable_int).
_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Flags that count something and have an effect on the figures.
_COUNTS = (
    "tensor-parallel-size",
    "max-num-seqs",
    "max-num-batched-tokens",
    "max-cudagraph-capture-size",
    "kv-cache-memory-bytes",
    "block-size",
)
# bf16 is the only activation that the MXFP4 kernels take (get_supported_act_dtypes).
_DTYPES_OF_MXFP4 = ("auto", "bfloat16")
_TWO_BYTES = ("auto", "bfloat16", "float16", "half")
_KV_DTYPES = ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2")
# Sections of JSON whose content cannot be split over several options.
_SECTIONS = ("compilation-config", "speculative-config")


@functools.lru_cache(maxsize=1)
def _unpredictable() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return data


def read(given: Mapping[str, Any], release: str, model: Model) -> dict[str, Any]:
    """Options under vLLM's own names, numbers as numbers; None leaves a flag to vLLM.

    :raises Refusal: the release does not know one, or its effect cannot be predicted.
    """
    own = {key: value for key, value in given.items() if canonical(str(key)) != _LENGTH}
    for key, problem in check_options(own, release).items():
        replacement = releases.replacement(canonical(key))
        if replacement and "removed" in problem:
            problem = f"{problem.partition(';')[0]}; {replacement}."
        raise Refusal(f"options.{key} {problem}")
    options = normalise(given)
    if options.get(_LENGTH, "auto") in (None, "auto", -1, "-1"):
        options.pop(_LENGTH, None)
    for name in (*_COUNTS, _LENGTH):
        if options.get(name) is not None:
            options[name] = _count(name, options[name])
    given_values = {name: value for name, value in options.items() if value is not None}
    _refuse_unpredictable(given_values)
    _refuse_types(given_values, model)
    return {name: _section(name, value) for name, value in options.items()}


def length(asked: int | str | None, options: Mapping[str, Any], model: Model) -> int | None:
    """The context that a person wants, or None for as long as fits.

    :param asked: the instance's max_model_len.
    :raises Refusal: it is no number, two places disagree, or the model was not made for it.
    """
    wanted = None if asked in (None, "auto") else _count_of("max_model_len", asked)
    option = options.get(_LENGTH)
    if option and wanted not in (None, option):
        raise Refusal(
            f"max_model_len is {wanted} and options.max-model-len is {option}; keep one of them."
        )
    wanted = option or wanted
    if wanted and wanted > model.max_model_len:
        raise Refusal(
            f"max_model_len is {wanted:,}, but {model.name} was made for {model.max_model_len:,}"
            " tokens; lower it or leave it at auto."
        )
    return wanted


def read_environment(given: Mapping[str, Any], release: str) -> dict[str, str]:
    """
    :raises Refusal: the release does not know a variable.
    """
    for key, problem in check_environment(given, release).items():
        raise Refusal(f"env.{key} {problem}")
    return {str(name): str(value) for name, value in given.items()}


def _count(name: str, value: Any) -> int:
    return _count_of(f"options.{name}", value)


def _count_of(name: str, value: Any) -> int:
    number = _number(value)
    if number is None or number < 1:
        raise Refusal(f"{name} is {value!r}; it takes a whole number from 1, or 8k, 1.5M.")
    return number


def _number(value: Any) -> int | None:
    """``8k`` as 8000 and ``8K`` as 8192, as vLLM reads them; None where it cannot."""
    if isinstance(value, bool):
        return None
    text = str(value).strip()
    unit = text[-1:]
    try:
        if unit in _UNITS:
            return int(float(text[:-1]) * _UNITS[unit])
        if unit in _BINARY_UNITS:
            return int(text[:-1]) * _BINARY_UNITS[unit]
        return int(text)
    except ValueError:
        return None


def _section(name: str, value: Any) -> Any:
    if name not in _SECTIONS or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise Refusal(f"options.{name} is no JSON: {error}; write it as a dictionary.") from error


def _refuse_unpredictable(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        entry = _unpredictable().get(name.partition(".")[0])
        if isinstance(entry, Mapping) and value not in entry["neutral"]:
            raise Refusal(f"options.{name} is {value!r}, which cannot be planned: {entry['why']}.")


def _refuse_types(options: Mapping[str, Any], model: Model) -> None:
    dtype = options.get("dtype", "auto")
    mxfp4 = model.quantization == "mxfp4"
    allowed = _DTYPES_OF_MXFP4 if mxfp4 else _TWO_BYTES
    if dtype not in allowed:
        raise Refusal(f"options.dtype is {dtype!r}; {model.name} takes {' or '.join(allowed)}.")
    quantization = options.get("quantization")
    if quantization and model.quantization not in str(quantization).replace("gpt_oss_", ""):
        held = model.quantization or "unquantized"
        raise Refusal(
            f"options.quantization is {quantization!r}, but the weights of {model.name} are {held};"
            " leave it out, vLLM reads it from the checkpoint."
        )
    if quantization and not model.quantization:
        raise Refusal(
            f"options.quantization is {quantization!r}, which would quantize {model.name} while"
            " loading and cannot be planned; use a quantized checkpoint."
        )
    cached = options.get("kv-cache-dtype", "auto")
    if cached not in _KV_DTYPES:
        near = get_close_matches(str(cached), _KV_DTYPES, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise Refusal(
            f"options.kv-cache-dtype is {cached!r}; the planner knows {', '.join(_KV_DTYPES)}{hint}"
        )
