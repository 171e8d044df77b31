# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a person's options and variables may be, and what a plan says of them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import configuration, example, given, settings
from hypothesis import strategies as some

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    display,
    gpus,
    models,
    options,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    settings as engine_settings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Gpu,
    Plan,
    Refusal,
)

# Hypothesis keeps notes; not in the checkout.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
CURRENT = "0.32.0"


def of(given_options: dict[str, Any], gpu: str = "h200", count: int = 1, **more: Any) -> Plan:
    release, intent = more.pop("release", CURRENT), more.pop("intent", "chat")
    there = gpus.gpu_set(gpu, count)
    return plan(there, more.pop("model", SMALL), intent, release, given_options, **more)


def why(found: Plan, flag: str) -> str:
    (row,) = [row for row in found.reasons if row.flag == flag]
    return row.why


# -- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_options", "said"),
    [
        ({"cudagraph-capture-sizes": ["a"]}, "cudagraph-capture-sizes is ['a']; it takes a list"),
        ({"cudagraph-capture-sizes": "1 2 4"}, "is '1 2 4'; it takes a list of whole numbers"),
        ({"cudagraph-capture-sizes": []}, "is []; it takes a list"),
        ({"cudagraph-capture-sizes": [0, 8]}, "is [0, 8]; it takes a list"),
        (
            {"compilation-config": {"cudagraph_capture_sizes": ["x"]}},
            "compilation-config.cudagraph_capture_sizes is ['x']",
        ),
        (
            {"compilation-config": {"max_cudagraph_capture_size": "8k"}},
            "compilation-config.max_cudagraph_capture_size is '8k'",
        ),
        (
            {"speculative-config": {"num_speculative_tokens": "three"}},
            "speculative-config.num_speculative_tokens is 'three'; it takes a whole number",
        ),
        (
            {"speculative-config.num_speculative_tokens": 0},
            "speculative-config.num_speculative_tokens is 0",
        ),
        (
            {"speculative-config": '{"num_speculative_tokens": 1.5}'},
            "num_speculative_tokens is 1.5",
        ),
        ({"speculative-config": {"method": 3}}, "speculative-config.method is 3; it takes a name"),
        ({"speculative-config": "{nothing"}, "speculative-config is no JSON"),
        ({"attention-config": {"backend": ["X"]}}, "attention-config.backend is ['X']"),
        ({"moe-backend": ["marlin"]}, "moe-backend is ['marlin']; it takes a name"),
        ({"gpu-memory-utilization": "nan"}, "is 'nan'; it must be above 0 and at most 1"),
        ({"gpu-memory-utilization": 10**400}, "it must be above 0 and at most 1"),
        ({"block-size": 17}, "is 17; the attention kernels take multiples of 16: give 32"),
        ({"kv-cache-memory-bytes": 2**63}, "the largest that vLLM holds is 9223372036854775807"),
        ({"max-model-len": "1e400k"}, "it takes a whole number from 1"),
        ({"kv-cache-dtype": ["fp8"]}, "kv-cache-dtype is ['fp8']; the planner knows auto"),
    ],
)
def test_a_value_that_cannot_be_is_refused(given_options: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        of(given_options)
    assert said in str(refusal.value)


def test_null_leaves_the_number_of_gpus_to_the_plan() -> None:
    for count in (1, 4):
        left = of({"tensor-parallel-size": None}, "h100-80", count, model=LARGE)
        assert left.flags == of({}, "h100-80", count, model=LARGE).flags


@pytest.mark.parametrize(
    ("given_value", "read"),
    [(["1", 2], [1, 2]), (8, [8]), ([1, 2, 4], [1, 2, 4])],
)
def test_capture_sizes_come_out_as_numbers(given_value: Any, read: list[int]) -> None:
    model = models.model(SMALL)
    found = options.read({"cudagraph-capture-sizes": given_value}, CURRENT, model)
    assert found == {"cudagraph-capture-sizes": read}
    assert of({"cudagraph-capture-sizes": given_value}).memory.cuda_graphs > 0


@pytest.mark.parametrize("empty", [None, {}, {"num_speculative_tokens": None, "method": None}])
def test_an_empty_drafter_is_none(empty: Any) -> None:
    assert of({"speculative-config": empty}).memory == of({}).memory


def test_an_attention_backend_in_json_counts() -> None:
    for given_options in (
        {"attention-config": {"backend": "FLASHINFER"}},
        {"attention-config": '{"backend": "FLASHINFER"}'},
        {"attention-config.backend": "FLASHINFER"},
    ):
        with pytest.raises(Refusal, match="FLASHINFER cannot do the attention sinks"):
            of(given_options, "l4")


# -- what is said --------------------------------------------------------------------------------


def test_a_kernel_that_our_own_variable_forces_is_not_vllm_s_choice() -> None:
    found = of({}, "h100-80", release="0.12.0")
    assert found.env["VLLM_MXFP4_USE_MARLIN"] == "1"
    said = "VLLM_MXFP4_USE_MARLIN asks for MARLIN; vLLM alone would take TRITON"
    assert why(found, "moe-backend").startswith(said)
    assert "chooses TRITON by itself" in why(of({}, "h100-80", release="0.13.0"), "moe-backend")


def test_an_attention_backend_that_a_person_asks_for_is_not_vllm_s_choice() -> None:
    said = "asks for TRITON_ATTN; vLLM alone would take FLASH_ATTN"
    by_variable = of({}, release="0.12.0", env={"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"})
    assert f"VLLM_ATTENTION_BACKEND {said}" in why(by_variable, "attention-backend")
    by_section = of({"attention-config": {"backend": "TRITON_ATTN"}})
    assert f"attention-config {said}" in why(by_section, "attention-backend")
    by_flag = of({"attention-backend": "TRITON_ATTN"})
    assert why(by_flag, "attention-backend") == "your option; vLLM alone would take FLASH_ATTN"


def test_async_scheduling_beside_a_drafter() -> None:
    ngram = {"speculative-config": {"method": "ngram", "num_speculative_tokens": 3}}
    assert why(of(ngram), "async-scheduling") == "vLLM leaves it off beside this drafter"
    eagle = {"speculative-config": {"method": "eagle3", "num_speculative_tokens": 3}}
    for given_options in (eagle, {}):
        assert why(of(given_options), "async-scheduling").startswith("on by default")


@pytest.mark.parametrize(
    ("given_options", "said"),
    [
        ({}, "graphs for every batch up to max-num-seqs, "),
        ({"max-num-seqs": 100}, "graphs for every batch up to max-num-seqs, "),
        ({"max-num-seqs": 1024}, "graphs for batches up to 512 of 1,024 tokens; larger ones run"),
        (
            {"max-num-seqs": 32, "speculative-config": {"num_speculative_tokens": 3}},
            "graphs for every batch up to max-num-seqs with 3 drafted tokens each, ",
        ),
        ({"max-num-seqs": None}, "graphs for batches up to 256 of 1,024 tokens; larger ones run"),
    ],
)
def test_graphs_are_for_the_batches_that_are_named(
    given_options: dict[str, Any], said: str
) -> None:
    assert why(of(given_options), "max-cudagraph-capture-size").startswith(said)


def test_no_step_is_short_without_chunked_prefill() -> None:
    found = of({"enable-chunked-prefill": False})
    assert "running requests wait for all of it" in why(found, "max-num-batched-tokens")
    assert "one step at most" not in str(found.reasons)


def test_utilization_is_only_a_check_beside_kv_bytes() -> None:
    said = why(of({"kv-cache-memory-bytes": "40G"}), "gpu-memory-utilization")
    assert said.startswith("a check on start only")
    assert "stay" not in said
    assert "stay out of it: 0.52 GiB for CUDA itself" in why(of({}), "gpu-memory-utilization")


def test_fp8_on_an_unknown_chip_is_not_called_unsound() -> None:
    (thor,) = gpus.gpu_set("gb10", 1)
    there = (replace(thor, name="NVIDIA Thor", capability=(11, 0)),)
    said = why(plan(there, SMALL, "chat", CURRENT), "kv-cache-dtype")
    assert "yours to try: nobody has shown" in said
    asked = plan(there, SMALL, "chat", CURRENT, {"kv-cache-dtype": "fp8"})
    assert asked.flags["kv-cache-dtype"] == "fp8"


@pytest.mark.parametrize(
    ("flag", "taken"),
    [
        ("max-num-seqs", "1024"),
        ("max-num-batched-tokens", "8192"),
        ("gpu-memory-utilization", "0.92"),
        ("async-scheduling", "true"),
    ],
)
def test_a_flag_that_is_left_to_vllm_says_what_it_takes(flag: str, taken: str) -> None:
    found = of({flag: None})
    assert why(found, flag) == f"your option: left to vLLM, which takes {taken}"
    assert flag not in found.flags


def test_several_gpus_are_explained_by_what_one_does_not_hold() -> None:
    split = of({}, "l4", 4, model=LARGE, intent="long_context")
    assert split.tensor_parallel_size > 1
    assert "the requests that long_context asks for" in why(split, "tensor-parallel-size")
    several = why(of({}, "h100-80", 4), "tensor-parallel-size")
    assert "4 independent replicas: NVIDIA's recipe" in several


@pytest.mark.parametrize(
    ("count", "size", "said"),
    [
        (3, 2, "GPU 2 stays idle: 3 GPUs do not divide by tensor-parallel-size 2."),
        (7, 4, "GPUs 4, 5 and 6 stay idle: 7 GPUs do not divide by tensor-parallel-size 4."),
    ],
)
def test_gpus_that_stay_idle_are_named(count: int, size: int, said: str) -> None:
    assert said in of({"tensor-parallel-size": size}, "h100-80", count).notes


@pytest.mark.parametrize("name", ["FOO_TOKEN", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"])
def test_no_value_of_a_person_s_variable_is_shown(name: str) -> None:
    value = "918273645"
    found = of({}, env={name: value})
    assert found.env[name] == value
    assert value not in display.plan_text("x", found)
    (row,) = [row for row in found.reasons if row.flag == name]
    assert (row.value, row.why) == ("(set)", "your variable")
    assert name not in found.flags


def test_a_screen_is_a_note_and_changes_nothing_else() -> None:
    there = gpus.gpu_set("rtx4090", 1)
    without = plan(there, SMALL, "chat", CURRENT)
    beside = plan((replace(there[0], display=True),), SMALL, "chat", CURRENT)
    assert beside.flags == without.flags
    assert set(beside.notes) - set(without.notes) == {
        "A screen is attached to GPU 0; the plan is the same without it."
    }


# -- connectors and overrides ---------------------------------------------------------------------


def joined(*names: str) -> dict[str, Any]:
    children = [{"kv_connector": name, "kv_role": "kv_both"} for name in names]
    return {
        "kv_connector": "MultiConnector",
        "kv_connector_extra_config": {"connectors": children},
    }


OFFLOADING = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}
LMCACHE = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}


@pytest.mark.parametrize(
    ("release", "transfer", "disabled", "hybrid"),
    [
        ("0.12.0", OFFLOADING, None, False),
        ("0.12.0", OFFLOADING, False, False),
        ("0.13.0", OFFLOADING, None, False),
        ("0.13.0", OFFLOADING, False, True),
        ("0.21.0", OFFLOADING, None, False),
        ("0.22.0", OFFLOADING, None, False),
        ("0.22.1", OFFLOADING, None, True),
        ("0.33.0", OFFLOADING, None, True),
        ("0.33.0", OFFLOADING, True, False),
        ("0.33.0", LMCACHE, None, False),
        ("0.29.0", {"kv_connector": "MoRIIOConnector"}, None, False),
        ("0.30.0", {"kv_connector": "MoRIIOConnector"}, None, True),
        ("0.33.0", joined("NixlConnector", "OffloadingConnector"), None, True),
        ("0.33.0", joined("NixlConnector", "LMCacheConnectorV1"), None, False),
        ("0.33.0", joined(), None, None),
        ("0.33.0", {"kv_connector": "Mine"}, None, None),
        ("0.33.0", OFFLOADING | {"kv_connector_module_path": "mine.connector"}, None, None),
        ("0.33.0", {"kv_connector": "Mine"}, True, False),
        ("0.33.0", {}, None, True),
    ],
)
def test_a_connector_decides_about_the_hybrid_cache(
    release: str, transfer: dict[str, Any], disabled: bool | None, hybrid: bool | None
) -> None:
    flags = {"kv-transfer-config": transfer, "disable-hybrid-kv-cache-manager": disabled}
    assert engine_settings.has_hybrid_cache(flags, release) is hybrid


@pytest.mark.parametrize(("release", "less"), [("0.21.0", True), ("0.23.0", False)])
def test_a_connector_costs_tokens_only_where_it_ends_the_hybrid_cache(
    release: str, less: bool
) -> None:
    plain = of({"max-num-seqs": 64}, release=release)
    beside = of({"max-num-seqs": 64, "kv-transfer-config": OFFLOADING}, release=release)
    assert (beside.kv_cache.tokens < plain.kv_cache.tokens) is less


def test_an_unknown_connector_matters_to_hybrid_models_only() -> None:
    options = {"kv-transfer-config": {"kv_connector": "Mine", "kv_role": "kv_both"}}
    with pytest.raises(Refusal, match="names a connector of which the planner does not know"):
        of(options)
    assert of(options | {"disable-hybrid-kv-cache-manager": True})
    assert plan(gpus.gpu_set("h100-80", 1), "Qwen/Qwen3-8B", "chat", CURRENT, options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hf-overrides": {"max_position_embeddings": 4096}}, "change the config.json in the mod"),
        ({"hf_overrides": '{"a": 1}'}, "which cannot be planned: it changes the model"),
        ({"hf-overrides.rope_scaling": {"factor": 2}}, "change the config.json in the model's"),
        ({"hf-config-path": "/elsewhere"}, "put that file into the model's directory"),
        ({"kv-offloading-size": 10}, "name the connector in kv-transfer-config instead"),
    ],
)
def test_what_changes_the_model_is_not_planned(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        of(options)


def test_overrides_of_nothing_change_nothing() -> None:
    assert of({"hf-overrides": {}}).kv_cache == of({}).kv_cache


# -- nothing but a plan or a refusal -------------------------------------------------------------

EFFECTIVE = (
    "async-scheduling", "attention-backend", "attention-config", "attention-config.backend",
    "block-size", "compilation-config", "compilation-config.cudagraph_capture_sizes",
    "compilation-config.cudagraph_mode", "compilation-config.max_cudagraph_capture_size",
    "cpu-offload-gb", "cuda-graph-sizes", "cudagraph-capture-sizes", "data-parallel-size",
    "disable-hybrid-kv-cache-manager", "dtype", "enable-chunked-prefill",
    "enable-expert-parallel", "enable-lora", "enforce-eager", "gpu-memory-utilization",
    "hf-overrides", "kv-offloading-size",
    "kv-cache-dtype", "kv-cache-memory-bytes", "kv-transfer-config",
    "max-cudagraph-capture-size", "max-model-len", "max-num-batched-tokens", "max-num-seqs",
    "max_num_seqs", "moe-backend", "no-async-scheduling", "optimization-level",
    "performance-mode", "pipeline-parallel-size", "quantization", "spec-method", "spec-model",
    "spec-tokens", "speculative-config", "speculative-config.method",
    "speculative-config.num_speculative_tokens", "tensor-parallel-size",
)  # fmt: skip
KEYS = some.sampled_from(
    (
        "kv_connector", "kv_connector_extra_config", "connectors",
        "backend", "cudagraph_capture_sizes", "cudagraph_mode", "max_cudagraph_capture_size",
        "method", "model", "num_speculative_tokens", "a",
    )
)  # fmt: skip
LEAVES = (
    some.none()
    | some.booleans()
    | some.integers()
    | some.integers(min_value=-2, max_value=9000)
    | some.floats()
    | some.sampled_from(["", "auto", "-1", "8k", "infk", "1.5M", "fp8", "mxfp4", "nan", "{}"])
    | some.sampled_from(["ngram", "eagle3", "FLASH_ATTN", "marlin", "throughput", "float16"])
    | some.text(max_size=4)
)
JSON = some.recursive(
    LEAVES,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
OPTIONS = some.dictionaries(some.sampled_from(EFFECTIVE), JSON, min_size=1, max_size=3)
PLACES = some.sampled_from([("l4", 1), ("h100-80", 1), ("h200", 2), ("b200", 1), ("gb10", 1)])
RELEASES = some.sampled_from(["0.10.1", "0.12.0", "0.20.1", "0.26.0", CURRENT, "0.33.0"])
MODELS = some.sampled_from([SMALL, LARGE, "Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B"])


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@example({"tensor-parallel-size": None}, ("h200", 2), CURRENT, SMALL)
@example({"speculative-config": {"num_speculative_tokens": None}}, ("l4", 1), "0.26.0", SMALL)
@example({"spec-tokens": None}, ("l4", 1), CURRENT, SMALL)
@given(OPTIONS, PLACES, RELEASES, MODELS)
def test_any_options_are_a_plan_or_a_refusal(
    given_options: dict[str, Any], place: tuple[str, int], release: str, model: str
) -> None:
    there: tuple[Gpu, ...] = gpus.gpu_set(*place)
    try:
        found = plan(there, model, "chat", release, given_options)
    except Refusal as refusal:
        assert str(refusal).endswith((".", "?"))
    else:
        assert found.memory.requested <= found.memory.total < 1000 * GIB
        assert display.plan_text("x", found)
