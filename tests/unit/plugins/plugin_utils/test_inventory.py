# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_tables import (
    PATTERNS,
    RANGES,
)
from ansible_collections.baremetal.vllm.tests.unit.plugins.plugin_utils.inventory_hosts import (
    ALONE,
    FLEET,
    KEY,
    ONE,
    SPECS,
    instance,
    problems,
)

DIGEST = "sha256:" + "a1" * 32


def test_an_inventory_that_sets_little_is_right() -> None:
    assert problems({}) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"vllm_container_user": "0"},
        {"host_tuning_cpu_governor": "performance", "host_tuning_gpu_clock_lock": "1200,1500"},
        {"host_tuning_cpu_governor": "", "host_tuning_gpu_clock_lock": ""},
        {"vllm_image": "vllm/vllm-openai:v0.32.0"},
        {"vllm_image": "vllm/vllm-openai:v0.32.0-cu129"},
        {"vllm_image": f"127.0.0.1:5000/vllm:latest@{DIGEST}"},
        {"vllm_image": "registry.example/team/engine:build-7"},
        {"vllm_api_key": "sk-" + KEY, "model_store_token": "hf_abcDEF123"},
        instance(model="/srv/models/gpt-oss-20b", gpus="none"),
        instance(model="openai/gpt-oss-20b@d666cf3b67006cf8227666739edf25164aaffdeb"),
        instance(gpus=2),
        instance(intent="long_context"),
        instance(options={"max-model-len": 8192}),
        instance(gpus="2"),
        instance(gpus=[0, "3"]),
        instance(gpus=["GPU-8a56a4bc-b184-a047-2620-be19ba913c3d"]),
        instance(max_model_len=32768),
        instance(options={"max_num_seqs": 64}, env={"NCCL_DEBUG": "INFO"}),
        instance(state="absent"),
        {"vllm_instances": [ONE, {"name": "old", "state": "absent"}]},
        {"vllm_instances": []},
    ],
)
def test_what_is_allowed(changes: dict[str, Any]) -> None:
    assert problems(changes) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"vllm_relase": 1},
            "vllm_relase is not a variable of this collection; did you mean vllm_release?",
        ),
        (
            {"edge_zzzzzz": 1},
            "edge_zzzzzz is not a variable of this collection; names with edge_ in front",
        ),
        ({"vllm_shm_size_gib": "lots"}, "vllm_shm_size_gib is 'lots'; it must be a whole number."),
        (
            {"docker_engine_source": "snap"},
            "docker_engine_source is 'snap'; allowed are docker, distro, preinstalled.",
        ),
        ({"vllm_ready_timeout": 0}, "vllm_ready_timeout is 0; allowed are 1 or more."),
        (
            {"vllm_state_directory": "var/lib/vllm"},
            "vllm_state_directory is 'var/lib/vllm'; it must be an absolute",
        ),
        (
            {"vllm_container_user": "vllm"},
            "vllm_container_user is 'vllm'; it must be a user and a group as numbers",
        ),
        (
            {"host_tuning_cpu_governor": "Performance"},
            "host_tuning_cpu_governor is 'Performance'; it must be the name of a governor, such as"
            " performance, or empty.",
        ),
        (
            {"host_tuning_gpu_clock_lock": "1200-1500"},
            "host_tuning_gpu_clock_lock is '1200-1500'; it must be the lowest and the highest clock"
            " in MHz, such as '1200,1500', or empty.",
        ),
        (
            {"nvidia_driver_version": "580"},
            "nvidia_driver_version is '580'; it must be a release in full, such as 580.178.04.",
        ),
        (
            {"nvidia_driver_key_fingerprints": ["63BF862CC"]},
            "nvidia_driver_key_fingerprints is '63BF862CC'; it must be fingerprints in full, of 40"
            " hex digits each.",
        ),
        (
            {"docker_engine_version": "29"},
            "docker_engine_version is '29'; it must be a release in full, such as 29.9.0.",
        ),
        (
            {"docker_engine_repository": "mirror/docker"},
            "docker_engine_repository is 'mirror/docker'; it must be an address that starts with"
            " https://, http:// or file://.",
        ),
        (
            {"container_toolkit_version": "v1.20.1"},
            "container_toolkit_version is 'v1.20.1'; it must be a release in full, such as 1.20.1.",
        ),
        ({"vllm_release": "0.10.2"}, "vllm_release is '0.10.2'; known releases are 0.11.1 to"),
        (
            {"vllm_http_keep_alive": 60},
            "vllm_http_keep_alive is 60; it must be above edge_upstream_keepalive_timeout, which is"
            " 60 on gpu-1.",
        ),
        ({"vllm_api_key": "0" * 64}, "vllm_api_key is a placeholder that everyone knows"),
        ({"vllm_api_key": "abc123"}, "vllm_api_key has fewer than 32 characters"),
        ({"vllm_address": "0.0.0.0"}, "vllm_address is 0.0.0.0; it must be one IPv4 address"),
        ({"vllm_address": "2001:db8::1"}, "vllm_address is 2001:db8::1; it must be one IPv4"),
        (
            {"vllm_state_directory": "/home/me/vllm"},
            "vllm_state_directory is '/home/me/vllm'; it must be an absolute path without spaces,"
            " not below /home, /root or /tmp",
        ),
        (instance(name="models"), ".name is 'models', which is the model cache's directory"),
        # the image
        (
            {"vllm_registry_username": "me"},
            "vllm_registry_username and vllm_registry_password: give both or neither.",
        ),
        ({"vllm_registry_ca": "/etc/ca.pem"}, "vllm_registry_ca holds no certificate in PEM; give"),
        (
            {"model_store_provider": "ftp"},
            "model_store_provider is 'ftp'; allowed are huggingface, modelscope, http, s3.",
        ),
        (
            {"model_store_provider": "s3"},
            "model_store_endpoint is empty; model_store_provider is s3, which has no address of its"
            " own.",
        ),
        ({"model_store_endpoint": "files.example"}, "an address that starts with https:// or http"),
        ({"model_store_directory": "/models"}, "model_store_directory is '/models'; it must be an"),
        (
            {"model_store_directory": "/home/me/models"},
            "not below /home, /root, /tmp or the system",
        ),
        ({"model_store_directory": "/var/lib"}, "an absolute path without spaces, of its own"),
        ({"model_store_directory": "/srv/../etc/x"}, "an absolute path without spaces, of its own"),
        ({"model_store_workers": 0}, "model_store_workers is 0; allowed are 1 to 64."),
        (
            {"vllm_hf_token": "x"},
            "vllm_hf_token is called model_store_token since 0.3.0; rename it in your inventory.",
        ),
        (
            {"vllm_pins": {"image": {}}},
            "vllm_pins.image is not a key of it; allowed are images and",
        ),
        (
            instance(extra_models={"a b": "org/name"}),
            "vllm_instances[0].extra_models.a b must be a name of letters, digits",
        ),
        (
            instance(extra_models={"draft": "name"}),
            "vllm_instances[0].extra_models.draft is 'name'; it must be a Hugging Face id",
        ),
        (
            instance(options={"speculative-config": {"model": "RedHatAI/x"}}),
            "vllm_instances[0].options.speculative-config.model is 'RedHatAI/x', which vLLM does"
            " not fetch itself; name it under extra_models",
        ),
        (
            instance(options={"speculative-config": '{"model": "RedHatAI/x"}'}),
            "vllm_instances[0].options.speculative-config.model is 'RedHatAI/x', which vLLM does",
        ),
        (
            instance(options={"tokenizer": "org/name"}),
            "vllm_instances[0].options.tokenizer is 'org/name', which vLLM does not fetch itself",
        ),
        (
            {"vllm_image": "vllm/vllm-openai"},
            "without tag or digest; add :v0.32.0 or better @sha256:",
        ),
        ({"vllm_image": "registry:5000/vllm"}, "without tag or digest"),
        ({"vllm_image": "vllm/vllm-openai:latest"}, "latest moves, pin a release or a digest."),
        (
            {"vllm_image": "vllm/vllm-openai@sha256:abc"},
            "a digest is sha256: and 64 lower-case hex digits",
        ),
        ({"vllm_image": "vllm/vllm openai:1"}, "which is no image reference"),
        (
            {"vllm_image": "vllm/vllm-openai:v0.31.0"},
            "but flags are checked against vllm_release, 0.32.0; make them one.",
        ),
        # an instance
        (instance(gpu="all"), "vllm_instances[0].gpu is not a key of it; did you mean gpus?"),
        (
            instance(name="GPT"),
            "vllm_instances[0].name is 'GPT'; it must be 1 to 63 lower-case letters",
        ),
        (
            instance(model="gpt-oss"),
            "vllm_instances[0].model is 'gpt-oss'; it must be a Hugging Face id",
        ),
        (instance(model="srv/models/x"), "vllm_instances[0].model is 'srv/models/x'"),
        (
            instance(model="/srv/a,b"),
            "an absolute directory on the host without spaces, commas and quotes.",
        ),
        (instance(model="/srv/../etc"), "vllm_instances[0].model is '/srv/../etc'"),
        (instance(port=0), "vllm_instances[0].port is 0; allowed are 1 to 65535."),
        (
            instance(intent="fast"),
            "vllm_instances[0].intent is 'fast'; allowed are chat, throughput, long_context",
        ),
        (
            instance(max_model_len=4096, options={"max_model_len": 8192}),
            "vllm_instances[0].options.max_model_len says the same as max_model_len, which is 4096",
        ),
        (
            instance(gpus="some"),
            "vllm_instances[0].gpus is 'some'; it must be all, none, a count from 1",
        ),
        (instance(gpus=0), "vllm_instances[0].gpus is 0"),
        (instance(gpus=[]), "vllm_instances[0].gpus is a list"),
        (instance(gpus=[0, 0]), "a list of different indices or UUIDs"),
        (instance(gpus=None), "vllm_instances[0].gpus is null"),
        (instance(gpus=True), "vllm_instances[0].gpus is True"),
        (
            instance(max_model_len="long"),
            "vllm_instances[0].max_model_len is 'long'; it must be auto or a count",
        ),
        (
            instance(options={"max-num-sqs": 1}),
            "vllm_instances[0].options.max-num-sqs is no flag of vLLM 0.32.0",
        ),
        (
            instance(env={"VLLM_USE_V1": "1"}),
            "vllm_instances[0].env.VLLM_USE_V1 is not read by vLLM 0.32.0",
        ),
        (
            {"vllm_instances": [{"name": "a"}]},
            "vllm_instances[0].model is missing; it is required.",
        ),
    ],
)
def test_one_mistake_gives_one_sentence(changes: dict[str, Any], said: str) -> None:
    found = problems(changes)
    assert len(found) == 1, found
    assert found[0].startswith("gpu-1: ")
    assert said in found[0]
    assert found[0].endswith((".", "?", ":..."))


