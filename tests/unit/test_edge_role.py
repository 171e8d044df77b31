# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The role edge in check mode, after a run that was cut off, and before it changes a host.

Its tasks are real; modules of this collection and systemctl stand in and note what they are asked.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook

ROLES = Path(__file__).resolve().parents[2] / "roles"
DROPIN = "/etc/systemd/system/certbot.service.d/nginx-vllm.conf"
MODEL = {"address": "127.0.0.1", "adapters": []}
ONE = [MODEL | {"name": "a", "served_name": "a", "port": 8000}]
TWO = [*ONE, MODEL | {"name": "b", "served_name": "b", "port": 8001}]
NJS = "libnginx-mod-http-js"
WRITE = "Write the configuration if nginx accepts all of it"
DAEMON_RELOAD = ["daemon-reload"]
ACME: dict[str, Any] = {
    **{"edge_tls": "acme", "edge_server_names": ["llm.example.com"]},
    **{"edge_listen_address": "0.0.0.0", "edge_port": 443, "edge_plain_http": False},
    **{"edge_acme_email": "operator@example.com", "edge_api_keys": {"alice": "a" * 32}},
}
MODULE = """#!{python}
# WANT_JSON
import json, sys
with open(sys.argv[1]) as file:
    asked = json.load(file)
with open({calls!r}, "a") as file:
    file.write(json.dumps([{name!r}, asked]) + "\\n")
print({answer!r})
"""


@dataclass(frozen=True)
class Done:
    code: int
    output: str
    changed: int
    written: list[dict[str, Any]]
    """What file_set was asked for, call by call."""
    commands: list[list[str]]
    """What systemctl was called with."""

    def configuration(self) -> dict[str, Any]:
        """The call that writes nginx's configuration."""
        [call] = [one for one in self.written if "nginx.conf" in paths(one)]
        return call


def paths(call: dict[str, Any]) -> str:
    return " ".join(file["path"] for file in call["files"])


def host(**different: Any) -> dict[str, Any]:
    """A host on which the edge of `ONE` is at work."""
    service = {"active": "active", "enabled": "enabled", "need_daemon_reload": False}
    packages = {"nginx": "1.22.1-9", NJS: None, "certbot": "2.1.0-4", "openssl": "3.0.17-1"}
    known = {
        "platform": {"distribution": "Debian", "distribution_version": "12.9"},
        "packages": packages | different.pop("packages", {}),
        "services": {
            "nginx.service": service | different.pop("nginx", {}),
            "nginx-vllm-acme.service": service | {"active": "inactive"},
            "certbot.timer": service,
        },
        "paths": {
            "/etc/nginx/nginx.conf.distribution": {"exists": True},
            "/etc/nginx/vllm/challenges.conf": {"exists": False},
            "/etc/letsencrypt/renewal-hooks/deploy/nginx-vllm": {"exists": False},
        },
        "read": {"/etc/letsencrypt/renewal/llm.example.com.conf": None},
        "certificates": {},
        "listening": [],
    }
    assert set(different) <= set(known)
    return {"host_state": known | different}


