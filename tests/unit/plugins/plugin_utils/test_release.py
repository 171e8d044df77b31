# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.plugins.plugin_utils._release import build

IMAGE = "registry.example/vllm@sha256:" + "a1" * 32
COMMIT = "d6" * 20
WEIGHTS = f"/var/lib/vllm/models/openai--gpt-oss-20b/{COMMIT}"
SETTINGS = {
    "release": "0.32.0",
    "image": IMAGE,
    "listen_address": "127.0.0.1",
    "models": {"openai/gpt-oss-20b@d666cf3": {"commit": COMMIT, "directory": WEIGHTS}},
}
GPT = {"name": "gpt-oss-20b", "model": "openai/gpt-oss-20b@d666cf3"}


def release(settings: dict[str, Any] | None = None, **instance: Any) -> dict[str, Any]:
    return build(GPT | instance, SETTINGS | (settings or {}))


def config(settings: dict[str, Any] | None = None, **instance: Any) -> dict[str, Any]:
    return dict(yaml.safe_load(release(settings, **instance)["files"]["config.yaml"]))


def environment(**instance: Any) -> dict[str, str]:
    lines = release(**instance)["files"]["environment"].splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def run_arguments(settings: dict[str, Any] | None = None, **instance: Any) -> list[str]:
    return split(release(settings, **instance))


def split(built: dict[str, Any]) -> list[str]:
    """The words of ``run``; shlex does not know that a shell joins lines at a backslash."""
    return shlex.split(built["files"]["run"].replace("\\\n", " "), comments=True)


def values_of(flag: str, arguments: list[str]) -> list[str]:
    return [value for name, value in zip(arguments, arguments[1:]) if name == flag]


def test_the_names_of_a_release() -> None:
    built = release()
    identity = built["id"]
    assert re.fullmatch(r"[0-9a-f]{12}", identity)
    assert built["directory"] == f"/var/lib/vllm/gpt-oss-20b/releases/{identity}"
    assert built["unit"] == "vllm@gpt-oss-20b.service"
    assert built["container"] == "vllm-gpt-oss-20b"
    assert built["publish"] == "127.0.0.1:8000"
    assert built["url"] == "http://127.0.0.1:8000"
    assert sorted(built["files"]) == [
        "config.yaml",
        "environment",
        "plan.json",
        "release.json",
        "run",
    ]


def test_the_same_input_gives_the_same_bytes() -> None:
    first = release(options={"max-num-seqs": 3, "dtype": "auto"}, env={"B": 1, "A": 2})
    second = release(options={"dtype": "auto", "max-num-seqs": 3}, env={"A": 2, "B": 1})
    assert first == second


@pytest.mark.parametrize(
    ("settings", "instance"),
    [
        ({"image": IMAGE.replace("a1", "b2")}, {}),
        ({"secrets_digest": "0123"}, {}),
        ({"http_keep_alive": 90}, {}),
        ({"listen_address": "192.0.2.7"}, {}),
        ({}, {"options": {"max-num-seqs": 3}}),
        ({}, {"env": {"A": "1"}}),
        ({}, {"gpus": [0]}),
        ({}, {"port": 8001}),
    ],
)
def test_whatever_changes_the_engine_changes_the_id(
    settings: dict[str, Any], instance: dict[str, Any]
) -> None:
    assert release(settings, **instance)["id"] != release()["id"]


def test_paths_are_those_of_the_release_itself() -> None:
    built = release()
    assert f"{built['directory']}/config.yaml" in built["files"]["run"]
    assert "/current/" not in built["files"]["run"]
    assert "@release-id@" not in "".join(built["files"].values())


def test_config_of_gpt_oss_from_the_hub() -> None:
    assert list(config(max_model_len=32768).items()) == [
        ("model", "/model"),
        ("served-model-name", "gpt-oss-20b"),
        ("host", "0.0.0.0"),
        ("port", 8000),
        ("max-model-len", 32768),
        ("shutdown-timeout", 60),
        ("sse-keep-alive-interval", 15),
        ("disable-fastapi-docs", True),
        ("enable-auto-tool-choice", True),
        ("tool-call-parser", "openai"),
    ]


