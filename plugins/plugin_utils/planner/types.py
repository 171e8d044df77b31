# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the planner's parts hand to one another. Sizes are bytes unless a name says GiB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GIB = 1 << 30


class Refusal(ValueError):  # noqa: N818 - an answer of the planner rather than a failure of it
    """No plan is possible; the message is one sentence with the arithmetic and the way out.

    :param memory: of the plan that came nearest, where there is one.
    :param restart_kv_bytes: of the same plan, as in :class:`Plan`.
    """

    def __init__(
        self, sentence: str, memory: Memory | None = None, restart_kv_bytes: int = 0
    ) -> None:
        super().__init__(sentence)
        self.memory = memory
        self.restart_kv_bytes = restart_kv_bytes


@dataclass(frozen=True)
class Gpu:
    """One device (or MIG slice) that a plan may use.

    :param name: as the driver says it: ``NVIDIA H200``.
    :param memory_bytes: what CUDA lets a process see: NVML's total less its reserved part.
    :param foreign_bytes: memory held by processes that are not ours.
    :param nvlink_peers: UUIDs of the GPUs it has NVLink to, directly or by a switch.
    :param display: whether a screen is attached to it.
    :param holders: the processes behind ``foreign_bytes``: ``python3 (pid 4711)``.
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    index: int = 0
    uuid: str = ""
    pci_bus_id: str = ""
    numa_node: int | None = None
    nvlink_peers: frozenset[str] = frozenset()
    foreign_bytes: int = 0
    display: bool = False
    mig_enabled: bool = False
    mig_slice: bool = False
    holders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """The shape of a model, as far as memory and flags depend on it.

    :param name: Hugging Face id or directory.
    :param architecture: first entry of ``architectures``: ``GptOssForCausalLM``.
    :param sliding_layers: layers whose attention sees ``sliding_window`` tokens only.
    :param full_layers: layers whose attention sees everything.
    :param quantization: ``mxfp4``, ``fp8``, ``awq``, ``gptq`` ... or empty.
    :param dtype_bytes: bytes of an unquantized weight and of an activation.
    :param checkpoint_bytes: what serving needs on disk.
    :param expert_bytes: the part of ``checkpoint_bytes`` that is in experts.
    :param embedding_bytes: the part in input embedding and output head.
    :param weight_block: rows or columns, the larger, of the blocks of weights that share a scale,
        which tensor parallelism must not cut.
    """

    name: str
    architecture: str
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    full_layers: int
    sliding_layers: int
    sliding_window: int
    vocabulary: int
    max_model_len: int
    experts: int
    experts_per_token: int
    quantization: str
    dtype_bytes: int
    checkpoint_bytes: int
    expert_bytes: int
    embedding_bytes: int
    attention_sinks: bool = False
    tool_call_parser: str = ""
    reasoning_parser: str = ""
    weight_block: int = 1

    @property
    def layers(self) -> int:
        return self.full_layers + self.sliding_layers


@dataclass(frozen=True)
class Backends:
    """The kernels that vLLM will use, under its own names."""

    attention: str  # FLASH_ATTN, TRITON_ATTN, FLASHINFER
    moe: str  # MARLIN, TRITON, FLASHINFER_TRTLLM ...; empty for a dense model
    sampler: str  # torch, triton, flashinfer
    model_runner: str = "v1"  # v1, v2


@dataclass(frozen=True)
class Engine:
    """Every setting of one engine that memory and KV cache depend on, with no default left open.

    :param max_capture_size: largest batch with a CUDA graph; 0 with enforce-eager.
    :param kv_bytes_each: bytes of one cached number: 2 for bf16, 1 for fp8.
    :param hybrid_kv_cache: whether sliding layers free what left their window.
    :param estimate_cuda_graphs: whether vLLM deducts graphs before it sizes the KV cache; None
        for the release's own default (``VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS``).
    """

    release: str
    tensor_parallel: int
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    max_capture_size: int
    kv_bytes_each: int
    block_size: int
    async_scheduling: bool
    hybrid_kv_cache: bool
    backends: Backends
    capability: tuple[int, int]
    estimate_cuda_graphs: bool | None = None


@dataclass(frozen=True)
class Memory:
    """Where the memory of one GPU goes, in bytes.

    :param requested: total x gpu-memory-utilization.
    :param activation: peak of the profiling run.
    :param cuda_graphs: what captured graphs hold afterwards.
    :param cuda_graphs_reserved: the part of it that vLLM deducts beforehand (0 before 0.20).
    :param other: outside PyTorch's allocator, as vLLM's profiling finds it: workspaces, kernels.
    :param kv: what is left for the KV cache; negative where there is none.
    :param outside: beyond ``requested``: CUDA context and NCCL's buffers, which vLLM never counts.
    """

    total: int
    requested: int
    weights: int
    activation: int
    cuda_graphs: int
    cuda_graphs_reserved: int
    other: int
    kv: int
    outside: int = 0


@dataclass(frozen=True)
class KvCache:
    """What a number of bytes holds.

    :param blocks: blocks that vLLM allocates.
    :param tokens: as vLLM prints it: ``GPU KV cache size``.
    :param concurrency: as vLLM prints it: ``Maximum concurrency for N tokens per request``.
    :param needed_bytes: the least for one request of ``max_model_len``; vLLM does not start below.
    """

    blocks: int
    tokens: int
    concurrency: float
    needed_bytes: int


@dataclass(frozen=True)
class Reason:
    """One row of the printed table. ``value`` None: a flag that is left out on purpose."""

    flag: str
    value: Any
    why: str


@dataclass(frozen=True)
class Plan:
    """How one instance runs on one host; ``devices`` has a list of UUIDs for each replica.

    :param memory: of a first start, which has to compile.
    :param restart_kv_bytes: KV cache of a start that finds torch.compile's cache.
    """

    flags: Mapping[str, Any]
    env: Mapping[str, str]
    tensor_parallel_size: int
    replicas: int
    devices: tuple[tuple[str, ...], ...]
    memory: Memory
    kv_cache: KvCache
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...] = field(default=())
    restart_kv_bytes: int = 0