def edge(
    directory: Path,
    *arguments: str,
    state: dict[str, Any],
    endpoints: list[dict[str, Any]] | None = None,
    **variables: Any,
) -> Done:
    """Run the role on a host of this state, where every file is as it should be."""
    collection = directory / "ansible_collections/baremetal/vllm"
    modules = collection / "plugins/modules"
    modules.mkdir(parents=True)
    (collection / "roles").mkdir()
    (collection / "roles/edge").symlink_to(ROLES / "edge")
    calls = directory / "calls"
    calls.touch()
    answers = {"file_set": {"changed": False, "changed_paths": []}, "host_state": state}
    for name, answer in answers.items():
        text = MODULE.format(
            python=sys.executable, calls=str(calls), name=name, answer=json.dumps(answer)
        )
        (modules / f"{name}.py").write_text(text)
    programs = directory / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"with open({str(calls)!r}, 'a') as file:\n"
        "    file.write(json.dumps(['systemctl', sys.argv[1:]]) + '\\n')\n"
    )
    (programs / "systemctl").chmod(0o755)
    own = {
        **{"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        **{"__preflight_host_state": state, "__vllm_plan": {"endpoints": endpoints or ONE}},
    }
    inventory = {"gpu_hosts": {"hosts": {"localhost": own | variables}}}
    play = {
        "hosts": "gpu_hosts",
        "gather_facts": False,
        "environment": {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"},
        "tasks": [{"ansible.builtin.include_role": {"name": "baremetal.vllm.edge"}}],
    }
    (directory / "hosts.yml").write_text(json.dumps(inventory))
    (directory / "play.yml").write_text(json.dumps([play]))
    done = ansible_playbook(
        directory,
        *("-i", "hosts.yml", "play.yml", *arguments),
        ANSIBLE_COLLECTIONS_PATH=str(directory),
    )
    noted = [json.loads(line) for line in calls.read_text().splitlines()]
    recap = done.stdout.rpartition("changed=")[2].split()
    return Done(
        done.returncode,
        done.stdout + done.stderr,
        int(recap[0]) if recap else -1,
        [asked for name, asked in noted if name == "file_set"],
        [asked for name, asked in noted if name == "systemctl"],
    )


# -- check mode ----------------------------------------------------------------------------------


def test_nothing_is_validated_by_an_nginx_that_lacks_a_module_yet(tmp_path: Path) -> None:
    # A bundle has the package, which the host does not know in check mode.
    done = edge(tmp_path, "--check", state=host(), endpoints=TWO, __bundle_in_use=True)
    assert done.code == 0, done.output
    assert done.configuration().get("validate") is None
    assert f"nothing was validated, this host has no {NJS} yet" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "packages"),
    [(["--check"], {NJS: "1.22.1-9"}), (["--check"], {"nginx": None, NJS: None}), ([], {NJS: "1"})],
    ids=["check", "check without nginx, of which file_set warns", "run"],
)
def test_an_nginx_that_has_all_validates_its_configuration(
    tmp_path: Path, arguments: list[str], packages: dict[str, str | None]
) -> None:
    state = host(packages=packages)
    done = edge(tmp_path, *arguments, state=state, endpoints=TWO, __bundle_in_use=True)
    assert done.code == 0, done.output
    assert done.configuration()["validate"] == "nginx -t -q -c %s/etc/nginx/nginx.conf"


# -- a run that was cut off ----------------------------------------------------------------------


def test_a_drop_in_that_systemd_has_not_read_is_taken_over(tmp_path: Path) -> None:
    done = edge(tmp_path, state=host(nginx={"need_daemon_reload": True}))
    assert done.code == 0, done.output
    # And nginx itself is neither restarted nor reloaded.
    assert done.commands == [DAEMON_RELOAD]
    assert done.changed == 1, done.output


def test_check_mode_tells_that_systemd_has_to_read_a_drop_in(tmp_path: Path) -> None:
    done = edge(tmp_path, "--check", state=host(nginx={"need_daemon_reload": True}))
    assert (done.code, done.commands, done.changed) == (0, [], 1), done.output


def test_a_run_with_nothing_to_do_changes_nothing(tmp_path: Path) -> None:
    done = edge(tmp_path, state=host())
    assert (done.code, done.commands, done.changed) == (0, [], 0), done.output


def test_the_drop_in_of_certbot_is_taken_over_whenever_that_is_still_to_do(tmp_path: Path) -> None:
    done = edge(tmp_path, "--check", state=host(), **ACME)
    assert done.code == 0, done.output
    [call] = [one for one in done.written if DROPIN in paths(one)]
    assert call["apply"] == ["systemctl daemon-reload"]


# -- the port of challenges ----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["run", "check"])
def test_the_port_of_challenges_is_not_taken_from_clients(
    tmp_path: Path, arguments: list[str]
) -> None:
    listening = [{"address": "0.0.0.0", "port": 80, "process": "nginx"}]
    state = host(listening=listening, packages={"certbot": None})
    done = edge(tmp_path, *arguments, state=state, __bundle_in_use=True, **ACME)
    assert done.code != 0, done.output
    assert "nginx serves clients at port 80" in " ".join(done.output.split())
    assert (done.written, done.commands, done.changed) == ([], [], 0)