def test_two_instances_cannot_share_a_name_or_a_port() -> None:
    found = problems({"vllm_instances": [ONE, ONE]})
    assert found == [
        "gpu-1: vllm_instances[1].name is 'gpt-oss-20b', which vllm_instances[0] is called too;"
        " give each its own.",
        "gpu-1: vllm_instances[1].port is 8000, which vllm_instances[0] has too;"
        " give each its own.",
    ]


def test_all_mistakes_are_told_at_once() -> None:
    broken = instance(gpu=1, port="x", options={"host": "a"}, env={"HF_TOKEN": "a"})
    found = problems(
        broken | {"vllm_release": "0.32.0", "model_store_seed_port": 0, "vllm_wibble": 1}
    )
    assert len(found) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"vllm_api_key": "hunter2 hunter2 hunter2 hunter2 hunter2"},
        {"model_store_token": 'hunter2"'},
        {"model_store_s3_secret_key": "hunter2 hunter2"},
        {"model_store_endpoint": "https://me:hunter2@files.example"},
        {"vllm_api_key": ["hunter2"]},
        instance(env={"VLLM_API_KEY": "hunter2"}),
        instance(env={"HF_TOKEN": "hunter2"}),
        instance(env={"SOME": "hunter2\nX"}),
        instance(env="hunter2"),
        instance(options={"api-key": "hunter2"}),
        instance(options={"hf-token": "hunter2"}),
    ],
)
def test_no_sentence_repeats_a_secret(changes: dict[str, Any]) -> None:
    found = problems(changes)
    assert len(found) == 1, found
    assert "hunter2" not in found[0].lower()


