# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""nginx is held back until the edge has configured it, and stopped when the edge goes.

The task files are real, the paths lie beside the test, and systemctl notes how it was called.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook

TASKS = Path(__file__).resolve().parents[2] / "roles/edge/tasks"
HOLD = "ConditionPathExists=!/"
# Asked for one property or for all, it tells all.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> {directory}/calls
case "$*" in
  stop*) {on_stop} ;;
  *is-enabled*) echo enabled ;;
  *is-active*) echo active ;;
  *--version*) echo "systemd 252" ;;
  *show*) printf 'Id=nginx.service\\nNames=nginx.service\\nLoadState={load}\\n'
          printf 'ActiveState=active\\nSubState=running\\nUnitFileState=enabled\\n' ;;
esac
"""


class EdgeHost:
    """What the edge has on a host, below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.distribution = directory / "nginx.conf.distribution"
        self.configuration = directory / "nginx/vllm"
        self.dropin = directory / "nginx.service.d/vllm.conf"
        self.socket = directory / "status.sock"
        self.hook = directory / "hook"
        self.on_stop = ":"

    def uninstall(self, *arguments: str, load: str = "loaded") -> str:
        """Run uninstall.yml on a host that has what the test has made; what was printed."""
        tasks = yaml.safe_load((TASKS / "uninstall.yml").read_text())
        reads = [task for task in tasks if "baremetal.vllm.host_state" in task]
        assert reads == tasks[:1]
        tested = [self.distribution, self.dropin, self.socket, self.hook]
        # Nothing of the nginx of this machine is looked at.
        found = {path: {"exists": False} for path in ("/etc/nginx/nginx.conf", "/usr/sbin/nginx")}
        found |= {str(path): {"exists": path.exists()} for path in tested}
        service = {"load": load, "active": "active" if load == "loaded" else "inactive"}
        left = {"paths": found, "services": {"nginx.service": service}}
        return self.run(tasks[1:], *arguments, load=load, __edge_left={"host_state": left})

    def run(
        self, tasks: list[dict[str, Any]], *arguments: str, load: str = "loaded", **more: Any
    ) -> str:
        """Run tasks of the role with its variables; what ansible-playbook printed."""
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "_edge_distribution_conf": str(self.distribution),
            "_edge_directory": str(self.configuration),
            "_edge_dropin": str(self.dropin),
            "_edge_status_socket": str(self.socket),
            "_edge_acme_hook": str(self.hook),
        }
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars_files": [str(TASKS.parent / "vars/main.yml")],
            "tasks": tasks,
        }
        (self.directory / "play.yml").write_text(json.dumps([play]))
        (self.directory / "variables.json").write_text(json.dumps(variables | more))
        programs = self.directory / "bin"
        programs.mkdir(exist_ok=True)
        program = programs / "systemctl"
        program.write_text(
            SYSTEMCTL.format(directory=self.directory, load=load, on_stop=self.on_stop)
        )
        program.chmod(0o755)
        done = ansible_playbook(
            self.directory,
            *["-i", "localhost,", "-e", "@variables.json", "play.yml", *arguments],
            PATH=f"{programs}:{os.environ['PATH']}",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def calls(self) -> list[str]:
        """How systemctl was called to change something."""
        calls = self.directory / "calls"
        verbs = ("daemon-reload", "disable", "stop", "reload", "start", "restart", "enable")
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line for line in lines if line.split()[0] in verbs]


@pytest.fixture
def edge(tmp_path: Path) -> EdgeHost:
    host = EdgeHost(tmp_path)
    host.configuration.parent.mkdir()
    return host


# -- nginx goes with the edge --------------------------------------------------------------------


def test_nginx_is_stopped_where_the_edge_was_interrupted_before_its_configuration(
    edge: EdgeHost,
) -> None:
    edge.dropin.parent.mkdir()
    edge.dropin.write_text(f"[Unit]\n{HOLD}\n")
    edge.uninstall()
    assert edge.calls() == [
        "daemon-reload",
        "disable nginx.service",
        "stop nginx.service",
        "daemon-reload",
    ]
    assert not edge.dropin.parent.exists()


def test_nginx_may_be_stopped_before_it_is(edge: EdgeHost) -> None:
    edge.dropin.parent.mkdir()
    edge.dropin.write_text("[Unit]\nRefuseManualStop=yes\n[Service]\nKillSignal=SIGQUIT\n")
    seen = edge.directory / "seen"
    edge.on_stop = f"cp {edge.dropin} {seen}"
    edge.uninstall()
    assert seen.read_text() == "[Unit]\n[Service]\nKillSignal=SIGQUIT\n"


def test_nginx_that_was_there_before_the_edge_is_stopped_too(edge: EdgeHost) -> None:
    edge.distribution.write_text("events {}\n")
    edge.uninstall()
    assert edge.calls()[:3] == ["daemon-reload", "disable nginx.service", "stop nginx.service"]


def test_nginx_is_not_stopped_in_check_mode(edge: EdgeHost) -> None:
    edge.distribution.write_text("events {}\n")
    assert "changed=2 " in edge.uninstall("--check")
    assert edge.calls() == []
    assert edge.distribution.exists()


def test_nginx_of_a_host_without_an_edge_is_left_alone(edge: EdgeHost) -> None:
    output = edge.uninstall()
    assert edge.calls() == []
    assert "changed=0 " in output


def test_an_edge_whose_package_is_gone_is_removed(edge: EdgeHost) -> None:
    edge.dropin.parent.mkdir()
    edge.dropin.write_text("[Unit]\nRefuseManualStop=yes\n")
    edge.configuration.mkdir()
    edge.uninstall(load="not-found")
    assert edge.calls() == ["daemon-reload"]
    assert not edge.dropin.exists()
    assert not edge.configuration.exists()


# -- nginx waits for its configuration -----------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "active", "edge_is_there", "held"),
    [
        (None, "inactive", False, True),
        ("1.22.1-9", "inactive", False, True),
        (None, "inactive", True, True),
        ("1.22.1-9", "inactive", True, False),
        ("1.22.1-9", "active", True, False),
        # Its upgrade was interrupted.
        (None, "active", True, False),
    ],
)
def test_nginx_is_held_back_where_the_package_could_start_it(
    edge: EdgeHost, package: str | None, active: str, edge_is_there: bool, held: bool
) -> None:
    state = {
        "packages": {"nginx": package, "libnginx-mod-http-js": None},
        "services": {"nginx.service": {"active": active, "enabled": "disabled"}},
        "paths": {str(edge.distribution): {"exists": edge_is_there}},
    }
    output = edge.run(
        yaml.safe_load((TASKS / "install.yml").read_text()),
        "--check",
        "--diff",
        __preflight_host_state={"host_state": state},
        __bundle_in_use=True,  # apt is not asked
        __edge_packages_missing=["nginx"],
    )
    assert (HOLD in output) is held, output
    assert not edge.dropin.exists()


def test_packages_leave_nothing_behind_that_denies_them_an_upgrade() -> None:
    tasks = yaml.safe_load((TASKS / "install.yml").read_text())
    modules = [set(task) & {"baremetal.vllm.file_set", "ansible.builtin.apt"} for task in tasks]
    order = [name for names in modules for name in names]
    assert order == ["baremetal.vllm.file_set", "ansible.builtin.apt"], "held before it is there"
    for task in tasks:
        assert "policy_rc_d" not in task.get("ansible.builtin.apt", {})
