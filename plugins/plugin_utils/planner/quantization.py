# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How a checkpoint is quantized, and what one of its weights takes."""

from __future__ import annotations

from fractions import Fraction

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.config_file import (
    MOST,
    Section,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Model

# vLLM serves float32 checkpoints in half precision too (config/model.py, _get_and_verify_dtype).
DTYPE_BYTES = 2


def settings_of(file: Section, text: Section) -> Section:
    """The section that describes it, wherever a publisher puts that; empty for none."""
    found = (
        file.section("quantization_config"),
        text.section("quantization_config"),
        file.section("compression_config"),
    )
    return next((section for section in found if section.values), found[0])


def method(settings: Section) -> str:
    """The quantization in vLLM's spelling; empty for none."""
    named = settings.text("quant_method").lower() or "compressed-tensors"
    return named.replace("_tensors", "-tensors") if settings.values else ""


def left_out(settings: Section) -> list[str]:
    """Parts of the model that stay as they are."""
    keys = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
    return next((found for key in keys if (found := settings.items(key, str))), [])


def block(settings: Section) -> list[int]:
    """Rows and columns of weights that share a scale; nothing where blocks are not used."""
    sizes = settings.items("weight_block_size", int)
    if sizes and (len(sizes) != 2 or not all(0 < size <= MOST for size in sizes)):
        raise settings.wrong("weight_block_size", "two whole numbers")
    return sizes


def bytes_each(shape: Model, settings: Section) -> Fraction | None:
    """Bytes of one quantized weight with its share of scales and zero points."""
    kind = shape.quantization
    if not kind:
        return Fraction(DTYPE_BYTES)
    if kind in ("awq", "gptq"):
        bits = settings.first(("bits", "w_bit"), most=DTYPE_BYTES * 8) or 4
        group = _group(settings, "group_size") or _group(settings, "q_group_size") or 128
        return _grouped(bits, group, 16 + bits) if group > 0 else Fraction(bits, 8)
    if kind == "compressed-tensors":
        return _compressed_tensors(settings)
    if kind in ("fp8", "fbgemm_fp8"):
        sizes = block(settings)
        return Fraction(1) + (Fraction(4, sizes[0] * sizes[1]) if sizes else 0)
    if kind == "bitsandbytes":
        if settings.flag("load_in_8bit"):
            return Fraction(1)
        return _grouped(4, 64, 8 if settings.flag("bnb_4bit_use_double_quant") else 32)
    if kind in ("modelopt", "modelopt_fp4"):
        nvfp4 = kind.endswith("fp4") or settings.text("quant_algo") == "NVFP4"
        return _grouped(4, 16, 8) if nvfp4 else Fraction(1)
    # E2M1 in blocks of 32 with one byte of scale (OCP Microscaling Formats 1.0).
    return _grouped(4, 32, 8) if kind == "mxfp4" else None


def _group(settings: Section, key: str) -> int:
    """Weights with one scale: -1 for a whole column, 0 where nothing is said."""
    return settings.number(key, least=-1)


def _compressed_tensors(settings: Section) -> Fraction | None:
    groups = settings.section("config_groups")
    weights = next((groups.section(key).section("weights") for key in groups.values), None)
    if weights is None or not weights.values:
        return None
    bits, group = weights.needed("num_bits", most=DTYPE_BYTES * 8), _group(weights, "group_size")
    if group <= 0:
        return Fraction(bits, 8)
    float4 = bits == 4 and weights.text("type") == "float"
    return _grouped(bits, group, 8 if float4 else 16)


def _grouped(bits: int, group: int, scale_bits: int) -> Fraction:
    return (bits + Fraction(scale_bits, group)) / 8
