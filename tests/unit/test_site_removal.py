# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""site.yml removes instances behind proved edges only. Its plays are real, the roles stand in."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook

SITE = Path(__file__).resolve().parents[2] / "playbooks" / "site.yml"
NOTHING = [{"ansible.builtin.meta": "noop"}]
EDGE = [
    {
        "ansible.builtin.fail": {"msg": "the edge gives no token"},
        "when": "inventory_hostname in failing",
    }
]
REMOVE = [{"ansible.builtin.debug": {"msg": "removed a of {{ inventory_hostname }}"}}]
ROLES = {
    "edge": {"main.yml": NOTHING, "verify.yml": EDGE},
    "vllm": {"ready.yml": NOTHING, "remove.yml": REMOVE},
}
GPU_HOSTS = ["gpu1", "gpu2"]
EDGES = ["edge1", "edge2"]
BOTH = ["removed a of gpu1", "removed a of gpu2"]
MARK = "Find the edges that have let go of the instances to remove"


def site(
    directory: Path, *arguments: str, failing: list[str], **groups: list[str]
) -> tuple[int, str]:
    """Run site.yml with stage.yml done: return its status and what it printed."""
    for role, files in ROLES.items():
        tasks = directory / "ansible_collections/baremetal/vllm/roles" / role / "tasks"
        tasks.mkdir(parents=True)
        for name, content in files.items():
            (tasks / name).write_text(json.dumps(content))
    shutil.copy(SITE, directory)
    (directory / "stage.yml").write_text(json.dumps([{"hosts": "{{ [] }}", "tasks": []}]))
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "failing": failing,
        "edge_vip_address": "",
        "__preflight_host_state": {
            "host_state": {
                "paths": {"/etc/systemd/system/keepalived.service.d/vllm.conf": {"exists": False}}
            }
        },
        "__vllm_plan": {"remove": [{"name": "a"}]},
    }
    groups = {"gpu_hosts": GPU_HOSTS, "vllm_converged": GPU_HOSTS} | groups
    inventory: dict[str, Any] = {
        name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()
    }
    inventory["all"] = {"vars": variables}
    (directory / "hosts.yml").write_text(json.dumps(inventory))
    done = ansible_playbook(
        directory,
        "-i",
        "hosts.yml",
        "site.yml",
        *arguments,
        ANSIBLE_COLLECTIONS_PATH=str(directory),
    )
    return done.returncode, done.stdout + done.stderr


def removed(output: str) -> list[str]:
    return [line for line in BOTH if line in output]


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["run", "check"])
def test_instances_go_when_every_edge_is_proved(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, output = site(tmp_path, *arguments, failing=[], edge_hosts=EDGES, vllm_removing=GPU_HOSTS)
    assert code == 0, output
    assert removed(output) == BOTH, output


@pytest.mark.parametrize(
    ("failing", "converged"),
    [(["edge1"], GPU_HOSTS), (["edge2"], []), (EDGES, [])],
    ids=["one", "one, and GPU hosts go on", "all, and GPU hosts go on"],
)
def test_nothing_goes_while_an_edge_may_still_ask_it(
    tmp_path: Path, failing: list[str], converged: list[str]
) -> None:
    code, output = site(
        tmp_path,
        failing=failing,
        edge_hosts=EDGES,
        vllm_removing=GPU_HOSTS,
        vllm_converged=converged,
    )
    assert code != 0, output
    assert removed(output) == [], output
    assert f"{', '.join(failing)} failed or took no part in this run" in output, output


def test_nothing_goes_while_limit_leaves_an_edge_out(tmp_path: Path) -> None:
    code, output = site(
        tmp_path,
        "--limit",
        "gpu_hosts,edge2",
        failing=[],
        edge_hosts=EDGES,
        vllm_removing=GPU_HOSTS,
    )
    assert code != 0, output
    assert removed(output) == [], output
    assert "edge1 failed or took no part in this run" in output, output


def test_check_mode_passes_where_a_host_still_lacks_its_driver(tmp_path: Path) -> None:
    """Then no edge is asked."""
    code, output = site(
        tmp_path,
        "--check",
        failing=EDGES,
        edge_hosts=EDGES,
        vllm_removing=["gpu1"],
        vllm_unplanned=["gpu2"],
    )
    assert code == 0, output
    assert removed(output) == BOTH[:1], output


def test_hosts_that_front_themselves_wait_for_their_own_edge_only(tmp_path: Path) -> None:
    code, output = site(tmp_path, failing=["gpu1"], vllm_removing=GPU_HOSTS)
    assert code != 0, output
    assert removed(output) == BOTH[1:], output


def test_a_run_that_removes_nothing_has_no_task_for_it(tmp_path: Path) -> None:
    code, output = site(tmp_path, failing=[], edge_hosts=EDGES)
    assert code == 0, output
    plays = output.split(f"PLAY [{MARK}]")
    assert len(plays) == 2, output
    assert "TASK [" not in plays[1], output
