# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""playbooks/plan.yml as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.tests.unit.playbooks import COLLECTION, ansible_playbook

ONE = ("gpu_set=h200", "model=openai/gpt-oss-20b")
KEYS = {
    "refused",
    "flags",
    "env",
    "tensor_parallel_size",
    "replicas",
    "memory_gib",
    "kv_tokens",
    "max_concurrency",
    "reasons",
}


def plan(
    directory: Path, *extra: str, inventory: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the playbook, without an inventory unless one is given."""
    command = [str(COLLECTION / "playbooks/plan.yml")]
    if inventory is not None:
        (directory / "hosts.json").write_text(json.dumps(inventory))
        command += ["-i", "hosts.json"]
    for each in extra:
        command += ["-e", each]
    return ansible_playbook(directory, *command)


def test_a_plan_is_printed_and_written(tmp_path: Path) -> None:
    done = plan(
        tmp_path,
        *ONE,
        "gpu_count=2",
        "intent=throughput",
        "vllm_release=0.26.0",
        "max_model_len=32768",
        '{"options": {"max_num_seqs": 64}}',
        "plan_json=plan.json",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "plan.json").read_text())
    assert set(written) >= KEYS
    assert written["refused"] is None
    assert written["flags"]["max-num-seqs"] == 64
    assert written["flags"]["max-model-len"] == 32768
    assert written["replicas"] == 2
    assert set(written["memory_gib"]) == {
        "total",
        "weights",
        "activation",
        "cuda_graphs",
        "other",
        "kv",
        "kv_restart",
    }
    lines = done.stdout.splitlines()
    assert "gpt-oss-20b on 2 x NVIDIA H200 for throughput, vLLM 0.26.0" in lines
    assert any(line.startswith("  max-num-seqs ") and " 64 " in line for line in lines)
    assert any("[█" in line for line in lines)
    assert f"{written['kv_tokens']:,} tokens" in done.stdout


def test_a_second_run_writes_the_same(tmp_path: Path) -> None:
    first = plan(tmp_path, *ONE, "plan_json=plan.json")
    content = (tmp_path / "plan.json").read_bytes()
    second = plan(tmp_path, *ONE, "plan_json=plan.json")
    assert "changed=1" in first.stdout
    assert "changed=0" in second.stdout
    assert (tmp_path / "plan.json").read_bytes() == content


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("gpu_set=l4", "model=openai/gpt-oss-120b"), "GiB are missing"),
        (("gpu_sets=h200", "model=openai/gpt-oss-20b"), "did you mean gpu_set?"),
        ((*ONE, "intend=chat"), "did you mean intent?"),
        (("gpu_set=h2000", "model=openai/gpt-oss-20b"), "'h2000' is not known"),
        (("gpu_set=h200", "model=openai/gpt-oss-20"), "openai/gpt-oss-20b"),
        ((*ONE, "intent=fast"), "chat, throughput, long_context"),
        ((*ONE, "vllm_release=0.26.1"), "vllm_release is '0.26.1'"),
        ((*ONE, '{"options": {"swap-space": 4}}'), "options.swap-space"),
        (("gpu_set=", "model=openai/gpt-oss-20b"), "gpu_set is empty"),
        ((*ONE, "gpu_count=0"), "gpu_count is '0'; it must be a whole number from 1."),
    ],
    ids=[
        *("memory", "gpu_sets", "intend", "gpu set", "model", "intent", "release", "option"),
        *("no gpu set", "no GPU"),
    ],
)
def test_a_refusal_is_written_before_the_run_fails(
    tmp_path: Path, extra: tuple[str, ...], said: str
) -> None:
    done = plan(tmp_path, *extra, "plan_json=plan.json")
    assert done.returncode != 0
    written = json.loads((tmp_path / "plan.json").read_text())
    assert set(written) >= KEYS
    assert said in written["refused"]
    assert written["refused"] in done.stdout + done.stderr
    assert [key for key in KEYS - {"refused", "memory_gib"} if written[key]] == []
    assert 'FAILED! => {"changed": false,' in done.stdout


def test_a_refusal_for_memory_says_where_it_would_go(tmp_path: Path) -> None:
    plan(tmp_path, "gpu_set=l4", "model=openai/gpt-oss-120b", "plan_json=plan.json")
    memory = json.loads((tmp_path / "plan.json").read_text())["memory_gib"]
    assert memory["weights"] > memory["total"] > 20


def test_values_of_variables_are_neither_printed_nor_written(tmp_path: Path) -> None:
    done = plan(tmp_path, *ONE, '{"env": {"FOO_TOKEN": "hunter2"}}', "plan_json=plan.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FOO_TOKEN" in done.stdout
    assert "hunter2" not in done.stdout + (tmp_path / "plan.json").read_text()


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = plan(tmp_path, *ONE, "plan_json=none/plan.json")
    assert done.returncode != 0
    assert "none/plan.json cannot be written" in done.stdout + done.stderr


def unreachable(**variables: Any) -> dict[str, Any]:
    """A host that a connection would fail on."""
    host = {"ansible_connection": "ssh", "ansible_host": "192.0.2.1", "ansible_port": 1}
    return {"gpu_hosts": {"hosts": {"gpu-1": host | variables}}}


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (ONE, "gpt-oss-20b on 1 x NVIDIA H200"),
        (("gpu_sets=h200",), "did you mean gpu_set?"),
        (("intend=chat",), "did you mean intent?"),
    ],
    ids=["plan", "gpu_sets", "intend"],
)
def test_no_host_is_touched(tmp_path: Path, extra: tuple[str, ...], said: str) -> None:
    done = plan(tmp_path, *extra, inventory=unreachable())
    assert said in done.stdout + done.stderr
    assert "gpu-1" not in done.stdout


def test_without_gpu_set_the_hosts_are_asked(tmp_path: Path) -> None:
    """The other side of the test before: this inventory's host cannot be reached."""
    done = plan(tmp_path, inventory=unreachable())
    assert done.returncode != 0
    assert "UNREACHABLE" in done.stdout + done.stderr


def test_a_model_of_this_machine_is_planned(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    }
    (tmp_path / "Llama").mkdir()
    (tmp_path / "Llama/config.json").write_text(json.dumps(config))
    done = plan(tmp_path, "gpu_set=h200", "model=Llama", "plan_json=plan.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "llama on 1 x NVIDIA H200 for chat" in done.stdout
    # 8.03 billion parameters of two bytes
    weights = json.loads((tmp_path / "plan.json").read_text())["memory_gib"]["weights"]
    assert 14.5 < weights < 15.5


def test_the_instances_of_a_host_are_planned(tmp_path: Path) -> None:
    """A host without GPU: the CPU engine of the lab, and one that asks for what is not there."""
    tiny = {
        "name": "tiny",
        "model": str(tmp_path / "tiny"),
        "gpus": "none",
        "max_model_len": 8192,
        "options": {"kv-cache-memory-bytes": 2**28, "max-num-batched-tokens": 1024},
    }
    config = {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "vocab_size": 201088,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 131072,
    }
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/config.json").write_text(json.dumps(config))
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    wanting = {"name": "big", "model": "openai/gpt-oss-120b", "port": 8001}
    inventory = unreachable(**local, vllm_instances=[tiny, wanting])
    done = plan(tmp_path, "plan_json=plan.json", inventory=inventory)
    assert done.returncode != 0
    assert "tiny on gpu-1: CPU engine with 0.25 GiB of KV cache: 906,876 tokens" in done.stdout
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["hosts"]["gpu-1"]["tiny"]["kv_tokens"] == 906876
    assert written["refused"].startswith("gpu-1: ")
    assert 'FAILED! => {"changed": false,' in done.stdout
    assert written["refused"] in done.stdout + done.stderr
