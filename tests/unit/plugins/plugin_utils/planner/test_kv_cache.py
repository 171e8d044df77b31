# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""KV cache arithmetic against vLLM's own start-up logs, and against its sources where none is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import kv_cache, models
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Backends,
    Engine,
    Model,
    Refusal,
)

OBSERVATIONS = json.loads((Path(__file__).parent / "kv_observations.json").read_text())[
    "observations"
]
RELEASES_AT_A_CHANGE = ["0.11.2", "0.12.0", "0.17.1", "0.18.0", "0.20.0", "0.20.1"]
RELEASES_AT_A_CHANGE += ["0.25.1", "0.26.0", "0.28.0", "0.29.0", "0.32.0", "0.33.0"]

ENGINE = Engine(
    release="0.32.0",
    tensor_parallel=1,
    max_model_len=131072,
    max_num_batched_tokens=8192,
    max_num_seqs=256,
    max_capture_size=512,
    kv_bytes_each=2,
    block_size=16,
    async_scheduling=False,
    hybrid_kv_cache=True,
    backends=Backends(attention="FLASH_ATTN", moe="", sampler="torch"),
    capability=(9, 0),
)
GPT_OSS_20B = models.model("gpt-oss-20b")
LLAMA = models.model("Llama-3.1-8B-Instruct")
GEMMA = models.model("gemma-3-12b-it")
# The test engine's model: molecule/shared/engine_image/tiny_model/config.py.
TINY = replace(GPT_OSS_20B, full_layers=1, sliding_layers=1, kv_heads=2, head_dim=32)
ALL_SLIDING = replace(LLAMA, full_layers=0, sliding_layers=32, sliding_window=4096)


def shape(full: int, sliding: int) -> Model:
    return replace(GPT_OSS_20B, full_layers=full, sliding_layers=sliding)


def engine(**changes: Any) -> Engine:
    return replace(ENGINE, **changes)


def observed(row: dict[str, Any], **changes: Any) -> Iterator[tuple[int, float]]:
    """Tokens and printed concurrency for every byte count that the log's GiB may stand for."""
    model = TINY if row["model"] == "tiny" else models.model(row["model"])
    settings = engine(**{**row["engine"], **changes})
    sizes: range = (
        range(row["kv_bytes"], row["kv_bytes"] + 1)
        if "kv_bytes" in row
        else range(
            int((row["kv_gib"] - 0.005) * GIB), int((row["kv_gib"] + 0.005) * GIB) + 1, 64 << 10
        )
    )
    for size in sizes:
        cache = kv_cache.kv_cache(model, settings, size)
        yield cache.tokens, round(cache.concurrency, 2)


def matches(row: dict[str, Any], **changes: Any) -> bool:
    return any(
        tokens == row["tokens"] and row["concurrency"] in (None, concurrency)
        for tokens, concurrency in observed(row, **changes)
    )


@pytest.mark.parametrize("row", OBSERVATIONS, ids=lambda row: row["id"])
def test_logs_come_out_to_the_token(row: dict[str, Any]) -> None:
    assert matches(row)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        # The release of the other side of each change gives other figures ...
        ("l4-20b-fp8", {"release": "0.20.1"}),
        ("h100-120b-0.11.2", {"release": "0.20.1"}),
        ("h100-120b-0.25.1", {"release": "0.20.0"}),
        ("h100-120b-0.25.1", {"release": "0.26.0"}),
        ("h200-20b-default", {"release": "0.25.1"}),
        ("h200-20b-tuned", {"release": "0.25.1"}),
        ("h200-nvl-120b", {"release": "0.25.1"}),
        # ... and so do other settings.
        ("l4-20b-fp8", {"kv_bytes_each": 2}),
        ("l4-20b-fp8", {"max_num_batched_tokens": 8192}),
        ("l4-20b-fp8", {"max_num_batched_tokens": 2048}),
        ("l4-20b-fp8", {"hybrid_kv_cache": False}),
        ("h200-20b-default", {"async_scheduling": False}),
        ("h200-20b-default", {"block_size": 32}),
        ("h200-20b-default", {"tensor_parallel": 2}),
        ("cpu-tiny-gpt-oss", {"block_size": 16}),
        ("cpu-tiny-gpt-oss", {"async_scheduling": True}),
    ],
)
def test_anything_else_does_not_give_the_figures_of_the_log(
    name: str, changes: dict[str, Any]
) -> None:
    row = next(row for row in OBSERVATIONS if row["id"] == name)
    assert not matches(row, **changes)


