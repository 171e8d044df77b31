# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._host_plan import (
    image_to_run,
    plan_host,
)

DIGEST = "sha256:" + "1" * 64
REPOSITORY = "registry.example/vllm/vllm-openai"
LOCAL = f"localhost/vllm/vllm-openai:{'1' * 64}"
SETTINGS = {
    "release": "0.32.0",
    "image": f"{REPOSITORY}@{DIGEST}",
    "listen_address": "192.0.2.7",
    "state_directory": "/var/lib/vllm",
    "container_user": "2000:0",
    "models": {
        "openai/gpt-oss-20b": {"commit": "c0", "directory": "/store/openai--gpt-oss-20b/c0"},
    },
}
ONE = {"name": "gpt-oss-20b", "model": "openai/gpt-oss-20b", "gpus": "none"}
UNIT = "vllm@gpt-oss-20b.service"


def running(release: str, **changes: Any) -> dict[str, Any]:
    """The state of a host that serves ONE from this release."""
    state: dict[str, Any] = {
        "images": {},
        "services": {UNIT: {"active": "active", "enabled": "enabled"}},
        "containers": {"vllm-gpt-oss-20b": {"labels": {"baremetal.vllm.release": release}}},
        "instances": [{"name": "gpt-oss-20b", "current": release}],
    }
    return state | changes


@pytest.mark.parametrize(
    ("reference", "found", "pulled", "runs"),
    [
        (f"{REPOSITORY}@{DIGEST}", None, None, LOCAL),
        (f"{REPOSITORY}:v0.32.0@{DIGEST}", None, None, LOCAL),
        (f"{REPOSITORY}:v1", None, f"{REPOSITORY}@{DIGEST}", LOCAL),
        (f"{REPOSITORY}:v1", None, None, f"{REPOSITORY}:v1"),
        (f"{REPOSITORY}:v1", {"id": "sha256:ab", "digest": DIGEST, "local": LOCAL}, None, LOCAL),
        (
            "docker.io/vllm/vllm-openai:v1",
            {"id": "sha256:ab", "digest": DIGEST, "local": ""},
            None,
            LOCAL,
        ),
        ("built/here:v1", {"id": "sha256:ab", "digest": "", "local": ""}, None, "sha256:ab"),
    ],
    ids=["digest", "tag and digest", "pulled", "unknown yet", "on the host", "hub", "built here"],
)
def test_image_that_runs(
    reference: str, found: dict[str, Any] | None, pulled: str | None, runs: str
) -> None:
    assert image_to_run(reference, found, pulled) == runs


def test_a_host_that_loaded_its_image_has_the_release_of_one_that_pulled_it() -> None:
    image = {"id": "sha256:ab", "digest": DIGEST, "local": LOCAL}
    states: list[dict[str, Any]] = [
        {"images": {SETTINGS["image"]: {**image, "repo_digests": digests}}}
        for digests in ([], [f"{REPOSITORY}@{DIGEST}"])
    ]
    loaded, pulled = (plan_host([ONE], SETTINGS, state)["files"] for state in states)
    assert loaded == pulled
    assert any(LOCAL in file["content"] for file in loaded)


def test_a_virgin_host_has_everything_pending_and_serves_nothing() -> None:
    plan = plan_host([ONE], SETTINGS, {})
    assert [release["name"] for release in plan["pending"]] == ["gpt-oss-20b"]
    assert plan["serving"] is False
    assert plan["remove"] == []
    assert plan["endpoints"] == [
        {
            "name": "gpt-oss-20b",
            "served_name": "gpt-oss-20b",
            "adapters": [],
            "address": "192.0.2.7",
            "port": 8000,
        }
    ]


def test_a_host_that_runs_the_release_has_nothing_pending() -> None:
    release = plan_host([ONE], SETTINGS, {})["releases"][0]["id"]
    assert plan_host([ONE], SETTINGS, running(release))["pending"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"services": {UNIT: {"active": "failed", "enabled": "enabled"}}},
        {"services": {UNIT: {"active": "active", "enabled": "disabled"}}},
        {"containers": {"vllm-gpt-oss-20b": {"labels": {"baremetal.vllm.release": "older"}}}},
        {"containers": {"vllm-gpt-oss-20b": None}},
        {"instances": [{"name": "gpt-oss-20b", "current": None}]},
    ],
    ids=["stopped", "not at boot", "container of another release", "no container", "not switched"],
)
def test_whatever_a_killed_run_left_is_pending(changes: dict[str, Any]) -> None:
    release = plan_host([ONE], SETTINGS, {})["releases"][0]["id"]
    assert len(plan_host([ONE], SETTINGS, running(release, **changes))["pending"]) == 1


@pytest.mark.parametrize(
    ("started", "proved_at", "proved"),
    [(1000, 1090.5, True), (1000, 999.0, False), (1000, None, False), (None, 1090.5, False)],
    ids=["since the start", "before a restart", "never", "not running"],
)
def test_a_process_is_proved_by_a_token_since_its_start(
    started: int | None, proved_at: float | None, proved: bool
) -> None:
    state = running(
        "any",
        services={UNIT: {"active": "active", "enabled": "enabled", "active_enter": started}},
        instances=[{"name": "gpt-oss-20b", "current": "any", "proved_at": proved_at}],
    )
    assert plan_host([ONE], SETTINGS, state)["releases"][0]["proved"] is proved


def test_a_host_that_serves_another_release_is_switched() -> None:
    plan = plan_host([ONE], SETTINGS, running("older"))
    assert plan["serving"] is True


def test_an_absent_instance_is_removed_where_it_is_and_forgotten_elsewhere() -> None:
    gone = ONE | {"state": "absent"}
    assert plan_host([gone], SETTINGS, running("x"))["remove"] == [
        {"name": "gpt-oss-20b", "replica_of": ""}
    ]
    assert plan_host([gone], SETTINGS, {})["remove"] == []
    assert plan_host([gone], SETTINGS, {})["files"] == []


