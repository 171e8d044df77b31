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


SUPPORTED = "supported are Debian 12, Debian 13, Ubuntu 22.04, Ubuntu 24.04; install one of them."
NAMES = (
    "but the host's CDI specification names 0, 1, GPU-8a56a4bc-b184-a047-2620-be19ba913c3d, all;"
    " ask for those, or run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` if it is out of"
    " date."
)
UNNAMED = (
    "has NVIDIA GPUs but no CDI specification names them; install the driver and the NVIDIA"
    " container toolkit, then run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`."
)
TAKEN = "wants port 22, on which sshd listens (0.0.0.0); stop it or choose another port."


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
            "facts": {"distribution": "Ubuntu", "distribution_version": "22.04"},
            "edge_models": ["a"],
        },
        {"edge_models": ["a", "b"]},
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
            f"runs Debian 11.9; {SUPPORTED}",
        ),
        (
            {"facts": {"distribution": "Rocky", "distribution_version": "9.4"}},
            f"runs Rocky 9.4; {SUPPORTED}",
        ),
        ({"facts": {"distribution_version": "120"}}, f"runs Debian 120; {SUPPORTED}"),
        (
            {"facts": {"service_mgr": "sysvinit"}},
            "is run by sysvinit and not by systemd, which keeps the engines; boot it with systemd.",
        ),
        (
            {"state": {"nvidia_gpus": 0, "cdi_devices": ["example.com/nic=0"]}},
            "vllm_instances (gpt-oss-20b) wants GPUs (gpus: all) but no NVIDIA GPU is on the PCI"
            " bus; fit one, or set gpus: none for the CPU engine.",
        ),
        ({"instance": {"gpus": 3}}, f"vllm_instances (gpt-oss-20b) wants GPUs 2 {NAMES}"),
        ({"instance": {"gpus": [5]}}, f"vllm_instances (gpt-oss-20b) wants GPUs 5 {NAMES}"),
        (
            {"state": {"read": {"/etc/docker/daemon.json": "{"}}},
            "/etc/docker/daemon.json is not valid JSON (Expecting property name enclosed in double"
            " quotes: line 1 column 2 (char 1)); mend it, nothing is merged into it.",
        ),
        (
            {"state": {"read": {"/etc/docker/daemon.json": "[]"}}},
            "/etc/docker/daemon.json holds no JSON object; mend it, nothing is merged into it.",
        ),
        ({"state": {"cdi_devices": []}}, UNNAMED),
        (
            {"instance": {"model": "/srv/x"}},
            "vllm_instances (gpt-oss-20b) serves /srv/x, which is not on the host; copy the model"
            " there, or name a Hugging Face id.",
        ),
        (
            {
                "instance": {"model": "/srv/f"},
                "state": {"paths": {"/srv/f": {"exists": True, "type": "file"}}},
            },
            "vllm_instances (gpt-oss-20b) serves /srv/f, which is a file; name the directory that"
            " holds config.json and the weights.",
        ),
        (
            {"instance": {"port": 22}},
            f"vllm_instances (gpt-oss-20b) {TAKEN}",
        ),
        (
            {
                "instance": {"port": 22},
                "state": {
                    "instances": [{"name": "older", "current": "ab", "publish": "127.0.0.1:22"}]
                },
                "others": [{"name": "older", "model": "a/b", "state": "absent"}],
            },
            f"vllm_instances (gpt-oss-20b) {TAKEN}",
        ),
        (
            {"state": {"instances": [{"name": "older", "current": "ab"}]}},
            "has the instance older, which vllm_instances does not name; list it with state: absent"
            " to remove it.",
        ),
        (
            {
                "ports": [{"port": 8080, "what": "edge_port"}],
                "state": {"services": {"nginx.service": {"active": "active"}}},
            },
            "runs an nginx that serves something else, whose configuration the edge would replace;"
            " stop it (systemctl disable --now nginx), or make another host the edge.",
        ),
        ({"ports": [{"port": 22, "what": "edge_port"}]}, f"edge_port {TAKEN}"),
        (
            {
                "facts": {"distribution": "Ubuntu", "distribution_version": "22.04"},
                "edge_models": ["a", "b"],
            },
            "runs Ubuntu 22.04, whose nginx has no njs module, by which an edge routes between"
            " several models (a, b); give the edge another system, or serve one model.",
        ),
        (
            {
                "ports": [{"port": 22, "what": "edge_port"}],
                "state": {"listening": [{"port": 22}]},
            },
            "edge_port wants port 22, on which another program listens (*); stop it or choose"
            " another port.",
        ),
        (
            {"disk_needs": [{"path": "/var/lib/docker", "need_gib": 60, "what": "the image"}]},
            "/var/lib/docker has 50.0 GiB free and the image needs 60 GiB; make room or put a"
            " larger disk there.",
        ),
        (
            {"disk_needs": [{"path": "/mnt", "need_gib": 1, "what": "the image"}]},
            "the free space of /mnt could not be read; look at its mount.",
        ),
    ],
)
def test_a_host_that_cannot(arguments: dict[str, Any], said: str) -> None:
    assert problems(**arguments) == [f"gpu-1: {said}"]


