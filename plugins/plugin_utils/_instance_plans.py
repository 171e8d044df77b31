# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The plan of every instance of a host: facts and instances in, flags and sentences out.

What is planned depends on the inventory and the hardware alone, never on what runs or how much
memory is free now: a second run must find the same plan. What others hold on a GPU is a sentence
beside the plan, and whoever starts the instance heeds it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import catalogue, normalise
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    HostPlans,
    gpu_devices,
    is_local,
    is_present,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import models, options
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.kv_cache import kv_cache
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Backends,
    Engine,
    Gpu,
    Model,
    Plan,
    Refusal,
)

Instance = Mapping[str, Any]

# Of vLLM's CPU engine: vllm/platforms/cpu.py (block size), vllm/engine/arg_utils.py,
# get_batch_defaults (tokens of a batch), 0.26.0 to 0.33.0.
_CPU_BLOCK_SIZE = 128
_CPU_BATCHED_TOKENS = 2048
_CPU_SEQUENCES = 256
_CPU_KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"  # GiB

_UTILIZATION = "gpu-memory-utilization"
# Stands for the value of a person's variable: it may be a secret under a name that nobody knows.
_NOT_SHOWN = "(not shown)"

# The plan of an instance of which nothing is known.
EMPTY_PLAN: Mapping[str, Any] = {
    "flags": {},
    "env": {},
    "tensor_parallel_size": 1,
    "replicas": 1,
    "memory_gib": None,
    "kv_tokens": None,
    "max_concurrency": None,
    "reasons": [],
}


@dataclass(frozen=True)
class Host:
    """What planning needs to know of a host.

    :param gpu_info: facts of the module gpu_info; None where no instance wants a GPU.
    :param model_configs: directory -> ``config`` and ``checkpoint_bytes``, as host_state has them.
    :param cdi_devices: qualified names of the host's CDI specifications.
    :param own_containers: ids of the containers of this collection's instances.
    :param numa_cpus: NUMA node -> its processors, as the kernel lists them (``0-31,64-95``).
    """

    gpu_info: Mapping[str, Any] | None = None
    model_configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cdi_devices: Sequence[str] = ()
    own_containers: Collection[str] = ()
    numa_cpus: Mapping[str, str] = field(default_factory=dict)


def plan_on(
    state: Mapping[str, Any],
    instances: Sequence[Instance],
    gpu_info: Mapping[str, Any] | None,
    release: str,
    shutdown_timeout: int,
) -> HostPlans:
    """Plan the instances of the host that ``state`` and ``gpu_info`` (a fact) describe."""
    containers = (state.get("containers") or {}).values()
    host = Host(
        gpu_info=gpu_info,
        model_configs=state.get("model_configs") or {},
        cdi_devices=state.get("cdi_devices") or [],
        own_containers=frozenset(each["id"] for each in containers if each),
        numa_cpus=state.get("numa_cpus") or {},
    )
    return plan_instances(instances, host, release, shutdown_timeout)


def plan_instances(
    instances: Iterable[Instance], host: Host, release: str, shutdown_timeout: int = 60
) -> HostPlans:
    """Plan every instance that is present.

    :param release: vLLM release.
    :param shutdown_timeout: seconds that running requests get when an engine is stopped.
    """
    found = HostPlans()
    present = [instance for instance in instances if is_present(instance)]
    on_gpus = [each for each in present if _wants_gpus(each)]
    shares, spare = _assign(on_gpus, host, found)
    for instance in present:
        name = instance["name"]
        if _wants_gpus(instance) and name not in shares:
            continue  # told in problems
        try:
            model = model_of(instance["model"], host.model_configs)
        except Refusal as unknown:
            found.plans[name] = _without_model(shares.get(name), host)
            if _wants_gpus(instance):
                found.notes.append(f"vllm_instances ({name}) is not planned: {unknown}")
            continue
        if not _wants_gpus(instance):
            found.plans[name] = cpu_plan(instance, model, release)
            continue
        question = _Question(instance, shares[name], model, release, shutdown_timeout, spare)
        try:
            found.planned[name] = without_values(question.plan(), instance.get("env", {}))
        except Refusal as refusal:
            found.problems.append(f"vllm_instances ({name}): {refusal}")
            continue
        found.plans[name] = _written(question, found.planned[name], host)
    return found


def _wants_gpus(instance: Instance) -> bool:
    return bool(gpu_devices(instance.get("gpus", "all")))


def _without_model(share: Sequence[Gpu] | None, host: Host) -> dict[str, Any]:
    """vLLM's own defaults, on the GPUs that are asked for."""
    uuids = [gpu.uuid for gpu in share or ()]
    devices = [_cdi_names(uuids, share, host)] if share else None
    return {**EMPTY_PLAN, "devices": devices, "in_use": ""}


