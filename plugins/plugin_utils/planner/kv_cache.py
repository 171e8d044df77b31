# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How many tokens a number of KV-cache bytes holds, as each vLLM release counts and prints it.

A block keeps the keys and values of ``block_size`` tokens for one group of layers. Every layer
group of a request has its own list of blocks, and all groups take them from one pool: full
layers need blocks for the whole context, sliding ones for their window and what is in flight.
Source: ``v1/core/kv_cache_utils.py`` (``kv_cache_planning.py`` from 0.33.0) and
``v1/kv_cache_interface.py`` of every release named in ``_RULES``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    Engine,
    KvCache,
    Model,
    Refusal,
)

# Triton and FlashAttention take multiples of it, FlashInfer takes it as the least of its sizes:
# get_supported_kernel_block_sizes in v1/attention/backends.
_SMALLEST_BLOCK = 16
_SMALLEST_BLOCK_ON_CPU = 32


@dataclass(frozen=True)
class _Rules:
    """How a release counts.

    :param group_growth: groups are as large as the more frequent kind of layer if that is less
        than this times the rarer kind, else as large as the rarer kind.
    :param tokens_from_concurrency: ``GPU KV cache size`` is concurrency x max_model_len; before,
        it was the tokens that fit if every group needed blocks for all of them.
    :param batches_in_flight: a sliding window keeps the tokens of every batch in flight, not
        of one.
    :param smallest_sliding_block: sliding layers ignore --block-size and take the smallest
        block of the attention backend.
    :param promotes_block: with the hybrid manager off, sliding layers get the full layers' block.
    :param null_block: the block that the pool never hands out counts when the start checks
        whether one request fits.
    """

    since: tuple[int, ...]
    group_growth: float
    tokens_from_concurrency: bool = True
    batches_in_flight: bool = False
    smallest_sliding_block: bool = False
    promotes_block: bool = True
    null_block: bool = False


# Newest first. The releases on both sides of each line were compared.
_RULES = (
    _Rules((0, 30, 0), 1.5, batches_in_flight=True, null_block=True),
    _Rules((0, 29, 0), 1.5, batches_in_flight=True, null_block=True, smallest_sliding_block=True),
    _Rules((0, 27, 0), 1.5, batches_in_flight=True, smallest_sliding_block=True),
    _Rules(
        (0, 26, 0),
        1.5,
        batches_in_flight=True,
        smallest_sliding_block=True,
        promotes_block=False,
    ),
    _Rules((0, 25, 0), 1.5, smallest_sliding_block=True, promotes_block=False),
    _Rules((0, 20, 1), 1.5),
    _Rules((0, 18, 0), 1.5, tokens_from_concurrency=False),
    _Rules((0, 12, 0), 1.25, tokens_from_concurrency=False),
    _Rules((0, 10, 1), 1.0, tokens_from_concurrency=False),
)


