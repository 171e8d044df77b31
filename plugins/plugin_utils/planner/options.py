# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A person's options: checked against the release, and refused where they cannot be planned."""

from __future__ import annotations

import functools
import json
import math
import reprlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    canonical,
    check_environment,
    check_options,
    normalise,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import releases, settings
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Model, Refusal

_DATA = Path(__file__).parent / "data" / "options.json"

# Says the same as the instance's max_model_len, so the planner takes it from either place.
_LENGTH = "max-model-len"
# Suffixes that vLLM reads (utils/argparse_utils.human_readable_int).
_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# What vLLM holds such a number in.
_LARGEST = 2**63 - 1
# Flags that count something and have an effect on the figures.
_COUNTS = (
    "tensor-parallel-size",
    "max-num-seqs",
    "max-num-batched-tokens",
    "max-cudagraph-capture-size",
    "kv-cache-memory-bytes",
    "block-size",
    "spec-tokens",
)
# Keys of JSON that do the same.
_NESTED_COUNTS = (
    ("speculative-config", "num_speculative_tokens"),
    ("compilation-config", "max_cudagraph_capture_size"),
)
_SIZE_LISTS = ("cudagraph-capture-sizes", "cuda-graph-sizes")
_NESTED_SIZE_LIST = ("compilation-config", "cudagraph_capture_sizes")
_NAMES = ("attention-backend", "moe-backend", "spec-model", "spec-method")
_NESTED_NAMES = (
    ("speculative-config", "method"),
    ("speculative-config", "model"),
    ("attention-config", "backend"),
)
_SHARE = "gpu-memory-utilization"
# FlashAttention, Triton and FlashInfer take nothing else (get_kv_cache_shape, 0.10.1 to 0.33.0).
_BLOCK_STEP = 16
# bf16 is the only activation that the MXFP4 kernels take (get_supported_act_dtypes).
_DTYPES_OF_MXFP4 = ("auto", "bfloat16")
_TWO_BYTES = ("auto", "bfloat16", "float16", "half")
_KV_DTYPES = ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2")
# Sections of JSON whose content cannot be split over several options.
_SECTIONS = (
    "attention-config",
    "compilation-config",
    "kv-transfer-config",
    "speculative-config",
)


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
    if options.get("tensor-parallel-size", 0) is None:
        # vLLM's own would be 1, whatever the number of GPUs: the plan's choice is meant.
        del options["tensor-parallel-size"]
    options = {name: _section(name, value) for name, value in options.items()}
    options |= _typed(options)
    _check_nested(options)
    given_values = {name: value for name, value in options.items() if value is not None}
    _refuse_unpredictable(given_values)
    _refuse_types(given_values, model)
    _refuse_connector(given_values, model, release)
    return options


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the figures depend on, with the types that they are worked out from."""
    readers: dict[str, Callable[[str, Any], Any]] = {
        **dict.fromkeys((*_COUNTS, _LENGTH), _count),
        **dict.fromkeys(_SIZE_LISTS, _sizes),
        **dict.fromkeys(_NAMES, _name),
        "block-size": _block_size,
        _SHARE: _share,
    }
    return {
        name: read_one(f"options.{name}", options[name])
        for name, read_one in readers.items()
        if options.get(name) is not None
    }


def _check_nested(options: Mapping[str, Any]) -> None:
    """
    :raises Refusal: a key of JSON that the figures depend on holds what vLLM cannot take.
    """
    readers: dict[tuple[str, str], Callable[[str, Any], Any]] = {
        **dict.fromkeys(_NESTED_COUNTS, _whole),
        **dict.fromkeys(_NESTED_NAMES, _name),
        _NESTED_SIZE_LIST: _sizes,
    }
    for (section, key), read_one in readers.items():
        value = settings.nested(options, section).get(key)
        if value is not None:
            read_one(f"options.{section}.{key}", value)


def length(asked: int | str | None, options: Mapping[str, Any], model: Model) -> int | None:
    """The context that a person wants, or None for as long as fits.

    :param asked: the instance's max_model_len.
    :raises Refusal: it is no number, two places disagree, or the model was not made for it.
    """
    wanted = None if asked in (None, "auto") else _count("max_model_len", asked)
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
    number = _number(value)
    if number is None or number < 1:
        raise Refusal(f"{name} is {_shown(value)}; it takes a whole number from 1, or 8k, 1.5M.")
    if number > _LARGEST:
        raise Refusal(f"{name} is {_shown(value)}; the largest that vLLM holds is {_LARGEST}.")
    return number


def _block_size(name: str, value: Any) -> int:
    number = _count(name, value)
    if number % _BLOCK_STEP:
        raise Refusal(
            f"{name} is {_shown(value)}; the attention kernels take multiples of {_BLOCK_STEP}:"
            f" give {settings.to_multiple(number, _BLOCK_STEP)} or leave it out."
        )
    return number


def _share(name: str, value: Any) -> float:
    try:
        share = float(value)
    except (OverflowError, TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:
        raise Refusal(f"{name} is {_shown(value)}; it must be above 0 and at most 1.")
    return share


def _sizes(name: str, value: Any) -> list[int]:
    sizes = value if isinstance(value, (list, tuple)) else [value]
    if not sizes or not all(_is_whole(size) for size in sizes):
        raise Refusal(f"{name} is {_shown(value)}; it takes a list of whole numbers: [1, 2, 4, 8].")
    return [int(size) for size in sizes]


def _whole(name: str, value: Any) -> int:
    if not _is_whole(value):
        raise Refusal(f"{name} is {_shown(value)}; it takes a whole number from 1.")
    return int(value)


def _is_whole(value: Any) -> bool:
    """Whether vLLM takes it for a whole number from 1 where it reads no suffix."""
    if isinstance(value, str):
        return value.isdecimal() and len(value) < 19 and int(value) > 0
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Refusal(f"{name} is {_shown(value)}; it takes a name.")
    return value


def _shown(value: Any) -> str:
    """A value for a sentence, cut where it is long."""
    return reprlib.repr(value)


def _number(value: Any) -> int | None:
    """``8k`` as 8000 and ``8K`` as 8192, as vLLM reads them; None where it cannot."""
    if isinstance(value, bool):
        return None
    try:
        text = str(value).strip()
        unit = text[-1:]
        if unit in _UNITS:
            return int(float(text[:-1]) * _UNITS[unit])
        if unit in _BINARY_UNITS:
            return int(text[:-1]) * _BINARY_UNITS[unit]
        return int(text)
    except (OverflowError, ValueError):
        return None


def _section(name: str, value: Any) -> Any:
    if name not in _SECTIONS or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (RecursionError, ValueError) as error:
        raise Refusal(f"options.{name} is no JSON: {error}; write it as a dictionary.") from error


def _refuse_unpredictable(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        entry = _unpredictable().get(name.partition(".")[0])
        if isinstance(entry, Mapping) and value not in entry["neutral"]:
            raise Refusal(
                f"options.{name} is {_shown(value)}, which cannot be planned: {entry['why']}."
            )


def _refuse_types(options: Mapping[str, Any], model: Model) -> None:
    dtype = options.get("dtype", "auto")
    mxfp4 = model.quantization == "mxfp4"
    allowed = _DTYPES_OF_MXFP4 if mxfp4 else _TWO_BYTES
    if dtype not in allowed:
        raise Refusal(
            f"options.dtype is {_shown(dtype)}; {model.name} takes {' or '.join(allowed)}."
        )
    quantization = options.get("quantization")
    if quantization and model.quantization not in str(quantization).replace("gpt_oss_", ""):
        held = model.quantization or "unquantized"
        raise Refusal(
            f"options.quantization is {_shown(quantization)}, but the weights of"
            f" {model.name} are {held}; leave it out, vLLM reads it from the checkpoint."
        )
    if quantization and not model.quantization:
        raise Refusal(
            f"options.quantization is {_shown(quantization)}, which would quantize"
            f" {model.name} while loading and cannot be planned; use a quantized checkpoint."
        )
    cached = options.get("kv-cache-dtype", "auto")
    if cached not in _KV_DTYPES:
        near = get_close_matches(str(cached), _KV_DTYPES, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise Refusal(
            f"options.kv-cache-dtype is {_shown(cached)}; the planner knows"
            f" {', '.join(_KV_DTYPES)}{hint}"
        )


def _refuse_connector(options: Mapping[str, Any], model: Model, release: str) -> None:
    is_hybrid = model.full_layers and model.sliding_layers
    if is_hybrid and settings.has_hybrid_cache(options, release) is None:
        raise Refusal(
            "options.kv-transfer-config names a connector of which the planner does not know"
            " whether it can do a hybrid KV cache; set disable-hybrid-kv-cache-manager to true to"
            " do without."
        )
