# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Bad input: every case is refused with its sentence, and no host is touched."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Scenario, lab_host, playbook

TINY = {"name": "gpt-oss-tiny", "model": "/srv/models/gpt-oss-tiny", "gpus": "none"}

INVENTORY_REFUSALS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("unknown variable", {"vllm_imgae": "x:1"}, ("vllm_imgae", "vllm_image")),
    (
        "misspelt key of an instance",
        {"vllm_instances": [{**TINY, "max_model_length": 100}]},
        ("max_model_length", "max_model_len"),
    ),
    (
        "two instances of one name",
        {"vllm_instances": [TINY, {**TINY, "port": 8001}]},
        ("gpt-oss-tiny", "name"),
    ),
    (
        "two instances on one port",
        {"vllm_instances": [TINY, {**TINY, "name": "other"}]},
        ("8000", "port"),
    ),
    (
        "a flag that this release does not have",
        {"vllm_instances": [{**TINY, "options": {"swap-space": 4}}]},
        ("swap-space", "0.32.0"),
    ),
    (
        "a flag that no release has",
        {"vllm_instances": [{**TINY, "options": {"max-num-seq": 4}}]},
        ("max-num-seq", "max-num-seqs"),
    ),
    (
        "an image without tag or digest",
        {"vllm_image": "registry:5000/vllm/vllm-openai-cpu"},
        ("vllm_image", "digest"),
    ),
    ("the tag latest", {"vllm_image": "registry:5000/vllm/vllm-openai-cpu:latest"}, ("latest",)),
    (
        "an edge open to the network without keys",
        {"edge_api_keys": {}},
        ("edge_api_keys",),
    ),
]

HOST_REFUSALS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    (
        "a model directory that is not there",
        {"vllm_instances": [{**TINY, "model": "/srv/models/none"}]},
        ("/srv/models/none", "not on the host"),
    ),
    (
        "a GPU on a host without one",
        {"vllm_instances": [{**TINY, "gpus": "all"}]},
        ("GPU",),
    ),
    (
        "too little disk",
        {
            "preflight_min_free_gib": 100000,
            "vllm_image": f"registry:5000/vllm/none@sha256:{'0' * 64}",
        },
        ("100000 GiB", "free"),
    ),
]


def fingerprint(host: str) -> str:
    """Everything of ours on a host, with times and content, and what runs."""
    return lab_host(host).check_output(
        "find /etc /var/lib/vllm -xdev -not -path '*/cache/*' -type f"
        " -printf '%p %T@ %m %u %s\\n' | sort; "
        "docker ps --no-trunc --format '{{.ID}} {{.Image}}' 2>/dev/null; "
        "systemctl show -p MainPID,ActiveState nginx.service 'vllm@*' || true"
    )


@pytest.fixture(scope="module")
def untouched(scenario: Scenario) -> Any:
    """After all refusals of this file the hosts are as they were before the first."""
    hosts = scenario.gpu_hosts + scenario.edge_hosts
    before = {host: fingerprint(host) for host in hosts}
    yield
    assert {host: fingerprint(host) for host in hosts} == before


@pytest.mark.parametrize(
    ("extra", "words"),
    [case[1:] for case in INVENTORY_REFUSALS],
    ids=[case[0] for case in INVENTORY_REFUSALS],
)
def test_inventory_is_refused_before_a_host_is_reached(
    untouched: None, extra: dict[str, Any], words: tuple[str, ...]
) -> None:
    run = playbook("site", extra=extra)
    assert run.code != 0
    assert "Read the state of the host" not in run.output
    for word in words:
        assert word in run.output, run.output


@pytest.mark.parametrize(
    ("extra", "words"),
    [case[1:] for case in HOST_REFUSALS],
    ids=[case[0] for case in HOST_REFUSALS],
)
def test_host_is_refused_before_anything_changes(
    untouched: None, extra: dict[str, Any], words: tuple[str, ...]
) -> None:
    run = playbook("site", extra=extra)
    assert run.code != 0
    for word in words:
        assert word in run.output, run.output


def test_port_in_use_is_refused(untouched: None, scenario: Scenario) -> None:
    host = lab_host("gpu1")
    host.check_output(
        "systemd-run --unit lab-port --collect python3 -m http.server 8077 --bind 127.0.0.1"
    )
    try:
        run = playbook("site", extra={"vllm_instances": [{**TINY, "port": 8077}]})
    finally:
        host.check_output("systemctl stop lab-port")
    assert run.code != 0
    assert "8077" in run.output
    assert "python3" in run.output, run.output


def test_unsupported_distribution_is_refused(untouched: None) -> None:
    host = lab_host("gpu2")
    target = host.check_output("readlink /etc/os-release")
    host.check_output("rm /etc/os-release; printf 'ID=fedora\\nVERSION_ID=42\\n' >/etc/os-release")
    try:
        run = playbook("site")
    finally:
        host.check_output("ln -sfn %s /etc/os-release", target)
    assert run.code != 0
    assert "gpu2: runs Fedora 42; supported are" in run.output, run.output


def test_wrong_digest_is_refused_and_the_running_release_stays(untouched: None) -> None:
    wrong = f"registry:5000/vllm/vllm-openai-cpu@sha256:{'0' * 64}"
    run = playbook("site", extra={"vllm_image": wrong})
    assert run.code != 0
    assert wrong in run.output, run.output
