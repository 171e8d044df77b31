# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the values of this scenario change on the host."""

from __future__ import annotations

import json
import re

import yaml
from conftest import ROOT, Scenario
from testinfra.host import Host


def test_gpu_is_given_by_cdi_and_stays_after_daemon_reload(
    gpu_host: Host, scenario: Scenario
) -> None:
    """The lab's CDI device is read by the confined process, before and after the reload."""
    for _ in range(2):
        read = f"docker exec {scenario.container} head -c 4 /dev/lab-gpu0 | wc -c"
        assert gpu_host.check_output(read) == "4"
        gpu_host.check_output("systemctl daemon-reload")
    assert "--device nvidia.com/gpu=0" in gpu_host.file(f"{scenario.current}/run").content_string


def test_daemon_json_is_merged(gpu_host: Host) -> None:
    options = json.loads(gpu_host.file("/etc/docker/daemon.json").content_string)
    assert options["log-driver"] == "journald"
    assert options["insecure-registries"] == ["registry:5000"]
    assert options["features"] == {"cdi": True}


def test_tag_is_resolved_to_a_digest_in_the_release(gpu_host: Host, scenario: Scenario) -> None:
    receipt = json.loads(gpu_host.file(f"{scenario.current}/release.json").content_string)
    assert re.fullmatch(r"localhost/vllm/vllm-openai-cpu:[0-9a-f]{64}", receipt["image"])
    found = json.loads(gpu_host.check_output(f"docker image inspect {receipt['image']}"))[0]
    digest = receipt["image"].rpartition(":")[2]
    assert f"registry:5000/vllm/vllm-openai-cpu@sha256:{digest}" in found["RepoDigests"]


def test_options_are_written_as_this_release_reads_them(gpu_host: Host, scenario: Scenario) -> None:
    config = yaml.safe_load(gpu_host.file(f"{scenario.current}/config.yaml").content_string)
    assert config["no-enable-prefix-caching"] is True
    assert "enable-prefix-caching" not in config
    assert config["generation-config"] == "vllm"
    assert config["max-model-len"] == 2048
    log = gpu_host.check_output(f"journalctl --no-pager --output cat -u {scenario.unit}")
    assert "enable_prefix_caching=False" in log or "'enable_prefix_caching': False" in log


def test_the_engine_has_its_key_and_no_token_of_the_hub(gpu_host: Host, scenario: Scenario) -> None:
    variables = gpu_host.check_output(f"docker exec {scenario.container} env").splitlines()
    assert f"VLLM_API_KEY={'a1' * 32}" in variables
    assert "hf_notatokenofanyone" not in gpu_host.check_output(
        f"docker inspect {scenario.container}"
    )
    found = gpu_host.run("grep -rl hf_notatokenofanyone /etc /srv /var/lib /run /root /tmp")
    assert found.stdout == ""


def test_a_further_model_is_fetched_at_its_pin_and_read(gpu_host: Host, scenario: Scenario) -> None:
    store = "/srv/vllm-models/openai-lab--gpt-oss-tiny"
    commit = json.loads((ROOT / ".cache/lab/hub.json").read_text())["models"][
        "openai-lab/gpt-oss-tiny"
    ]
    manifest = json.loads(gpu_host.file(f"{store}/{commit}.json").content_string)
    assert manifest["commit"] == commit
    assert "tokenizer.json" in manifest["files"]
    inside = f"docker exec {scenario.container} sha256sum /models/words/tokenizer.json"
    assert gpu_host.check_output(inside).startswith(manifest["files"]["tokenizer.json"]["sha256"])
    assert not gpu_host.file("/var/lib/vllm/models").exists


def test_host_that_fronts_itself_needs_no_packet_filter(gpu_host: Host) -> None:
    assert not gpu_host.file("/etc/systemd/system/vllm-firewall.service").exists


def test_plan_is_made_for_the_gpu_and_the_options_win(gpu_host: Host, scenario: Scenario) -> None:
    """The L4 that the stand-in shows; the intent alone would run more than four requests."""
    config = yaml.safe_load(gpu_host.file(f"{scenario.current}/config.yaml").content_string)
    assert config["tensor-parallel-size"] == 1
    assert 0.8 < config["gpu-memory-utilization"] < 1
    assert config["max-num-seqs"] == 4
    plan = json.loads(gpu_host.file(f"{scenario.current}/plan.json").content_string)
    assert 21.5 < plan["memory_gib"]["total"] < 22.5
    assert plan["kv_tokens"] > 0
    why = {reason["flag"]: reason["why"] for reason in plan["reasons"]}
    assert "your option" in why["max-num-seqs"]