def test_printed_tokens_changed_their_meaning_in_0_20_1() -> None:
    before = kv_cache.kv_cache(GPT_OSS_20B, engine(release="0.20.0"), 10 * GIB)
    after = kv_cache.kv_cache(GPT_OSS_20B, engine(release="0.20.1"), 10 * GIB)
    # 10 GiB are 27,306 blocks: half of them for each group, or 3.13 requests of 8713 blocks.
    assert before.tokens == 27_306 // 2 * 16 == 218_448
    assert after.tokens == 131_072 * 27_306 // 8713 == 410_771
    assert before.concurrency == after.concurrency


def test_sliding_layers_keep_two_batches_since_0_26_0() -> None:
    settings = engine(async_scheduling=True)
    before = kv_cache.kv_cache(GPT_OSS_20B, replace(settings, release="0.25.1"), 10 * GIB)
    after = kv_cache.kv_cache(GPT_OSS_20B, replace(settings, release="0.26.0"), 10 * GIB)
    # 8192 full blocks, and cdiv(127 + 8192, 16) + 1 or cdiv(127 + 16384, 16) + 1 sliding ones.
    assert before.concurrency == before.blocks / (8192 + 521)
    assert after.concurrency == after.blocks / (8192 + 1033)


def test_only_asynchronous_scheduling_has_two_batches_in_flight() -> None:
    sync = [
        kv_cache.kv_cache(GPT_OSS_20B, engine(release=release), 10 * GIB).concurrency
        for release in ("0.25.1", "0.26.0")
    ]
    assert sync[0] == sync[1]


@pytest.mark.parametrize("release", ["0.10.1", "0.20.0", "0.20.1", "0.33.0"])
def test_a_model_of_full_layers_only(release: str) -> None:
    cache = kv_cache.kv_cache(LLAMA, engine(release=release), 16 * GIB)
    # 2 x 16 tokens x 8 heads x 128 x 2 bytes x 32 layers = 2 MiB a block, 8192 blocks a request.
    assert cache.blocks == 8192
    assert cache.tokens == 131072
    assert cache.concurrency == 1.0


def test_a_model_of_sliding_layers_only_keeps_its_window() -> None:
    cache = kv_cache.kv_cache(ALL_SLIDING, engine(release="0.20.0"), 16 * GIB)
    assert cache.tokens == 131072  # as if every token had a block
    assert cache.concurrency == 8192 / (768 + 1)  # cdiv(4095 + 8192, 16) + 1


@pytest.mark.parametrize(
    ("release", "block_size", "page_tokens"),
    [("0.24.0", 32, 32), ("0.25.1", 32, 16), ("0.29.0", 32, 16), ("0.30.0", 32, 32)],
)
def test_sliding_layers_ignored_the_block_size_for_a_while(
    release: str, block_size: int, page_tokens: int
) -> None:
    settings = engine(release=release, block_size=block_size)
    cache = kv_cache.kv_cache(ALL_SLIDING, settings, 16 * GIB)
    assert cache.blocks == 8192 * 16 // page_tokens


