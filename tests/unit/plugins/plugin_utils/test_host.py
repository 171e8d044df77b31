# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._host import check_host
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instance_plans import plan_on
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import HostPlans

GIB = 2**30
FACTS = {"distribution": "Debian", "distribution_version": "12.5", "service_mgr": "systemd"}
STATE: dict[str, Any] = {
    "systemd": 252,
    "nvidia_gpus": 2,
    "cdi_devices": [
        "nvidia.com/gpu=0",
        "nvidia.com/gpu=1",
        "nvidia.com/gpu=GPU-8a56a4bc-b184-a047-2620-be19ba913c3d",
        "nvidia.com/gpu=all",
    ],
    "paths": {"/srv/m": {"exists": True, "type": "directory"}},
    "listening": [{"address": "0.0.0.0", "port": 22, "process": "sshd"}],
    "disks": {"/var/lib/docker": {"free_bytes": 50 * GIB}},
}
ONE = {"name": "gpt-oss-20b", "model": "openai/gpt-oss-20b", "port": 8000}


def problems(
    state: dict[str, Any] | None = None, facts: dict[str, Any] | None = None, **arguments: Any
) -> list[str]:
    instance = ONE | arguments.pop("instance", {})
    listed = [instance, *arguments.pop("others", [])]
    return check_host("gpu-1", FACTS | (facts or {}), STATE | (state or {}), listed, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"facts": {"distribution_version": "13"}},
        {"facts": {"distribution": "Ubuntu", "distribution_version": "22.04"}},
        {"facts": {"distribution": "Ubuntu", "distribution_version": "24.04"}},
        {"instance": {"model": "/srv/m"}},
        {"instance": {"gpus": "none"}, "state": {"nvidia_gpus": 0, "cdi_devices": []}},
        {"state": {"read": {"/etc/docker/daemon.json": '{"debug": true}'}}},
        {"instance": {"gpus": [0, 1]}},
        {"instance": {"gpus": ["GPU-8a56a4bc-b184-a047-2620-be19ba913c3d"]}},
        {"instance": {"state": "absent", "port": 22, "model": "/gone"}},
        {"instance": {"port": 22}, "own_ports": [22]},
        {
            "instance": {"port": 22},
            "state": {
                "instances": [{"name": "gpt-oss-20b", "current": "ab", "publish": "127.0.0.1:22"}]
            },
        },
        {"state": {"docker": {"version": "26.1.5"}}},
        {
            "ports": [{"port": 8080, "what": "edge_port"}],
            "state": {
                "services": {"nginx.service": {"active": "active"}},
                "paths": {"/etc/nginx/nginx.conf.distribution": {"exists": True}},
            },
        },
        {"disk_needs": [{"path": "/var/lib/docker", "need_gib": 50, "what": "the image"}]},
    ],
)
def test_a_host_that_can(arguments: dict[str, Any]) -> None:
    assert problems(**arguments) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"facts": {"distribution_version": "11.9"}},
            "runs Debian 11.9; supported are Debian 12, Debian 13, Ubuntu 22.04, Ubuntu 24.04;",
        ),
        (
            {"facts": {"distribution": "Rocky", "distribution_version": "9.4"}},
            "runs Rocky 9.4; supported",
        ),
        ({"facts": {"distribution_version": "120"}}, "runs Debian 120; supported"),
        ({"facts": {"service_mgr": "sysvinit"}}, "is run by sysvinit and not by systemd"),
        (
            {"state": {"systemd": None}},
            "not by systemd, which keeps the engines; boot it",
        ),
        (
            {"state": {"nvidia_gpus": 0, "cdi_devices": ["example.com/nic=0"]}},
            "vllm_instances (gpt-oss-20b) wants GPUs (gpus: all) but no NVIDIA GPU is on the PCI"
            " bus; fit one, or set gpus: none for the CPU engine.",
        ),
        ({"instance": {"gpus": 3}}, "wants GPUs 2 but the host's CDI specification names 0, 1, "),
        ({"instance": {"gpus": [5]}}, "wants GPUs 5 but the host's CDI specification names"),
        (
            {"state": {"read": {"/etc/docker/daemon.json": "{"}}},
            "/etc/docker/daemon.json is not valid JSON (",
        ),
        (
            {"state": {"read": {"/etc/docker/daemon.json": "[]"}}},
            "/etc/docker/daemon.json holds no JSON object; mend it",
        ),
        ({"state": {"cdi_devices": []}}, "has NVIDIA GPUs but no CDI specification names them"),
        (
            {"instance": {"model": "/srv/x"}},
            "serves /srv/x, which is not on the host; copy the model",
        ),
        (
            {
                "instance": {"model": "/srv/f"},
                "state": {"paths": {"/srv/f": {"exists": True, "type": "file"}}},
            },
            "serves /srv/f, which is a file; name the directory that holds config.json",
        ),
        (
            {"instance": {"port": 22}},
            "vllm_instances (gpt-oss-20b) wants port 22, on which sshd listens (0.0.0.0); stop",
        ),
        (
            {
                "instance": {"port": 22},
                "state": {
                    "instances": [{"name": "older", "current": "ab", "publish": "127.0.0.1:22"}]
                },
                "others": [{"name": "older", "model": "a/b", "state": "absent"}],
            },
            "vllm_instances (gpt-oss-20b) wants port 22, on which sshd listens",
        ),
        (
            {"state": {"instances": [{"name": "older", "current": "ab"}]}},
            "has the instance older, which vllm_instances does not name; list it with state:",
        ),
        (
            {
                "ports": [{"port": 8080, "what": "edge_port"}],
                "state": {"services": {"nginx.service": {"active": "active"}}},
            },
            "runs an nginx that serves something else, whose configuration the edge would replace",
        ),
        (
            {"ports": [{"port": 22, "what": "edge_port"}]},
            "edge_port wants port 22, on which sshd listens",
        ),
        (
            {"disk_needs": [{"path": "/var/lib/docker", "need_gib": 60, "what": "the image"}]},
            "/var/lib/docker has 50.0 GiB free and the image needs 60 GiB; make room",
        ),
        (
            {"disk_needs": [{"path": "/mnt", "need_gib": 1, "what": "the image"}]},
            "the free space of /mnt could not be read",
        ),
    ],
)
def test_a_host_that_cannot(arguments: dict[str, Any], said: str) -> None:
    (found,) = problems(**arguments)
    assert found.startswith("gpu-1: ")
    assert said in found


