# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _flags as flags

NOW = "0.32.0"


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("0.32.0", ""),
        ("0.11.1", ""),
        ("0.33.0", ""),
        ("0.11.0", "known releases are 0.11.1 to 0.33.0"),
        ("0.32", "did you mean 0.32.0?"),
        ("latest", "known releases are 0.11.1 to 0.33.0; set the one inside vllm_image."),
    ],
)
def test_releases_that_can_be_run(release: str, said: str) -> None:
    problem = flags.check_release(release)
    assert said in problem
    assert bool(problem) is bool(said)


@pytest.mark.parametrize(
    ("release", "option", "value"),
    [
        (NOW, "max-num-seqs", 256),
        (NOW, "max_num_seqs", "256"),
        (NOW, "max-num-batched-tokens", "8k"),
        (NOW, "gpu-memory-utilization", 0.9),
        (NOW, "gpu-memory-utilization", "0.9"),
        (NOW, "gpu-memory-utilization", 1),
        (NOW, "enable-prefix-caching", False),
        (NOW, "no-enable-prefix-caching", True),
        (NOW, "kv-cache-dtype", "fp8"),
        (NOW, "dtype", "bfloat16"),
        (NOW, "max-lora-rank", 16),
        (NOW, "compilation-config", {"level": 3}),
        (NOW, "compilation-config", '{"level": 3}'),
        (NOW, "speculative-config.num_speculative_tokens", 3),
        (NOW, "cudagraph-capture-sizes", [1, 2, 4]),
        (NOW, "allowed-origins", "https://a.example"),
        (NOW, "tool-call-parser", None),
        (NOW, "moe-backend", "triton"),
        ("0.17.1", "swap-space", 6),
        ("0.33.0", "watchdog-config", {}),
    ],
)
def test_options_that_a_release_takes(release: str, option: str, value: Any) -> None:
    assert flags.check_options({option: value}, release) == {}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("max-num-sqs", 3, "is no flag of vLLM 0.32.0; did you mean max-num-seqs?"),
        ("wibble", 3, "is no flag of vLLM 0.32.0; see `vllm serve --help=all`."),
        ("swap-space", 4, "is no flag of vLLM 0.32.0: it was removed in 0.18.0; leave it out."),
        (
            "disable-log-requests",
            True,
            "it was removed in 0.17.0; did you mean enable-log-requests?",
        ),
        ("watchdog-config", {}, "is no flag of vLLM 0.32.0: it came with 0.33.0; leave it out."),
        ("--max-num-seqs", 3, "must be written without leading dashes."),
        ("max-num-seqs", "many", "is 'many'; it takes a whole number."),
        ("max-num-seqs", True, "is True; it takes a whole number."),
        ("max-num-seqs", [1], "is a list; it takes a whole number."),
        ("gpu-memory-utilization", "much", "is 'much'; it takes a number."),
        ("enable-prefix-caching", "no", "is 'no'; it takes true or false (without quotes)."),
        ("no-enable-prefix-caching", False, "write `enable-prefix-caching: true` or"),
        ("no-max-num-seqs", True, "negates --max-num-seqs, which is no switch; give max-num-seqs"),
        ("compilation-config", 3, "is 3; it takes a dictionary."),
        ("compilation-config", "level=3", "it takes a dictionary."),
        (
            "max-num-seqs.x",
            3,
            "has no keys: --max-num-seqs takes a whole number, not a dictionary.",
        ),
        ("tool-call-parser", {"a": 1}, "is a dictionary; it takes a string."),
        ("dtype", "fp9", "is 'fp9'; allowed are auto, bfloat16, float, float16, float32, half."),
        ("max-lora-rank", 17, "is '17'; allowed are 1, 8, 16, 32, 64, 128, 256, 320, 512."),
    ],
)
def test_options_that_it_does_not_take(option: str, value: Any, said: str) -> None:
    assert said in flags.check_options({option: value}, NOW)[option]


@pytest.mark.parametrize(("flag", "instead"), flags.OWNED_FLAGS.items())
def test_flags_of_the_collection_say_what_to_use_instead(flag: str, instead: str) -> None:
    said = flags.check_options({flag: "x"}, NOW)[flag]
    assert said == f"is set by the collection; leave it out and {instead}."


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("max-num-seqs", "max_num_seqs"),
        ("enable-prefix-caching", "no-enable-prefix-caching"),
    ],
)
def test_one_flag_cannot_be_said_twice(first: str, second: str) -> None:
    value = True if "prefix" in first else 3
    said = flags.check_options({first: value, second: value}, NOW)
    assert said == {second: f"says the same flag as {first}; keep one of them."}


def test_options_are_brought_to_the_names_of_vllm() -> None:
    given = {
        "max_num_seqs": 3,
        "no-enable-prefix-caching": True,
        "speculative_config.num_speculative_tokens": 2,
    }
    assert flags.normalise(given) == {
        "max-num-seqs": 3,
        "enable-prefix-caching": False,
        "speculative-config.num_speculative_tokens": 2,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_LOGGING_LEVEL", "DEBUG"),
        ("VLLM_CPU_KVCACHE_SPACE", 1),
        ("NCCL_DEBUG", "INFO"),
        ("VLLM_SOME_PLUGIN_SWITCH", "1"),
    ],
)
def test_environment_that_a_release_reads(name: str, value: Any) -> None:
    assert flags.check_environment({name: value}, NOW) == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("a b", "1", "is no variable name; letters, digits and underscores, not a digit first."),
        ("1A", "1", "is no variable name"),
        ("VLLM_API_KEY", "hunter2", "is a secret; set vllm_api_key instead"),
        ("HF_TOKEN", "hunter2", "is a secret; set model_store_token instead"),
        ("HUGGING_FACE_HUB_TOKEN", "hunter2", "is a secret; set model_store_token instead"),
        ("CUDA_VISIBLE_DEVICES", "1", "is set by the collection; leave it out and set the instan"),
        ("NVIDIA_VISIBLE_DEVICES", "all", "leave it out and set the instance's gpus."),
        ("NCCL_DEBUG", True, "must be a string or a number; write '1' or '0' for a switch."),
        ("NCCL_DEBUG", ["hunter2"], "must be a string or a number"),
        ("NCCL_DEBUG", "hunter2\nX=1", "must be one line"),
        ("VLLM_USE_V1", "1", "is not read by vLLM 0.32.0: it was removed in 0.11.1; leave it out."),
        ("VLLM_HTTP_MAX_REQUEST_BODY_SIZE", "1", "it came with 0.33.0; leave it out."),
        ("VLLM_LOGING_LEVEL", "x", "did you mean VLLM_LOGGING_LEVEL?"),
    ],
)
def test_environment_that_is_refused(name: str, value: Any, said: str) -> None:
    problem = flags.check_environment({name: value}, NOW)[name]
    assert said in problem
    assert "hunter2" not in problem


def test_the_catalogue_is_one_flag_a_line_and_whole() -> None:
    known = flags.catalogue()
    assert len(known.flags) > 300
    kinds = {"any", "bool", "switch", "int", "float", "str", "list", "dict"}
    for name, flag in known.flags.items():
        assert flag.kinds <= kinds, name
        assert known.releases.index(flag.first) <= known.releases.index(flag.last), name
    lines = flags._DATA.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= len(known.flags) + len(known.variables)