TWICE: dict[str, Any] = {
    "flags": {"max-num-seqs": 256},
    "env": {},
    "replicas": 2,
    "devices": [["GPU-a"], ["GPU-b"]],
    "in_use": "",
}


def planned(**changes: Any) -> dict[str, Any]:
    """The plan of a host whose instance has two replicas."""
    state = changes.pop("state", {})
    return plan_host([ONE], SETTINGS, state, None, {"gpt-oss-20b": TWICE | changes})


@pytest.mark.parametrize(
    ("modules", "names"),
    [
        (["sql=/models/sql", "law=/models/a=b"], ["law", "sql"]),
        (['{"name": "sql", "path": "/models/sql", "base_model_name": "a"}'], ["sql"]),
        ([{"name": "sql", "path": "/models/sql"}], ["sql"]),
        ("sql=/models/sql", ["sql"]),
        (["{broken", "nothing", ""], []),
    ],
)
def test_endpoints_name_their_adapters(modules: Any, names: list[str]) -> None:
    instance = ONE | {"options": {"enable-lora": True, "lora_modules": modules}}
    (endpoint,) = plan_host([instance], SETTINGS, {})["endpoints"]
    assert endpoint["adapters"] == names


def test_replicas_are_engines_of_one_name_on_ports_of_their_own() -> None:
    plan = planned()
    assert [
        (endpoint["name"], endpoint["served_name"], endpoint["port"])
        for endpoint in plan["endpoints"]
    ] == [("gpt-oss-20b", "gpt-oss-20b", 8000), ("gpt-oss-20b-2", "gpt-oss-20b", 8001)]
    one, two = plan["releases"]
    assert (one["unit"], two["unit"]) == ("vllm@gpt-oss-20b.service", "vllm@gpt-oss-20b-2.service")
    assert one["served_name"] == two["served_name"] == "gpt-oss-20b"
    assert "served-model-name: gpt-oss-20b\n" in two["files"]["config.yaml"]
    assert "--device nvidia.com/gpu=GPU-a" in one["files"]["run"]
    assert "--device nvidia.com/gpu=GPU-b" in two["files"]["run"]
    assert "--publish 192.0.2.7:8001:8000" in two["files"]["run"]
    assert '"replica_of": "gpt-oss-20b"' in two["files"]["release.json"]
    assert "replica_of" not in one["files"]["release.json"]


REPLICAS = [
    {"name": "gpt-oss-20b", "current": "x", "replica_of": None},
    {"name": "gpt-oss-20b-2", "current": "x", "replica_of": "gpt-oss-20b"},
    {"name": "gpt-oss-20b-3", "current": "x", "replica_of": "gpt-oss-20b"},
    {"name": "another", "current": "x", "replica_of": None},
]


def test_a_replica_that_no_plan_has_any_more_gives_way_and_is_removed() -> None:
    services = {"vllm@gpt-oss-20b-3.service": {"active": "active"}}
    plan = planned(state={"instances": REPLICAS, "services": services})
    assert plan["remove"] == [{"name": "gpt-oss-20b-3", "replica_of": "gpt-oss-20b"}]
    assert plan["releases"][0]["gives_way"] == ["vllm@gpt-oss-20b-3.service"]


def test_an_absent_instance_takes_its_replicas_with_it() -> None:
    plan = plan_host([ONE | {"state": "absent"}], SETTINGS, {"instances": REPLICAS})
    assert [entry["name"] for entry in plan["remove"]] == [
        "gpt-oss-20b",
        "gpt-oss-20b-2",
        "gpt-oss-20b-3",
    ]


def test_an_engine_is_not_started_on_a_gpu_that_others_fill() -> None:
    with pytest.raises(ValueError, match="pid 77 holds it"):
        planned(in_use="vllm_instances (gpt-oss-20b): pid 77 holds it.")


def test_an_engine_that_runs_is_not_kept_from_its_gpu() -> None:
    def state() -> dict[str, Any]:
        releases = planned(replicas=1)["releases"]
        return running(releases[0]["id"])

    assert planned(replicas=1, in_use="full", state=state())["pending"] == []


def test_caches_belong_to_the_container_and_releases_to_root() -> None:
    plan = plan_host([ONE], SETTINGS, {})
    directories = {entry["path"]: entry for entry in plan["directories"]}
    private = {"mode": "0700", "owner": "2000", "group": "0"}
    assert private.items() <= directories["/var/lib/vllm/gpt-oss-20b/cache"].items()
    assert all(entry["path"].rpartition("/")[0] in directories for entry in plan["files"])
    modes = {entry["path"].rpartition("/")[2]: entry["mode"] for entry in plan["files"]}
    assert (modes["run"], modes["environment"], modes["config.yaml"]) == ("0755", "0600", "0644")


def test_another_commit_of_the_model_is_another_release() -> None:
    moved = {"openai/gpt-oss-20b": {"commit": "c1", "directory": "/store/openai--gpt-oss-20b/c1"}}
    before = plan_host([ONE], SETTINGS, {})["releases"][0]["id"]
    pending = plan_host([ONE], SETTINGS | {"models": moved}, running(before))["pending"]
    assert [release["id"] == before for release in pending] == [False]


def test_two_instances_of_a_model_mount_one_copy() -> None:
    two = ONE | {"name": "two", "port": 8001}
    releases = plan_host([ONE, two], SETTINGS, {})["releases"]
    mount = "source=/store/openai--gpt-oss-20b/c0,target=/model,readonly"
    assert [release["files"]["run"].count(mount) for release in releases] == [1, 1]