def test_config_of_another_model_in_a_local_directory() -> None:
    written = config(name="qwen", model="/srv/models/qwen")
    assert written["model"] == "/model"
    assert not {"revision", "max-model-len", "enable-auto-tool-choice"} & set(written)


PLAN = {
    "flags": {"max-num-seqs": 256, "shutdown-timeout": 60, "gpu-memory-utilization": 0.92},
    "env": {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "5", "VLLM_FROM_PLAN": "1", "OTHER": "plan"},
    "devices": [["GPU-a", "GPU-b"]],
    "memory_gib": {"kv": 10.0},
    "kv_tokens": 1000,
    "max_concurrency": 2.5,
    "reasons": [{"flag": "max-num-seqs", "value": 256, "why": "chats stream at once"}],
    "in_use": "",
}


def test_the_plan_enters_the_release_and_a_person_wins() -> None:
    instance = GPT | {"options": {"max_num_seqs": 8}, "env": {"OTHER": "person"}}
    built = build(instance, SETTINGS, PLAN)
    written = yaml.safe_load(built["files"]["config.yaml"])
    assert written["gpu-memory-utilization"] == 0.92
    assert written["max-num-seqs"] == 8
    variables = built["files"]["environment"].splitlines()
    assert {"VLLM_FROM_PLAN=1", "OTHER=person"} <= set(variables)
    assert "VLLM_HTTP_TIMEOUT_KEEP_ALIVE=120" in variables, "a variable of the role says that"
    devices = re.findall(r"--device nvidia.com/gpu=(\S+)", built["files"]["run"])
    assert devices == ["GPU-a", "GPU-b"]
    said = json.loads(built["files"]["plan.json"])
    assert (said["kv_tokens"], said["reasons"]) == (1000, PLAN["reasons"])
    assert built["prediction"]["memory_gib"] == {"kv": 10.0}


def test_a_reason_that_is_worded_better_restarts_no_engine() -> None:
    first = build(GPT, SETTINGS, PLAN)
    second = build(GPT, SETTINGS, PLAN | {"reasons": [], "kv_tokens": 1001})
    assert first["id"] == second["id"]
    assert first["files"]["plan.json"] != second["files"]["plan.json"]


def test_options_come_last_and_win() -> None:
    written = config(options={"sse_keep_alive_interval": 5, "dtype": "auto", "block-size": 32})
    assert written["sse-keep-alive-interval"] == 5
    assert list(written)[-2:] == ["block-size", "dtype"]


@pytest.mark.parametrize(
    ("vllm", "flag", "known"),
    [
        ("0.17.1", "shutdown-timeout", False),
        ("0.18.0", "shutdown-timeout", True),
        ("0.28.0", "sse-keep-alive-interval", False),
        ("0.29.0", "sse-keep-alive-interval", True),
        ("0.11.1", "disable-fastapi-docs", True),
    ],
)
def test_only_flags_that_the_release_knows_are_written(vllm: str, flag: str, known: bool) -> None:
    assert (flag in config({"release": vllm})) is known


@pytest.mark.parametrize(
    ("option", "vllm", "line"),
    [
        ({"enable-prefix-caching": False}, "0.27.1", ("no-enable-prefix-caching", True)),
        ({"enable-prefix-caching": False}, "0.32.0", ("no-enable-prefix-caching", True)),
        ({"no-enable-prefix-caching": True}, "0.32.0", ("no-enable-prefix-caching", True)),
        ({"compilation-config": {"level": 3}}, "0.15.1", ("compilation-config", '{"level": 3}')),
        ({"compilation-config": {"level": 3}}, "0.16.0", ("compilation-config", {"level": 3})),
        ({"lora-modules": [{"name": "a"}]}, "0.32.0", ("lora-modules", ['{"name": "a"}'])),
        ({"cudagraph-capture-sizes": [1, 2]}, "0.32.0", ("cudagraph-capture-sizes", [1, 2])),
    ],
)
def test_values_are_written_as_the_release_reads_them(
    option: dict[str, Any], vllm: str, line: tuple[str, Any]
) -> None:
    assert line in config({"release": vllm}, options=option).items()


