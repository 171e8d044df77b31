# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""site.yml removes instances, and edges that are none any more, behind proved edges only.

Its plays are real, and those of uninstall.yml; the roles stand in.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
NOTHING = [{"ansible.builtin.meta": "noop"}]
EDGE = [
    {
        "ansible.builtin.fail": {"msg": "the edge gives no token"},
        "when": "inventory_hostname in failing",
    }
]


def says(what: str) -> list[dict[str, Any]]:
    return [{"ansible.builtin.debug": {"msg": what + " of {{ inventory_hostname }}"}}]


ROLES = {
    "bundle": {"uninstall.yml": NOTHING},
    "edge": {"main.yml": NOTHING, "verify.yml": EDGE, "uninstall.yml": says("removed the edge")},
    "edge_vip": {
        "main.yml": says("looked after the address"),
        "uninstall.yml": says("took the address"),
    },
    "host_tuning": {"uninstall.yml": NOTHING},
    "vllm": {
        "ready.yml": NOTHING,
        "remove.yml": says("removed a"),
        "uninstall.yml": says("removed all"),
    },
}
GPU_HOSTS = ["gpu1", "gpu2"]
EDGES = ["edge1", "edge2"]
BOTH = ["removed a of gpu1", "removed a of gpu2"]
FIND = "Find the hosts that are no edge any more"
MARK = "Find the edges that know what is to be removed no more"
IN_FORCE = "/etc/nginx/vllm/in_force"
KEPT = "/etc/nginx/nginx.conf.distribution"
ADDRESS = "/etc/systemd/system/keepalived.service.d/vllm.conf"


def found(*left: str, active: bool = False) -> dict[str, Any]:
    """What preflight has read on a host.

    :param left: files that an edge, or the virtual address, has there.
    :param active: whether nginx and keepalived run.
    """
    unit = {"active": "active" if active else "inactive"}
    return {
        "host_state": {
            "read": {IN_FORCE: "0123456789ab" if IN_FORCE in left else None},
            "paths": {path: {"exists": path in left} for path in (KEPT, ADDRESS)},
            "services": {"keepalived.service": unit, "nginx.service": unit},
        }
    }


def site(
    directory: Path,
    *arguments: str,
    failing: list[str],
    states: Mapping[str, Any] | None = None,
    playbook: str = "site.yml",
    **groups: list[str],
) -> tuple[int, str]:
    """Run site.yml with stage.yml done: return its status and what it printed.

    :param states: what preflight has read on a host, where that is not `found()`.
    """
    for role, files in ROLES.items():
        tasks = directory / "ansible_collections/baremetal/vllm/roles" / role / "tasks"
        tasks.mkdir(parents=True)
        for name, content in files.items():
            (tasks / name).write_text(json.dumps(content))
    shutil.copy(PLAYBOOKS / playbook, directory)
    preflight = {"ansible.builtin.set_fact": {"__preflight_host_state": "{{ to_read }}"}}
    stage = [{"hosts": "all", "gather_facts": False, "tasks": [preflight]}]
    (directory / "stage.yml").write_text(json.dumps(stage))
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "failing": failing,
        "edge_vip_address": "",
        "__vllm_plan": {"remove": [{"name": "a"}]},
    }
    groups = {"gpu_hosts": GPU_HOSTS, "vllm_converged": GPU_HOSTS} | groups
    inventory: dict[str, Any] = {
        name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()
    }
    hosts = dict.fromkeys(chain.from_iterable(groups.values()), found()) | dict(states or {})
    inventory["all"] = {
        "vars": variables,
        "hosts": {host: {"to_read": state} for host, state in hosts.items()},
    }
    (directory / "hosts.yml").write_text(json.dumps(inventory))
    done = ansible_playbook(
        directory,
        "-i",
        "hosts.yml",
        playbook,
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
    (_before, behind) = output.split(f"PLAY [{FIND}]")
    assert "TASK [" not in behind.split("PLAY [")[0], output


# -- edges that are none any more ----------------------------------------------------------------

FORMER = found(KEPT, IN_FORCE, active=True)
HELD = found(KEPT, IN_FORCE, ADDRESS, active=True)
TOOK, TAKEN_OFF = "took the address of gpu2", "removed the edge of gpu2"


def told(output: str, *words: str) -> list[str]:
    """Which of those lines it printed, in that order."""
    return [word for line in output.splitlines() for word in words if word in line]


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["run", "check"])
@pytest.mark.parametrize("left", [KEPT, IN_FORCE, ADDRESS])
def test_a_host_that_is_no_edge_any_more_loses_it(
    tmp_path: Path, arguments: tuple[str, ...], left: str
) -> None:
    states = {"gpu1": FORMER, "gpu2": found(left)}
    code, output = site(tmp_path, *arguments, failing=[], states=states, edge_hosts=["gpu1"])
    assert code == 0, output
    assert told(output, TOOK, TAKEN_OFF)[-2:] == [TOOK, TAKEN_OFF], output
    assert "of gpu1" not in output, output