def _written(question: _Question, planned: Plan, host: Host) -> dict[str, Any]:
    _gpu_catalogue, plan = _for_gpus()
    return {
        **plan.as_json(planned),
        "devices": [_cdi_names(uuids, question.gpus, host) for uuids in planned.devices],
        "cpusets": [_cpuset(uuids, question.gpus, host) for uuids in planned.devices],
        "in_use": question.in_use(planned),
    }


def _cpuset(uuids: Sequence[str], gpus: Sequence[Gpu], host: Host) -> dict[str, str] | None:
    """Processors and memory near a replica's GPUs, None where there is no choice or no one node."""
    nodes = {gpu.numa_node for gpu in gpus if gpu.uuid in uuids}
    node = str(nodes.pop()) if len(nodes) == 1 else ""
    if len(host.numa_cpus) < 2 or not host.numa_cpus.get(node):
        return None
    return {"cpus": host.numa_cpus[node], "mems": node}


def without_values(planned: Plan, env: Iterable[str]) -> Plan:
    """A plan to print and to write down: without the values of the variables that ``env`` names.

    The engine has them from its instance, not from its plan.
    """
    own = set(env)
    return dataclasses.replace(
        planned,
        env={name: value for name, value in planned.env.items() if name not in own},
        reasons=tuple(
            dataclasses.replace(row, value=_NOT_SHOWN) if row.flag in own else row
            for row in planned.reasons
        ),
    )


def unplanned(instance: Instance, release: str) -> dict[str, Any]:
    """What is known of an instance without its host: the parsers of a model of the catalogue."""
    try:
        return cpu_plan(instance, model_of(instance["model"], {}), release) | {"devices": None}
    except Refusal:
        return {**EMPTY_PLAN, "devices": None, "in_use": ""}


def model_of(name: str, configs: Mapping[str, Mapping[str, Any]]) -> Model:
    """The model of an instance, from the catalogue or from its directory's ``config.json``.

    :raises Refusal: neither tells its shape, or the planner cannot plan its kind.
    """
    identifier, _at, _revision = name.partition("@")
    if not is_local(name):
        return models.model(identifier)
    found = configs.get(name) or {}
    if not found.get("config"):
        raise Refusal(f"{name} has no config.json that can be read, so its shape is not known.")
    return models.from_config(name, found["config"], found.get("checkpoint_bytes") or None)


@dataclass(frozen=True)
class _Question:
    """What is asked of the planner for one instance.

    :param spare: the host's GPUs that no instance has.
    """

    instance: Instance
    gpus: Sequence[Gpu]
    model: Model
    release: str
    shutdown_timeout: int
    spare: Sequence[Gpu] = ()

    def plan(
        self, gpus: Sequence[Gpu] | None = None, options: Mapping[str, Any] | None = None
    ) -> Plan:
        """Plan as if nobody else held memory.

        :param gpus: others than the instance's own.
        :param options: further ones.
        :raises Refusal: there is no plan.
        """
        idle = [dataclasses.replace(gpu, foreign_bytes=0) for gpu in gpus or self.gpus]
        _gpu_catalogue, plan = _for_gpus()
        length = self.instance.get("max_model_len", "auto")
        planned: Plan = plan.plan(
            tuple(idle),
            self.model,
            self.instance.get("intent", "chat"),
            self.release,
            normalise(self.instance.get("options", {})) | dict(options or {}),
            max_model_len=length if length == "auto" else int(length),
            env={name: str(value) for name, value in self.instance.get("env", {}).items()},
            shutdown_timeout=self.shutdown_timeout,
        )
        return planned

    def in_use(self, planned: Plan) -> str:
        """Why the plan does not fit beside what others hold now; empty where it does."""
        short = _without_room(planned, self.gpus)
        if not short:
            return ""
        worst = min(short, key=lambda gpu: gpu.memory_bytes - gpu.foreign_bytes)
        ways = [
            self._elsewhere(planned),
            self._with_less(planned, worst),
            "end what holds them (`nvidia-smi` lists it).",
        ]
        return (
            f"vllm_instances ({self.instance['name']}) needs {_needed(planned) / GIB:.2f} GiB of"
            f" GPU {worst.index}, where {worst.foreign_bytes / GIB:.2f} of"
            f" {worst.memory_bytes / GIB:.2f} GiB are held by"
            f" {', '.join(worst.holders) or 'others'}; {', or '.join(filter(None, ways))}"
        )

    def _elsewhere(self, planned: Plan) -> str:
        """The GPUs that would do, where enough of the host's are free."""
        there = (*self.gpus, *self.spare)
        short = {gpu.uuid for gpu in _without_room(planned, there, every=True)}
        fine = [gpu for gpu in there if gpu.uuid not in short]
        if len(fine) < len(self.gpus):
            return ""
        chosen = _nearest(fine, len(self.gpus))
        if not self._fits(chosen, {}):
            return ""
        names = ", ".join(gpu.uuid if gpu.mig_slice else str(gpu.index) for gpu in chosen)
        return f"set gpus: [{names}]"

    def _with_less(self, planned: Plan, gpu: Gpu) -> str:
        """The utilization with which it would run beside the others, where there is one."""
        beyond = _needed(planned) - planned.memory.requested
        room = gpu.memory_bytes - gpu.foreign_bytes - beyond
        share = math.floor(100 * room / gpu.memory_bytes) / 100
        if share <= 0 or not self._fits(self.gpus, {_UTILIZATION: share}):
            return ""
        return f"set {_UTILIZATION}: {share} in its options"

    def _fits(self, gpus: Sequence[Gpu], options: Mapping[str, Any]) -> bool:
        try:
            return not _without_room(self.plan(gpus, options), gpus)
        except Refusal:
            return False