@dataclass(frozen=True)
class _Layout:
    """How one model lies in blocks.

    :param bytes_per_block: of all layers of one group, on one GPU.
    :param full_groups: groups whose blocks grow with the context.
    :param sliding_groups: groups that keep their window only.
    :param kept: tokens that a sliding layer may hold at once: window and batches in flight.
    """

    block_size: int
    bytes_per_block: int
    full_groups: int
    sliding_groups: int
    kept: int
    null_blocks: int
    tokens_from_concurrency: bool

    def blocks(self, tokens: int) -> int:
        """Blocks that one request of so many tokens takes."""
        # A window seldom begins at the edge of a block, hence one more.
        sliding = -(-min(self.kept, tokens) // self.block_size) + 1
        full = -(-tokens // self.block_size)
        return self.full_groups * full + self.sliding_groups * sliding

    def needed_bytes(self, tokens: int) -> int:
        """Bytes with which vLLM starts for this context."""
        return (self.blocks(tokens) + self.null_blocks) * self.bytes_per_block


def kv_cache(model: Model, engine: Engine, kv_bytes: int) -> KvCache:
    """Blocks, tokens and concurrency of ``kv_bytes`` on each GPU, as vLLM prints them.

    :param kv_bytes: bytes that one GPU has for the cache; below one block, there is none.
    :raises Refusal: no rules are known for the release, or it does not start like this.
    """
    layout = _layout(model, engine)
    blocks = max(kv_bytes // layout.bytes_per_block, 0)
    concurrency = blocks / layout.blocks(engine.max_model_len)
    if layout.tokens_from_concurrency:
        tokens = int(concurrency * engine.max_model_len)
    else:
        tokens = blocks // (layout.full_groups + layout.sliding_groups) * layout.block_size
    return KvCache(blocks, tokens, concurrency, layout.needed_bytes(engine.max_model_len))


def largest_model_len(model: Model, engine: Engine, kv_bytes: int) -> int:
    """The longest context, up to the model's own, of which one request fits; 0 if none does.

    :param engine: its ``max_model_len`` plays no part.
    :raises Refusal: as :func:`kv_cache`.
    """
    layout = _layout(model, engine)
    fits, too_long = 0, model.max_model_len + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if layout.needed_bytes(middle) <= kv_bytes:
            fits = middle
        else:
            too_long = middle
    return fits


def _layout(model: Model, engine: Engine) -> _Layout:
    rules = _rules(engine.release)
    full_groups, sliding_groups, group_size = _groups(model, engine, rules)
    block_size = _block_size(model, engine, rules)
    # KV heads are replicated where there are more GPUs than heads (ModelConfig.get_num_kv_heads).
    heads = max(1, model.kv_heads // engine.tensor_parallel)
    page = 2 * block_size * heads * model.head_dim * engine.kv_bytes_each
    batches = 2 if rules.batches_in_flight and engine.async_scheduling else 1
    return _Layout(
        block_size=block_size,
        bytes_per_block=page * group_size,
        full_groups=full_groups,
        sliding_groups=sliding_groups,
        kept=model.sliding_window - 1 + batches * engine.max_num_batched_tokens,
        null_blocks=1 if rules.null_block else 0,
        tokens_from_concurrency=rules.tokens_from_concurrency,
    )


def _groups(model: Model, engine: Engine, rules: _Rules) -> tuple[int, int, int]:
    """Groups of full and of sliding layers, and layers in a group (padding included)."""
    if not model.full_layers:
        return 0, 1, model.sliding_layers
    if not model.sliding_layers or not engine.hybrid_kv_cache:
        return 1, 0, model.layers
    fewer, more = sorted((model.full_layers, model.sliding_layers))
    size = more if more < fewer * rules.group_growth else fewer
    return -(-model.full_layers // size), -(-model.sliding_layers // size), size


def _block_size(model: Model, engine: Engine, rules: _Rules) -> int:
    if not rules.smallest_sliding_block or not model.sliding_layers:
        return engine.block_size
    on_cpu = engine.backends.attention.startswith("CPU")
    smallest = _SMALLEST_BLOCK_ON_CPU if on_cpu else _SMALLEST_BLOCK
    if not model.full_layers:
        return smallest
    if not engine.hybrid_kv_cache and not rules.promotes_block and engine.block_size != smallest:
        raise Refusal(
            f"vLLM {engine.release} does not start {model.name} with block-size"
            f" {engine.block_size} while disable-hybrid-kv-cache-manager is set;"
            f" set block-size to {smallest} or leave the hybrid manager on."
        )
    return engine.block_size


def _rules(release: str) -> _Rules:
    numbers = tuple(int(part) for part in release.partition("+")[0].split("."))
    for rules in _RULES:
        if numbers >= rules.since:
            return rules
    raise Refusal(
        f"vLLM {release} is older than {'.'.join(map(str, _RULES[-1].since))},"
        " the oldest release that the planner knows; choose a newer one."
    )