def test_every_gpu_host_loses_its_own_edge_to_the_edges_that_come(tmp_path: Path) -> None:
    """And before its instances go: they may have streams through it."""
    code, output = site(
        tmp_path,
        failing=[],
        states=dict.fromkeys(GPU_HOSTS, FORMER),
        edge_hosts=EDGES,
        vllm_removing=["gpu2"],
    )
    assert code == 0, output
    assert "removed the edge of gpu1" in output, output
    assert told(output, TAKEN_OFF, BOTH[1]) == [TAKEN_OFF, BOTH[1]], output


def test_hosts_that_front_themselves_keep_their_edges(tmp_path: Path) -> None:
    code, output = site(tmp_path, failing=[], states=dict.fromkeys(GPU_HOSTS, FORMER))
    assert code == 0, output
    assert "removed the edge" not in output, output


def test_a_former_edge_stays_while_those_of_the_inventory_fail(tmp_path: Path) -> None:
    states = {"gpu2": FORMER}
    code, output = site(tmp_path, failing=["edge1"], states=states, edge_hosts=EDGES)
    assert code != 0, output
    assert told(output, TOOK, TAKEN_OFF) == [], output
    assert "gpu2 is no edge any more" in output, output
    assert "edge1 failed or took no part in this run" in output, output


def test_a_former_edge_stays_while_limit_leaves_an_edge_out(tmp_path: Path) -> None:
    """Also with the virtual address: this run has not seen who could take it over."""
    states = dict.fromkeys([*EDGES, "gpu2"], HELD)
    limit = ("--limit", "gpu_hosts,edge2")
    code, output = site(tmp_path, *limit, failing=[], states=states, edge_hosts=EDGES)
    assert code != 0, output
    assert told(output, TOOK, TAKEN_OFF) == [], output
    assert "edge1 failed or took no part in this run" in output, output


def test_a_limit_without_the_former_edge_leaves_it_alone(tmp_path: Path) -> None:
    states = {"gpu2": FORMER}
    limit = ("--limit", "gpu1,edge_hosts")
    code, output = site(tmp_path, *limit, failing=[], states=states, edge_hosts=EDGES)
    assert code == 0, output
    assert told(output, TOOK, TAKEN_OFF) == [], output


LOOKED = "looked after the address of edge1"


def test_the_address_goes_to_edges_that_stay_before_they_forget_who_held_it(
    tmp_path: Path,
) -> None:
    states = {"gpu2": HELD, "edge1": HELD}
    code, output = site(tmp_path, failing=[], states=states, edge_hosts=EDGES)
    assert code == 0, output
    assert told(output, TOOK, LOOKED, TAKEN_OFF) == [TOOK, LOOKED, TOOK, TAKEN_OFF], output


def test_the_address_stays_until_new_edges_serve(tmp_path: Path) -> None:
    states = {"gpu2": HELD, "edge1": found(ADDRESS)}
    code, output = site(tmp_path, failing=[], states=states, edge_hosts=EDGES)
    assert code == 0, output
    assert told(output, TOOK, LOOKED, TAKEN_OFF) == [LOOKED, TOOK, TAKEN_OFF], output


def test_hosts_that_front_themselves_again_are_asked_for_the_address_they_shared(
    tmp_path: Path,
) -> None:
    """Without the group edge_hosts nobody shares one."""
    code, output = site(tmp_path, failing=[], states={"gpu2": HELD}, vllm_converged=[])
    assert code == 0, output
    assert "looked after the address of gpu2" in output, output
    assert "looked after the address of gpu1" not in output, output


@pytest.mark.parametrize("groups", [{"edge_hosts": ["gpu1"]}, {"edge_hosts": EDGES}, {}])
def test_uninstalling_takes_the_edge_off_a_gpu_host_whatever_the_inventory_says(
    tmp_path: Path, groups: dict[str, list[str]]
) -> None:
    code, output = site(tmp_path, "--limit", "gpu2", failing=[], playbook="uninstall.yml", **groups)
    assert code == 0, output
    expected = [TOOK, TAKEN_OFF, "removed all of gpu2"]
    assert told(output, *expected) == expected, output