def _needed(planned: Plan) -> int:
    """Bytes of one GPU that an engine needs to start and to serve.

    vLLM does not start without ``requested`` being free beside its context, whatever it will use;
    CUDA graphs may come on top later.
    """
    from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.memory import outside_bytes

    parts = planned.memory
    held = parts.weights + parts.activation + parts.cuda_graphs + parts.other + parts.kv
    return max(parts.requested, held) + outside_bytes(planned.tensor_parallel_size)


def _without_room(planned: Plan, gpus: Iterable[Gpu], every: bool = False) -> list[Gpu]:
    """Those that the plan uses and that others leave too little of.

    :param every: as if the plan used all of ``gpus``.
    """
    used = {uuid for replica in planned.devices for uuid in replica}
    needed = _needed(planned)
    return [
        gpu
        for gpu in gpus
        if (every or gpu.uuid in used)
        and gpu.foreign_bytes
        and needed > gpu.memory_bytes - gpu.foreign_bytes
    ]


def _for_gpus() -> tuple[ModuleType, ModuleType]:
    """The planner's modules for GPUs.

    Ansible compiles the code of a collection anew in every worker: a host without GPUs does not pay
    for what it does not need.
    """
    from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import gpus, plan

    return gpus, plan


# -- GPUs for instances --------------------------------------------------------------------------


def _assign(
    instances: Sequence[Instance], host: Host, found: HostPlans
) -> tuple[dict[str, tuple[Gpu, ...]], tuple[Gpu, ...]]:
    """Instance -> its GPUs, and those that none has.

    Lists come first, then counts take what is left, then ``all``.
    """
    if not instances or host.gpu_info is None:
        return {}, ()
    gpu_catalogue, _plan_module = _for_gpus()
    try:
        there = gpu_catalogue.from_facts(host.gpu_info, host.own_containers)
    except Refusal as refusal:
        found.problems.append(f"has GPUs that cannot be used: {refusal}")
        return {}, ()
    shares: dict[str, tuple[Gpu, ...]] = {}
    users: dict[str, list[Instance]] = {gpu.uuid: [] for gpu in there}
    for instance in sorted(instances, key=lambda each: _exactness(each.get("gpus", "all"))):
        name = instance["name"]
        free = [gpu for gpu in there if not users[gpu.uuid]]
        share, problem = _share(instance.get("gpus", "all"), there, free)
        problem = problem or next(
            filter(None, (_crowd(users[g.uuid], instance) for g in share)), ""
        )
        if problem:
            found.problems.append(f"vllm_instances ({name}) {problem}")
            continue
        shares[name] = tuple(share)
        for gpu in share:
            users[gpu.uuid].append(instance)
    return shares, tuple(gpu for gpu in there if not users[gpu.uuid])


def _crowd(others: Sequence[Instance], instance: Instance) -> str:
    """What keeps ``instance`` from a GPU that ``others`` use."""
    if not others:
        return ""
    names = ", ".join(other["name"] for other in others)
    shares = [_utilization(each) for each in (*others, instance)]
    if None in shares:
        return (
            f"shares a GPU with {names}; give each its own gpus, or each a gpu-memory-utilization"
            " in its options."
        )
    total = sum(share for share in shares if share is not None)
    if total > 1:
        return (
            f"shares a GPU with {names}, and their gpu-memory-utilization adds up to {total:g};"
            " the sum must be at most 1."
        )
    return ""


def _utilization(instance: Instance) -> float | None:
    """The part of a GPU that an instance limits itself to; None where it does not."""
    given = normalise(instance.get("options", {})).get(_UTILIZATION)
    return None if given is None else float(given)


def _exactness(wanted: Any) -> int:
    if isinstance(wanted, list):
        return 0
    return 2 if wanted == "all" else 1


