# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A change to a serving fleet: one host at a time, the edge undisturbed, the old release kept."""

from __future__ import annotations

import re
import time

from conftest import ROOT, Scenario, address, lab_host, playbook
from openai import OpenAI


def started(host: str, scenario: Scenario) -> float:
    """When the unit was last started, seconds since the epoch."""
    show = f'date -d "$(systemctl show -P ActiveEnterTimestamp {scenario.unit})" +%s'
    return float(lab_host(host).check_output(show))


def nginx_master(scenario: Scenario) -> str:
    edge = lab_host(scenario.edge_hosts[0])
    return str(edge.check_output("systemctl show -P MainPID nginx.service"))


def test_a_changed_option_is_taken_over_by_one_host_after_the_other(scenario: Scenario) -> None:
    master = nginx_master(scenario)
    current = {host: lab_host(host).file(scenario.current).linked_to for host in scenario.gpu_hosts}
    instance = {
        "name": scenario.instance,
        "model": "/srv/models/gpt-oss-tiny",
        "gpus": "none",
        "max_model_len": 4096,
        "options": {
            "enforce-eager": True,
            "kv-cache-memory-bytes": 268435456,
            "max-num-batched-tokens": 1024,
            "max-num-seqs": 8,
        },
        "env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"},
    }
    begun = time.time()
    run = playbook("site", extra={"vllm_instances": [instance]})
    assert run.code == 0, run.output

    for host in scenario.gpu_hosts:
        assert re.search(
            rf"^{scenario.instance} on {host}: KV cache 0.25 GiB predicted, 0.25 GiB reported"
            r" \(\+0\.0 %\); [\d,]+ tokens, [\d.]+x as predicted$",
            run.output,
            re.M,
        ), run.output
        config = lab_host(host).file(f"{scenario.current}/config.yaml").content_string
        assert "max-num-seqs: 8" in config
        assert lab_host(host).file(scenario.current).linked_to != current[host]
        assert lab_host(host).file(current[host]).is_directory
    # The second was touched only after the first had loaded again and generated a token.
    first, second = sorted(started(host, scenario) for host in scenario.gpu_hosts)
    assert first >= begun - 1
    assert second - first > 10, "an engine of the lab takes longer than that to load"
    assert nginx_master(scenario) == master


def test_clients_are_served_after_it(scenario: Scenario) -> None:
    key = (ROOT / ".cache/demo-keys/edge_demo_key").read_text().strip()
    url = f"http://{address(scenario.edge_hosts[0])}:{scenario.edge_port}/v1"
    client = OpenAI(base_url=url, api_key=key, max_retries=0)
    answer = client.chat.completions.create(
        model=scenario.instance,
        messages=[{"role": "user", "content": "Count from one to ten."}],
        max_tokens=40,
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 1