def test_a_host_on_which_no_systemd_answers_cannot_keep_engines() -> None:
    facts = {name: value for name, value in FACTS.items() if name != "service_mgr"}
    assert check_host("gpu-1", facts, STATE | {"systemd": None}, []) == [
        "gpu-1: is run by another init and not by systemd, which keeps the engines; boot it with"
        " systemd."
    ]


ROOM = "replicas take the ports after their instance's, leave room for them."


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
    assert problems({"nvidia_gpus": 0, "cdi_devices": []}, planned=refused) == [
        "gpu-1: vllm_instances (gpt-oss-20b) wants GPUs (gpus: all) but no NVIDIA GPU is on the PCI"
        " bus; fit one, or set gpus: none for the CPU engine."
    ]


@pytest.mark.parametrize(
    ("others", "ports", "said"),
    [
        (
            [ONE | {"name": "b", "port": 8001}],
            [],
            f"(b) wants port 8001, which vllm_instances (gpt-oss-20b-2) has too; {ROOM}",
        ),
        (
            [ONE | {"name": "gpt-oss-20b-2", "port": 9000}],
            [],
            "(gpt-oss-20b-2) would name an engine gpt-oss-20b-2, as vllm_instances (gpt-oss-20b)"
            " does; rename one of them.",
        ),
        (
            [],
            [{"port": 8001, "what": "edge_port"}],
            f"(gpt-oss-20b-2) wants port 8001, which is edge_port; {ROOM}",
        ),
    ],
    ids=["another instance", "a name", "the edge"],
)
def test_replicas_leave_others_their_ports_and_names(
    others: list[dict[str, Any]], ports: list[dict[str, Any]], said: str
) -> None:
    assert problems(others=others, ports=ports, planned=plans()) == [
        f"gpu-1: vllm_instances {said}"
    ]


def test_a_port_of_a_replica_that_is_taken_is_told() -> None:
    listening = [{"address": "0.0.0.0", "port": 8001, "process": "nginx"}]
    assert problems({"listening": listening}, planned=plans()) == [
        "gpu-1: vllm_instances (gpt-oss-20b-2) wants port 8001, on which nginx listens (0.0.0.0);"
        " stop it or choose another port."
    ]


def test_a_replica_on_the_host_is_not_forgotten() -> None:
    found = [{"name": "gpt-oss-20b-2", "current": "x", "replica_of": "gpt-oss-20b"}]
    assert problems({"instances": found}) == []


@pytest.mark.parametrize(
    ("active", "told"), [("active", []), ("inactive", ["gpu-1: GPU 0 is full."])]
)
def test_memory_of_others_keeps_only_what_is_not_running(active: str, told: list[str]) -> None:
    services = {"vllm@gpt-oss-20b.service": {"active": active}}
    assert problems({"services": services}, planned=plans(in_use="GPU 0 is full.")) == told


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
    assert check_host(**asked, coming=["toolkit"]) == []
    assert check_host(**asked) == [f"gpu-1: {UNNAMED}"]