def _share(wanted: Any, there: Sequence[Gpu], free: Sequence[Gpu]) -> tuple[list[Gpu], str]:
    """The GPUs that ``gpus`` asks for, or what keeps it from them."""
    if wanted == "all":
        return list(there), "" if there else "wants all GPUs, and there is none that can be used."
    if isinstance(wanted, list):
        known = {str(gpu.index): gpu for gpu in there if not gpu.mig_slice}
        known |= {gpu.uuid: gpu for gpu in there}
        missing = [str(each) for each in wanted if str(each) not in known]
        if missing:
            names = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in there)
            return [], f"wants GPUs {', '.join(missing)}; there are {names}."
        return [known[str(each)] for each in wanted], ""
    count = int(wanted)
    if count > len(free):
        return [], (
            f"wants {count} GPUs; {len(free)} of the host's {len(there)} are left for it, ask for"
            " fewer or move an instance to another host."
        )
    return _nearest(free, count), ""


def _nearest(gpus: Sequence[Gpu], count: int) -> list[Gpu]:
    """So many GPUs that work well together: NVLink first, then one NUMA node, then the index."""
    from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import devices

    groups, _idle = devices.assign(gpus, count, 1)
    return list(groups[0])


def _cdi_names(uuids: Sequence[str], gpus: Sequence[Gpu], host: Host) -> list[str]:
    """UUIDs, or indices where the host's CDI specification has no UUIDs.

    A slice (MIG) has no index of its own: that of its GPU would be all of it.
    """
    named = {device.partition("=")[2] for device in host.cdi_devices}
    index = {gpu.uuid: str(gpu.index) for gpu in gpus if not gpu.mig_slice}
    return [
        index[uuid] if uuid not in named and index.get(uuid) in named else uuid for uuid in uuids
    ]


# -- the CPU engine ------------------------------------------------------------------------------


def cpu_plan(instance: Instance, model: Model, release: str) -> dict[str, Any]:
    """The plan of an instance without GPU: parsers, and KV cache where its bytes are given."""
    flags: dict[str, Any] = {}
    if model.tool_call_parser:
        flags = {"enable-auto-tool-choice": True, "tool-call-parser": model.tool_call_parser}
    flags = {name: value for name, value in flags.items() if catalogue().has_flag(name, release)}
    given = instance.get("options", {})
    planned = {**EMPTY_PLAN, "flags": flags | normalise(given), "devices": [[]], "in_use": ""}
    try:
        read = options.read(given, release, model)
    except Refusal:
        return planned  # an option whose effect on the figures is not known
    asked = {name: value for name, value in read.items() if value is not None}
    kv_bytes = _cpu_kv_bytes(asked, instance.get("env", {}))
    if kv_bytes is None or any(name in asked for name in _UNPREDICTED):
        return planned
    length = instance.get("max_model_len", "auto")
    engine = _cpu_engine(asked, model, release, None if length == "auto" else int(length))
    cache = kv_cache(model, engine, kv_bytes)
    return planned | {
        "memory_gib": dict.fromkeys(("total", "weights", "activation", "cuda_graphs", "other"))
        | dict.fromkeys(("kv", "kv_restart"), round(kv_bytes / GIB, 3)),
        "kv_tokens": cache.tokens,
        "max_concurrency": round(cache.concurrency, 2),
    }


# With these the KV cache of a CPU engine is another one.
_UNPREDICTED = ("speculative-config", "kv-transfer-config", "tensor-parallel-size")


def _cpu_kv_bytes(asked: Mapping[str, Any], env: Mapping[str, Any]) -> int | None:
    """Bytes that a person gives the KV cache; without, vLLM takes a part of the host's memory."""
    given = asked.get("kv-cache-memory-bytes")
    if given is not None:
        return int(given)
    space = str(env.get(_CPU_KV_SPACE, ""))
    return int(space) * GIB if space.isdigit() and int(space) else None


def _cpu_engine(
    asked: Mapping[str, Any], model: Model, release: str, max_model_len: int | None
) -> Engine:
    fp8 = str(asked.get("kv-cache-dtype", "auto")).startswith("fp8")
    return Engine(
        release=release,
        tensor_parallel=1,
        max_model_len=max_model_len or int(asked.get("max-model-len", model.max_model_len)),
        max_num_batched_tokens=int(asked.get("max-num-batched-tokens", _CPU_BATCHED_TOKENS)),
        max_num_seqs=int(asked.get("max-num-seqs", _CPU_SEQUENCES)),
        max_capture_size=0,
        kv_bytes_each=1 if fp8 else model.dtype_bytes,
        block_size=int(asked.get("block-size", _CPU_BLOCK_SIZE)),
        async_scheduling=False,  # vllm/platforms/cpu.py turns it off
        hybrid_kv_cache=asked.get("disable-hybrid-kv-cache-manager") is not True,
        backends=Backends(attention="CPU_ATTN", moe="", sampler="torch"),
        capability=(0, 0),
    )
