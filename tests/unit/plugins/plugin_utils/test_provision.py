# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Which parts below vLLM a host is asked for, and what they are told of each other."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _provision
from ansible_collections.baremetal.vllm.plugins.plugin_utils._provision import (
    Provision,
    needs,
    parts,
    provision,
)

ON_GPU = [{"name": "a", "model": "b/c"}]
ON_CPU = [{"name": "a", "model": "b/c", "gpus": "none"}]


class Part:
    """Stands for the decision of one part, and keeps what it was told."""

    def __init__(self, **result: Any) -> None:
        self.result = {"problems": [], "notes": [], "converged": True} | result
        self.told: dict[str, Any] = {}

    def plan(self, facts: Any, state: Any, settings: dict[str, Any]) -> dict[str, Any]:
        self.told = dict(settings)
        return self.result


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, Part]:
    made = {
        "driver": Part(converged=False, notes=["old"]),
        "engine": Part(problems=["no engine"]),
        "toolkit": Part(daemon_options={"runtimes": {"nvidia": {}}}),
        "tuning": Part(),
    }
    monkeypatch.setattr(_provision, "_MODULES", made)
    return made


def decide(instances: list[dict[str, Any]], **more: Any) -> Provision:
    settings = {role: {"source": role} for role in _provision.ROLES.values()}
    state = {
        "services": {
            "vllm@a.service": {"active": "active"},
            "vllm@b.service": {"active": "inactive"},
            "vllm@c.service": {"active": "deactivating"},
            "vllm@d.service": {"active": "failed"},
            "docker.service": {"active": "active"},
        },
        "read": {"/etc/nginx/vllm/in_force": more.pop("edge_in_force", None)},
    }
    return provision({}, state, more.pop("gpu_info", None), instances, settings, **more)


@pytest.mark.parametrize(
    ("gpu_host", "gpus", "expected"),
    [
        (True, True, ["driver", "engine", "toolkit", "tuning"]),
        (True, False, ["engine", "tuning"]),
        (False, False, ["tuning"]),
        (False, True, ["tuning"]),
    ],
)
def test_a_host_is_asked_for_what_it_needs(gpu_host: bool, gpus: bool, expected: list[str]) -> None:
    assert parts(gpu_host, gpus) == expected


def test_an_edge_is_read_for_less_than_a_gpu_host() -> None:
    edge, host = needs(False, False), needs(True, True)
    assert set(edge) == set(host) == {"packages", "services", "read", "paths"}
    assert "docker.service" in host["services"] and "docker.service" not in edge["services"]
    assert "/etc/docker/daemon.json" in host["read"]


def test_each_part_has_its_own_variables_and_the_common_ones(stand_ins: dict[str, Part]) -> None:
    decide(ON_GPU, local=True)
    for part, stand_in in stand_ins.items():
        assert stand_in.told["source"] == _provision.ROLES[part]
        assert stand_in.told["serving"] == ["vllm@a.service", "vllm@c.service"]
        assert stand_in.told["local"] is True
        assert stand_in.told["wants_gpus"] is True


def test_toolkit_hears_of_the_driver_and_engine_of_the_toolkit(stand_ins: dict[str, Part]) -> None:
    decide(ON_GPU)
    assert stand_ins["toolkit"].told["driver_changes"] is True
    assert stand_ins["engine"].told["extra_options"] == {"runtimes": {"nvidia": {}}}


def test_a_host_without_gpus_hears_nothing_of_them(stand_ins: dict[str, Part]) -> None:
    decided = decide(ON_CPU)
    assert list(decided.plans) == ["engine", "tuning"]
    assert "extra_options" not in stand_ins["engine"].told
    assert decided.as_json()["driver"]["converged"] is True
    assert decided.as_json()["parts"] == ["engine", "tuning"]


def test_absent_instances_want_nothing(stand_ins: dict[str, Part]) -> None:
    assert list(decide([ON_GPU[0] | {"state": "absent"}]).plans) == ["engine", "tuning"]


def test_problems_notes_and_needs_are_those_of_all_parts(stand_ins: dict[str, Part]) -> None:
    decided = decide(ON_GPU)
    assert decided.needed == ["driver"]
    assert decided.problems == ["no engine"]
    assert decided.notes == ["old"]


@pytest.mark.parametrize(
    ("driver", "edge_in_force", "expected"),
    [
        ({"may_reboot": True}, "0123456789ab\n", True),
        ({"may_reboot": True}, None, False),
        ({"may_reboot": False}, "0123456789ab\n", False),
        ({"may_reboot": True, "converged": True}, "0123456789ab\n", False),
    ],
)
def test_an_edge_that_may_reboot_is_alone(
    stand_ins: dict[str, Part], driver: dict[str, Any], edge_in_force: str | None, expected: bool
) -> None:
    stand_ins["driver"].result |= driver
    decided = decide(ON_GPU, edge_in_force=edge_in_force)
    assert decided.in_turn is decided.as_json()["in_turn"] is expected


def test_what_the_run_has_not_brought_is_told_in_its_own_words(stand_ins: dict[str, Part]) -> None:
    stand_ins["driver"].result["reboot"] = "nouveau is loaded; reboot the host."
    assert decide(ON_GPU).missing == ["nouveau is loaded; reboot the host."]
    stand_ins["driver"].result["reboot"] = None
    assert decide(ON_GPU).missing == [
        "nvidia_driver has not brought the host to its state; run playbooks/doctor.yml."
    ]


@pytest.mark.parametrize(
    ("gpu_info", "expected"),
    [
        (None, None),
        ({"state": "no_driver", "gpus": []}, None),
        ({"state": "ok", "gpus": [{"uuid": "GPU-1", "mig": None}]}, ["GPU-1"]),
        (
            {
                "state": "ok",
                "gpus": [
                    {"uuid": "GPU-1", "mig": {"enabled": False, "instances": []}},
                    {"uuid": "GPU-2", "mig": {"enabled": True, "instances": [{"uuid": "MIG-3"}]}},
                    {"uuid": "GPU-4", "mig": {"enabled": True, "instances": []}},
                ],
            },
            ["GPU-1", "MIG-3"],
        ),
    ],
)
def test_cdi_gives_instances_in_place_of_a_gpu_that_is_cut(
    stand_ins: dict[str, Part], gpu_info: dict[str, Any] | None, expected: list[str] | None
) -> None:
    decide(ON_GPU, gpu_info=gpu_info)
    assert stand_ins["toolkit"].told["gpu_uuids"] == expected