@pytest.mark.parametrize(
    ("option", "missing"),
    [
        ({"tool-call-parser": None, "enable-auto-tool-choice": False}, "tool-call-parser"),
        ({"headless": False}, "headless"),
        ({"headless": False}, "no-headless"),
    ],
)
def test_null_and_a_switch_that_is_off_leave_a_flag_out(
    option: dict[str, Any], missing: str
) -> None:
    assert missing not in config(options=option)


def test_environment_of_a_model_from_the_hub() -> None:
    assert environment() == {
        "CUDA_CACHE_PATH": "/home/vllm/.cache/nv",
        "DO_NOT_TRACK": "1",
        "FLASHINFER_WORKSPACE_BASE": "/home/vllm",
        "HF_HOME": "/home/vllm/.cache/huggingface",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": "/home/vllm",
        "TORCHINDUCTOR_CACHE_DIR": "/home/vllm/.cache/torchinductor",
        "TRITON_CACHE_DIR": "/home/vllm/.cache/triton",
        "USER": "vllm",
        "VLLM_CACHE_ROOT": "/home/vllm/.cache/vllm",
        "VLLM_ENGINE_READY_TIMEOUT_S": "1800",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "120",
        "VLLM_LOGGING_LEVEL": "INFO",
        "VLLM_NO_USAGE_STATS": "1",
        "XDG_CACHE_HOME": "/home/vllm/.cache",
        "XDG_CONFIG_HOME": "/home/vllm/.cache/config",
    }


def test_environment_of_the_instance_wins_and_is_written_without_quotes() -> None:
    written = environment(env={"VLLM_LOGGING_LEVEL": "DEBUG", "OTHER": "a b=c"})
    assert written["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert written["OTHER"] == "a b=c"


def test_the_container_is_confined() -> None:
    arguments = run_arguments()
    for flag, value in {
        "--name": "vllm-gpt-oss-20b",
        "--pull": "never",
        "--log-driver": "none",
        "--publish": "127.0.0.1:8000:8000",
        "--cap-drop": "ALL",
        "--security-opt": "no-new-privileges",
        "--user": "2000:0",
        "--shm-size": "16g",
        "--stop-timeout": "75",
    }.items():
        assert values_of(flag, arguments) == [value], flag
    assert "--read-only" in arguments
    assert arguments[-3:] == [IMAGE, "--config", "/etc/vllm/config.yaml"]


def test_secrets_come_from_a_file_outside_the_release() -> None:
    assert values_of("--env-file", run_arguments())[1] == "/etc/vllm/gpt-oss-20b.secrets"
    one = run_arguments({"secrets_file": "/etc/vllm/secrets"})
    assert values_of("--env-file", one)[1] == "/etc/vllm/secrets"


@pytest.mark.parametrize(
    ("pinning", "cpuset", "flags"),
    [
        (True, {"cpus": "16-31", "mems": "1"}, (["16-31"], ["1"])),
        (False, {"cpus": "16-31", "mems": "1"}, ([], [])),
        (True, None, ([], [])),
    ],
)
def test_a_container_keeps_near_its_gpus_if_asked(
    pinning: bool, cpuset: dict[str, str] | None, flags: tuple[list[str], list[str]]
) -> None:
    plan = {"flags": {}, "env": {}, "replicas": 1, "devices": [["GPU-1"]], "cpusets": [cpuset]}
    built = build(GPT, SETTINGS | {"numa_pinning": pinning}, plan)
    arguments = split(built)
    assert (values_of("--cpuset-cpus", arguments), values_of("--cpuset-mems", arguments)) == flags


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [
        ("all", ["nvidia.com/gpu=all"]),
        ("none", []),
        (2, ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
        ([3, "GPU-8a56a4bc"], ["nvidia.com/gpu=3", "nvidia.com/gpu=GPU-8a56a4bc"]),
    ],
)
def test_gpus_are_given_by_cdi(gpus: Any, devices: list[str]) -> None:
    assert values_of("--device", run_arguments(gpus=gpus)) == devices


@pytest.mark.parametrize(
    ("address", "publish", "url"),
    [
        ("192.0.2.7", "192.0.2.7:8001", "http://192.0.2.7:8001"),
        ("0.0.0.0", "0.0.0.0:8001", "http://127.0.0.1:8001"),
        ("::1", "[::1]:8001", "http://[::1]:8001"),
    ],
)
def test_the_engine_is_published_on_one_address(address: str, publish: str, url: str) -> None:
    built = release({"listen_address": address}, port=8001)
    assert (built["publish"], built["url"]) == (publish, url)


def test_run_is_a_script_that_a_shell_reads_as_it_is_meant(tmp_path: Path) -> None:
    odd = "it's $HOME; echo `id`"
    script = release({"container_user": odd})["files"]["run"]
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nfor one; do printf "%s\\0" "$one"; done\n')
    docker.chmod(0o755)
    script = script.replace("/usr/bin/docker", shlex.quote(str(docker)))
    output = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True)
    received = output.stdout.split("\0")
    assert values_of("--user", received) == [odd]
    assert received[0] == "run"