def test_an_inventory_without_hosts_is_refused_on_the_controller() -> None:
    (found,) = problems({}, "localhost", {"gpu": ["gpu-1"]})
    assert found.startswith("the inventory has no host in the group gpu_hosts; name at least one")


def test_edges_without_engines_are_told_once() -> None:
    groups = {"gpu_hosts": [], "edge_hosts": ["edge-1", "edge-2"]}
    assert problems({}, "edge-1", groups) == [
        "edge-1: group edge_hosts has hosts but gpu_hosts has none; put at least one GPU host into"
        " gpu_hosts."
    ]
    assert problems({}, "edge-2", groups) == []


@pytest.mark.parametrize(
    ("groups", "needed"),
    [
        (ALONE, False),
        ({"gpu_hosts": ["gpu-1"], "edge_hosts": ["gpu-1"]}, False),
        ({"gpu_hosts": ["gpu-1"], "edge_hosts": ["edge-1"]}, True),
        ({"gpu_hosts": ["gpu-1"], "edge_hosts": ["gpu-1", "edge-1"]}, True),
    ],
)
def test_an_engine_with_an_edge_elsewhere_needs_the_internal_key(
    groups: dict[str, list[str]], needed: bool
) -> None:
    found = problems({}, groups=groups)
    said = "gpu-1: vllm_api_key is empty, but an edge is on another host (edge-1); set a key"
    assert [one.startswith(said) for one in found] == [True] * needed


def test_an_engine_does_not_look_at_the_other_hosts() -> None:
    # hostvars is empty: a look-up would raise
    assert problems({"vllm_api_key": KEY}, groups=FLEET) == []


def test_every_limit_is_of_a_variable_that_exists() -> None:
    known = {name for options in SPECS.values() for name in options}
    assert {*RANGES, *PATTERNS} <= known


def test_seeds_are_gpu_hosts() -> None:
    groups = FLEET | {"model_seeds": ["gpu-2", "edge-1"]}
    (found,) = problems({"vllm_api_key": KEY}, groups=groups)
    assert found == (
        "gpu-1: group model_seeds has edge-1, not in gpu_hosts; only GPU hosts have weights to"
        " serve."
    )
    groups = FLEET | {"model_seeds": ["gpu-2"]}
    assert problems({"vllm_api_key": KEY}, groups=groups) == []