@pytest.mark.parametrize(
    ("full", "sliding", "release", "groups", "layers_in_group"),
    [
        (12, 12, "0.10.1", 2, 12),
        (8, 40, "0.12.0", 6, 8),  # Gemma 3 12B: 5 to 1
        (5, 29, "0.32.0", 7, 5),  # Gemma 3 4B: the sixth sliding group is padded
        (13, 12, "0.11.2", 3, 12),  # padded to 12 and 2 x 12
        (13, 12, "0.12.0", 2, 13),  # since then to 13 and 13
        (10, 14, "0.17.1", 3, 10),  # 14 is not below 1.25 x 10
        (10, 14, "0.18.0", 2, 14),  # but below 1.5 x 10
        (10, 15, "0.18.0", 3, 10),
    ],
)
def test_layers_are_grouped_as_the_release_does(
    full: int, sliding: int, release: str, groups: int, layers_in_group: int
) -> None:
    page = 2 * 16 * 8 * 64 * 2
    cache = kv_cache.kv_cache(shape(full, sliding), engine(release=release), 7 * GIB)
    assert cache.blocks == 7 * GIB // (page * layers_in_group)
    if release < "0.20.1":
        assert cache.tokens == cache.blocks // groups * 16
    full_groups = -(-full // layers_in_group)
    per_request = full_groups * 8192 + (groups - full_groups) * 521
    assert cache.concurrency == cache.blocks / per_request


def test_without_the_hybrid_manager_sliding_layers_keep_everything() -> None:
    cache = kv_cache.kv_cache(GPT_OSS_20B, engine(hybrid_kv_cache=False), 12 * GIB)
    assert cache.blocks == 12 * GIB // (2 * 16 * 8 * 64 * 2 * 24)
    assert cache.concurrency == cache.blocks / 8192


def test_heads_are_divided_over_gpus_and_replicated_beyond() -> None:
    blocks = {
        size: kv_cache.kv_cache(GPT_OSS_20B, engine(tensor_parallel=size), 3 * GIB).blocks
        for size in (1, 2, 8, 16)
    }
    assert blocks == {1: 8192, 2: 16384, 8: 65536, 16: 65536}


def test_one_byte_keys_and_values_double_the_blocks() -> None:
    wide, narrow = (
        kv_cache.kv_cache(GPT_OSS_20B, engine(kv_bytes_each=each), 3 * GIB) for each in (2, 1)
    )
    assert (wide.blocks, narrow.blocks) == (8192, 16384)
    assert narrow.needed_bytes * 2 == wide.needed_bytes


@pytest.mark.parametrize("size", [-GIB, 0, 393_215])
def test_less_than_a_block_is_no_cache(size: int) -> None:
    cache = kv_cache.kv_cache(GPT_OSS_20B, ENGINE, size)
    assert (cache.blocks, cache.tokens, cache.concurrency) == (0, 0, 0.0)
    assert cache.needed_bytes > 0


@pytest.mark.parametrize(
    ("release", "blocks"), [("0.20.0", 8713), ("0.26.0", 8713), ("0.28.0", 8713), ("0.29.0", 8714)]
)
def test_one_request_needs_its_blocks_and_since_0_29_the_null_block(
    release: str, blocks: int
) -> None:
    cache = kv_cache.kv_cache(GPT_OSS_20B, engine(release=release), GIB)
    assert cache.needed_bytes == blocks * 393_216


@pytest.mark.parametrize("release", RELEASES_AT_A_CHANGE)
@pytest.mark.parametrize("model", [GPT_OSS_20B, LLAMA, GEMMA, ALL_SLIDING])
@pytest.mark.parametrize("size", [GIB // 2, 2 * GIB])
def test_the_largest_length_fits_and_the_next_does_not(
    model: Model, release: str, size: int
) -> None:
    length = kv_cache.largest_model_len(model, engine(release=release), size)
    assert 0 < length <= model.max_model_len
    settings = engine(release=release, max_model_len=length)
    assert kv_cache.kv_cache(model, settings, size).needed_bytes <= size
    if length < model.max_model_len:
        longer = replace(settings, max_model_len=length + 1)
        assert kv_cache.kv_cache(model, longer, size).needed_bytes > size


def test_no_length_fits_in_nothing_and_never_more_than_the_model_has() -> None:
    assert kv_cache.largest_model_len(GPT_OSS_20B, ENGINE, 0) == 0
    assert kv_cache.largest_model_len(GPT_OSS_20B, ENGINE, 100 * GIB) == 131072


def test_releases_before_the_first_known_are_refused() -> None:
    with pytest.raises(Refusal, match=r"vLLM 0\.10\.0 is older than 0\.10\.1"):
        kv_cache.kv_cache(GPT_OSS_20B, engine(release="0.10.0"), GIB)


def test_flags_that_keep_vllm_from_starting_are_refused() -> None:
    settings = engine(release="0.26.0", hybrid_kv_cache=False, block_size=32)
    with pytest.raises(Refusal, match="set block-size to 16 or leave the hybrid manager on"):
        kv_cache.kv_cache(GPT_OSS_20B, settings, GIB)
    assert kv_cache.kv_cache(GPT_OSS_20B, replace(settings, release="0.27.0"), GIB).blocks