def test_the_receipt_says_what_runs() -> None:
    built = release({"secrets_digest": "0123"})
    assert json.loads(built["files"]["release.json"]) == {
        "commit": COMMIT,
        "id": built["id"],
        "image": IMAGE,
        "model": "openai/gpt-oss-20b@d666cf3",
        "name": "gpt-oss-20b",
        "publish": "127.0.0.1:8000",
        "secrets_digest": "0123",
        "vllm_release": "0.32.0",
        "weights": [WEIGHTS],
    }


@pytest.mark.parametrize(
    ("settings", "instance", "said"),
    [
        ({"imgae": "x"}, {}, "settings has imgae; its keys are release, image"),
        ({}, {"env": {"A": "x\ny"}}, "env.A must be one line"),
        ({}, {"env": {"HF_TOKEN": "x"}}, "env.HF_TOKEN is a secret"),
        ({}, {"options": {"swap-space": 4}}, "options.swap-space is no flag of vLLM 0.32.0"),
        ({}, {"gpus": "some"}, "gpus is 'some'; it must be all, none"),
    ],
)
def test_no_release_is_built_from_what_was_not_validated(
    settings: dict[str, Any], instance: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        release(settings, **instance)


def test_settings_that_lack_a_key_are_refused() -> None:
    with pytest.raises(ValueError, match="settings lacks image, listen_address; its keys are"):
        build(GPT, {"release": "0.32.0"})


MOUNTED = f"type=bind,source={WEIGHTS},target=/model,readonly"
DRAFT = {"commit": "ab" * 20, "directory": "/var/lib/vllm/models/RedHatAI--draft/" + "ab" * 20}


def test_weights_are_mounted_from_the_store() -> None:
    built = release()
    assert values_of("--mount", split(built)) == [
        f"type=bind,source={built['directory']}/config.yaml,target=/etc/vllm/config.yaml,readonly",
        "type=bind,source=/var/lib/vllm/gpt-oss-20b/cache,target=/home/vllm/.cache",
        MOUNTED,
    ]
    receipt = json.loads(release()["files"]["release.json"])
    assert (receipt["model"], receipt["commit"]) == ("openai/gpt-oss-20b@d666cf3", COMMIT)
    assert receipt["weights"] == [WEIGHTS]


def test_a_directory_of_the_host_is_mounted_as_it_is() -> None:
    mounts = values_of("--mount", run_arguments(model="/srv/models/x"))
    assert "type=bind,source=/srv/models/x,target=/model,readonly" in mounts
    receipt = json.loads(release(model="/srv/models/x")["files"]["release.json"])
    assert not {"commit", "weights"} & set(receipt)


def test_further_models_are_directories_of_their_own() -> None:
    models = SETTINGS["models"] | {"RedHatAI/draft": DRAFT}  # type: ignore[operator]
    extra = {"draft": "RedHatAI/draft", "mine": "/srv/models/mine"}
    built = release({"models": models}, extra_models=extra)
    mounts = values_of("--mount", split(built))
    assert MOUNTED in mounts
    assert f"type=bind,source={DRAFT['directory']},target=/models/draft,readonly" in mounts
    assert "type=bind,source=/srv/models/mine,target=/models/mine,readonly" in mounts
    receipt = json.loads(built["files"]["release.json"])
    assert receipt["weights"] == [WEIGHTS, DRAFT["directory"]]


def test_a_model_that_nobody_has_resolved_is_refused() -> None:
    with pytest.raises(ValueError, match="instance gpt-oss-20b: org/x is not among the models of"):
        release(model="org/x")