# -- addresses -----------------------------------------------------------------------------------


EVERY = "0.0.0.0"
Sockets = list[tuple[str, int, Optional[str]]]
OF_ONE: Sockets = [("127.0.0.1", 8080, "nginx")]
OF_ALL: Sockets = [("0.0.0.0", 8080, "nginx")]
IN_THE_WAY: dict[str, tuple[str, Sockets, list[str], bool]] = {
    "nobody listens": (EVERY, [], [], False),
    "as it shall be": (EVERY, OF_ALL, [], False),
    "one and shall have all": (EVERY, OF_ONE, ["127.0.0.1:8080"], True),
    "all and shall have one": ("10.0.0.5", OF_ALL, ["0.0.0.0:8080"], True),
    "one and shall have another": ("10.0.0.5", OF_ONE, [], False),
    "another port": (EVERY, [("127.0.0.1", 8443, "nginx")], [], False),
    "the port of challenges": (EVERY, [("10.0.0.5", 80, "nginx")], ["10.0.0.5:80"], True),
    "IPv6, one and shall have all": ("::", [("::1", 8080, "nginx")], ["[::1]:8080"], True),
    "IPv6, all and shall have one": ("::1", [("::", 8080, "nginx")], ["[::]:8080"], True),
    "IPv6 beside IPv4": ("::", OF_ONE, [], False),
    "another program": (EVERY, [("10.0.0.5", 8080, None)], ["10.0.0.5:8080"], False),
    "nginx and another program": (
        EVERY,
        [*OF_ONE, ("10.0.0.5", 8080, "python3")],
        ["127.0.0.1:8080", "10.0.0.5:8080"],
        False,
    ),
}


def test_nginx_lets_go_of_what_it_cannot_listen_beside(tmp_path: Path) -> None:
    cases = [
        {
            **{"edge_listen_address": wanted, "edge_port": 8080},
            **{"edge_tls": "acme", "edge_acme_port": 80},
            "__preflight_host_state": host(
                listening=[
                    {"address": address, "port": port, "process": process}
                    for address, port, process in listening
                ]
            ),
        }
        for wanted, listening, _way, _lets_go in IN_THE_WAY.values()
    ]
    answer = "[__edge_in_the_way | map(attribute='where') | list, __edge_lets_go | bool]"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLES / "edge/vars/main.yml")],
        "tasks": [{"ansible.builtin.include_tasks": "case.yml", "loop": cases}],
    }
    gathered = "{{ answers | default([]) + [" + answer + "] }}"
    tasks: list[dict[str, Any]] = [
        {
            "ansible.builtin.set_fact": {"answers": gathered},
            "vars": {name: "{{ item." + name + " }}" for name in cases[0]},
        },
        {
            "ansible.builtin.copy": {
                "dest": str(tmp_path / "answers.json"),
                "content": "{{ answers | to_json }}",
            }
        },
    ]
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    (tmp_path / "case.yml").write_text(json.dumps(tasks))
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"localhost": local}}}))
    done = ansible_playbook(tmp_path, "-i", "hosts.yml", "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert dict(zip(IN_THE_WAY, answers)) == {
        case: [way, lets_go] for case, (_wanted, _listening, way, lets_go) in IN_THE_WAY.items()
    }


@pytest.mark.parametrize("process", ["nginx", "python3"])
def test_check_mode_tells_that_nginx_would_let_go(tmp_path: Path, process: str) -> None:
    """The reload itself is notified by what an interrupted run has left in force."""
    state = host(
        listening=[{"address": "127.0.0.1", "port": 8080, "process": process}],
        read={"/etc/nginx/vllm/in_force": "0123456789ab\n"},
    )
    done = edge(tmp_path, "--check", state=state, edge_listen_address=EVERY)
    assert (done.code, done.commands) == (0, []), done.output
    told = "nginx would let go of 127.0.0.1:8080" in " ".join(done.output.split())
    assert told == (process == "nginx")