def plans(**changes: Any) -> HostPlans:
    """ONE with two replicas."""
    return HostPlans(plans={"gpt-oss-20b": {"replicas": 2, "in_use": "", **changes}})


def test_a_plan_that_cannot_be_is_told_with_the_others() -> None:
    refused = HostPlans(problems=["vllm_instances (gpt-oss-20b): 5.2 GiB are missing."])
    assert problems(planned=refused) == [
        "gpu-1: vllm_instances (gpt-oss-20b): 5.2 GiB are missing."
    ]


def test_without_gpu_the_plan_is_not_blamed() -> None:
    refused = HostPlans(problems=["has GPUs that cannot be used."])
    told = problems({"nvidia_gpus": 0, "cdi_devices": []}, planned=refused)
    assert len(told) == 1
    assert "no NVIDIA GPU is on the PCI bus" in told[0]


@pytest.mark.parametrize(
    ("others", "ports", "said"),
    [
        ([ONE | {"name": "b", "port": 8001}], [], "(b) wants port 8001, which vllm_instances"),
        ([ONE | {"name": "gpt-oss-20b-2", "port": 9000}], [], "name an engine gpt-oss-20b-2"),
        ([], [{"port": 8001, "what": "edge_port"}], "(gpt-oss-20b-2) wants port 8001, which is"),
    ],
    ids=["another instance", "a name", "the edge"],
)
def test_replicas_leave_others_their_ports_and_names(
    others: list[dict[str, Any]], ports: list[dict[str, Any]], said: str
) -> None:
    told = problems(others=others, ports=ports, planned=plans())
    assert len(told) == 1
    assert said in told[0]


def test_a_port_of_a_replica_that_is_taken_is_told() -> None:
    listening = [{"address": "0.0.0.0", "port": 8001, "process": "nginx"}]
    told = problems({"listening": listening}, planned=plans())
    assert len(told) == 1
    assert "(gpt-oss-20b-2) wants port 8001, on which nginx listens" in told[0]


def test_a_replica_on_the_host_is_not_forgotten() -> None:
    found = [{"name": "gpt-oss-20b-2", "current": "x", "replica_of": "gpt-oss-20b"}]
    assert problems({"instances": found}) == []


@pytest.mark.parametrize(("active", "told"), [("active", 0), ("inactive", 1)])
def test_memory_of_others_keeps_only_what_is_not_running(active: str, told: int) -> None:
    services = {"vllm@gpt-oss-20b.service": {"active": active}}
    assert len(problems({"services": services}, planned=plans(in_use="GPU 0 is full."))) == told


GPU_INFO: dict[str, Any] = {
    "state": "ok",
    "message": "",
    "gpus": [
        {
            "index": 0,
            "uuid": "GPU-8a56a4bc-b184-a047-2620-be19ba913c3d",
            "name": "NVIDIA H200",
            "compute_capability": "9.0",
            "memory_total_bytes": 143771 * 2**20,
            "memory_reserved_bytes": 615 * 2**20,
            "memory_free_bytes": 9 * GIB,
            "memory_used_bytes": 130 * GIB,
            "processes": [
                {"pid": 7, "name": "vllm", "memory_bytes": 130 * GIB, "container_id": "ours"}
            ],
        }
    ],
}


@pytest.mark.parametrize(("container", "in_use"), [("ours", False), ("another", True)])
def test_what_our_own_containers_hold_is_not_in_use_by_others(container: str, in_use: bool) -> None:
    """The facts name the container of each process; the state knows which are ours."""
    containers = {"vllm-gpt-oss-20b": {"id": container}, "vllm-gone": None}
    planned = plan_on(STATE | {"containers": containers}, [ONE], GPU_INFO, "0.32.0", 60)
    assert planned.problems == []
    assert bool(planned.plans["gpt-oss-20b"]["in_use"]) is in_use


def test_what_this_run_brings_is_no_problem_yet() -> None:
    """Until the toolkit is there nothing names a GPU; behind it, that is a problem again."""
    bare = {**STATE, "cdi_devices": [], "nvidia_gpus": 1}
    asked = {"hostname": "gpu-1", "facts": FACTS, "state": bare, "instances": [ONE]}
    assert not [line for line in check_host(**asked, coming=["toolkit"]) if "CDI" in line]
    assert [line for line in check_host(**asked) if "no CDI specification names them" in line]
