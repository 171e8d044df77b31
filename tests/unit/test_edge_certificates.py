# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the role edge makes of a certificate: its place, whether it serves, when to get another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook

ROLES = Path(__file__).resolve().parents[2] / "roles"
NOW = 1795326300
DAY = 86400
DIRECTORY = "https://acme.example.net/directory"
LIVE = "/etc/letsencrypt/live/llm.example.com"
GOOD = {
    "problem": "",
    "fingerprint": "9c56",
    "chain_fingerprint": "51b3",
    "names": ["llm.example.com"],
    "not_before": NOW - 30 * DAY,
    "not_after": NOW + 60 * DAY,
    "now": NOW,
}
ACME: dict[str, Any] = {
    "edge_tls": "acme",
    "edge_server_names": ["llm.example.com"],
    "edge_acme_directory": DIRECTORY,
    "edge_acme_port": 80,
}
FILES = {
    "edge_tls": "files",
    "edge_server_names": [],
    "edge_acme_directory": DIRECTORY,
    "edge_tls_certificate": "/etc/ssl/llm.pem",
    "edge_tls_key": "/etc/ssl/llm.key",
}
SELF_SIGNED = {"edge_tls": "self_signed", "edge_server_names": ["llm.home.arpa"]}
NONE = {"edge_tls": "none", "edge_server_names": []}


def state(
    certificate: str, found: dict[str, Any] | None = None, **host: Any
) -> dict[str, dict[str, Any]]:
    read = {"/etc/letsencrypt/renewal/llm.example.com.conf": host.pop("renewal", None)}
    paths = {
        "/etc/nginx/vllm/challenges.conf": {"exists": host.pop("challenges", False)},
        "/etc/letsencrypt/renewal-hooks/deploy/nginx-vllm": {"exists": host.pop("hook", False)},
    }
    services = {"nginx-vllm-acme.service": {"active": host.pop("alone", "inactive")}}
    listening = [{"port": port, "process": name} for port, name in host.pop("listening", [])]
    assert host == {}
    return {
        "host_state": {
            "certificates": {
                certificate: {"problem": f"{certificate} is not there"} | (found or {})
            },
            "read": read,
            "paths": paths,
            "services": services,
            "listening": listening,
        }
    }


def of_acme(**host: Any) -> dict[str, dict[str, Any]]:
    known = {"found": GOOD, "renewal": f"a = 1\nserver = {DIRECTORY}\n"}
    return state(f"{LIVE}/fullchain.pem", **{**known, **host})


def derived(directory: Path, cases: list[dict[str, Any]], expression: str) -> list[Any]:
    """Evaluate an expression with the role's variables, once for each case."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLES / role / "vars/main.yml") for role in ("preflight", "edge")],
        "tasks": [
            {
                "ansible.builtin.include_tasks": "case.yml",
                "loop": [f"case{number}.json" for number in range(len(cases))],
            },
            {
                "ansible.builtin.copy": {
                    "dest": str(directory / "answers.json"),
                    "content": "{{ answers | to_json }}",
                },
            },
        ],
    }
    tasks = [
        {"ansible.builtin.include_vars": "{{ item }}"},
        {
            "ansible.builtin.set_fact": {
                "answers": "{{ answers | default([]) + [" + expression + "] }}"
            }
        },
    ]
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (directory / "hosts.yml").write_text(json.dumps({"gpu_hosts": {"hosts": {"localhost": local}}}))
    (directory / "play.yml").write_text(json.dumps([play]))
    (directory / "case.yml").write_text(json.dumps(tasks))
    for number, case in enumerate(cases):
        (directory / f"case{number}.json").write_text(json.dumps(case))
    done = ansible_playbook(directory, "-i", "hosts.yml", "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    answers: list[Any] = json.loads((directory / "answers.json").read_text())
    return answers


def test_preflight_reads_what_the_edge_serves_with(tmp_path: Path) -> None:
    expression = (
        "[_preflight_certificates, [{'certificate': __edge_certificate,"
        " 'key': __edge_certificate_key}] if edge_tls != 'none' else []]"
    )
    files = {"certificate": "/etc/ssl/llm.pem", "key": "/etc/ssl/llm.key"}
    own = dict.fromkeys(("certificate", "key"), "/etc/nginx/vllm/tls/server.pem")
    live = {"certificate": f"{LIVE}/fullchain.pem", "key": f"{LIVE}/privkey.pem"}
    answers = derived(tmp_path, [FILES, SELF_SIGNED, ACME, NONE], expression)
    assert answers == [[[files]] * 2, [[own]] * 2, [[live]] * 2, [[]] * 2]


def test_clients_are_served_where_there_is_something_to_serve_with(tmp_path: Path) -> None:
    own = "/etc/nginx/vllm/tls/server.pem"
    cases = [
        NONE | {"__preflight_host_state": state("")},
        FILES | {"__preflight_host_state": state("/etc/ssl/llm.pem", GOOD)},
        SELF_SIGNED | {"__preflight_host_state": state(own, GOOD)},
        SELF_SIGNED | {"__preflight_host_state": state(own)},
        ACME | {"__preflight_host_state": of_acme()},
        ACME | {"__preflight_host_state": of_acme(found=None)},
    ]
    expression = "[__edge_serves_clients | bool, __edge_certificate_revision]"
    assert derived(tmp_path, cases, expression) == [
        [True, ""],
        [True, "51b3"],
        [True, "51b3"],
        [False, ""],
        [True, f"{DIRECTORY} llm.example.com"],
        [False, DIRECTORY],
    ]


def test_nginx_is_reloaded_for_what_certbot_does_not_renew_by_itself(tmp_path: Path) -> None:
    both = GOOD | {"names": ["llm.example.com", "api.example.com"]}
    known = ACME | {"__preflight_host_state": of_acme()}
    cases = [
        known,
        ACME
        | {
            "__preflight_host_state": of_acme(
                found=GOOD | {"fingerprint": "1234", "chain_fingerprint": "5678"}
            )
        },
        ACME | {"__preflight_host_state": of_acme(found=both)},
        known | {"edge_acme_directory": "https://staging.example.net/directory"},
    ]
    before, renewed, renamed, moved = derived(tmp_path, cases, "__edge_certificate_revision")
    assert renewed == before
    assert len({before, renamed, moved}) == 3


def test_nginx_is_reloaded_for_another_chain_behind_the_same_certificate(tmp_path: Path) -> None:
    found = [GOOD, GOOD | {"chain_fingerprint": "5678"}]
    cases = [FILES | {"__preflight_host_state": state("/etc/ssl/llm.pem", each)} for each in found]
    before, repaired = derived(tmp_path, cases, "__edge_certificate_revision")
    assert repaired != before


REASONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "there and good": ({}, []),
    "none": ({"found": None}, ["there is none"]),
    "none, and certbot knows nothing": ({"found": None, "renewal": None}, ["there is none"]),
    "other names": ({"found": GOOD | {"names": ["a.example.com"]}}, ["it is for a.example.com"]),
    "capitals": ({"found": GOOD | {"names": ["LLM.example.com"]}}, []),
    "a third is left": ({"found": GOOD | {"not_after": NOW + 15 * DAY}}, []),
    "a seventh is left": (
        {"found": GOOD | {"not_after": NOW + 5 * DAY}},
        ["it has not been renewed in time"],
    ),
    "another directory": (
        {"renewal": "server = https://staging.example.net/directory\n"},
        ["it is of another directory"],
    ),
    "a longer address": (
        {"renewal": f"server = {DIRECTORY}/2\n"},
        ["it is of another directory"],
    ),
    "by challenges of the edge": (
        {
            "renewal": "authenticator = webroot\nwebroot_path = /var/lib/nginx-vllm-acme,\n"
            f"server = {DIRECTORY}\n"
        },
        [],
    ),
    "by certbot's own nginx": (
        {"renewal": f"authenticator = nginx\nserver = {DIRECTORY}\n"},
        ["certbot would renew it in another way"],
    ),
    "by challenges of a site that was there before": (
        {
            "renewal": "authenticator = webroot\nwebroot_path = /var/www/html,\n"
            f"server = {DIRECTORY}\n"
        },
        ["certbot would renew it in another way"],
    ),
}


def test_certbot_is_asked_only_for_what_its_timer_will_not_do(tmp_path: Path) -> None:
    cases = [
        ACME | {"__preflight_host_state": of_acme(**arguments)}
        for arguments, _reasons in REASONS.values()
    ]
    answers = derived(tmp_path, cases, "__edge_acme_reasons")
    assert dict(zip(REASONS, answers)) == {
        case: reasons for case, (_arguments, reasons) in REASONS.items()
    }


ANSWERED: dict[str, tuple[dict[str, Any], list[bool]]] = {
    "nobody": ({}, [False, False]),
    "the edge": ({"listening": [(80, "nginx")], "challenges": True}, [True, True]),
    "the edge, but clients": ({"listening": [(80, "nginx")]}, [True, False]),
    "the edge elsewhere": ({"listening": [(8443, "nginx")], "challenges": True}, [False, False]),
    "one that a killed run left": (
        {"listening": [(80, "nginx")], "alone": "active"},
        [False, False],
    ),
}


def test_who_answers_challenges(tmp_path: Path) -> None:
    cases = [
        ACME | {"__preflight_host_state": of_acme(**arguments)}
        for arguments, _answers in ANSWERED.values()
    ]
    expression = "[__edge_acme_port_is_nginx | bool, __edge_acme_answered | bool]"
    assert dict(zip(ANSWERED, derived(tmp_path, cases, expression))) == {
        case: answers for case, (_arguments, answers) in ANSWERED.items()
    }


def test_what_certbot_has_left_is_removed_where_it_is_not_wanted(tmp_path: Path) -> None:
    cases = [
        ACME | {"__preflight_host_state": of_acme(hook=True)},
        FILES | {"__preflight_host_state": of_acme(hook=True)},
        FILES | {"__preflight_host_state": of_acme(hook=False)},
    ]
    assert derived(tmp_path, cases, "__edge_acme_left | bool") == [False, True, False]


def test_certbot_keeps_what_the_operator_serves_with_now(tmp_path: Path) -> None:
    files = [
        {"path": f"/etc/letsencrypt/renewal/{name}.conf"}
        for name in ("llm.example.com", "llm.example.com-0001")
    ]
    left = {"__edge_acme_lineages": {"files": files}}
    live = {"edge_tls_certificate": f"{LIVE}/fullchain.pem", "edge_tls_key": f"{LIVE}/privkey.pem"}
    elsewhere = {"edge_tls_certificate": "", "edge_tls_key": ""}
    answers = derived(
        tmp_path, [left | FILES | live, left | ACME | elsewhere], "__edge_acme_unwanted"
    )
    assert answers == [["llm.example.com-0001"], ["llm.example.com", "llm.example.com-0001"]]


def test_an_uninstall_that_was_cut_short_keeps_no_edge_at_work(tmp_path: Path) -> None:
    tasks = yaml.safe_load((ROLES / "edge" / "tasks" / "uninstall.yml").read_text())
    names = [task["name"] for task in tasks]
    reload = names.index("Reload nginx with the distribution's configuration")
    # certbot may fail.
    assert names.index("Remove what certificates of an authority needed") > reload
    # The run before has removed all files, and did not come to the reload; or it did.
    removed = {"__edge_removed": {"changed": False}}
    cases = [
        FILES
        | removed
        | {"__edge_left": {"host_state": {"paths": {"/run/nginx-vllm-status.sock": found}}}}
        for found in ({"exists": True}, {"exists": False})
    ]
    condition = tasks[reload]["when"][0]
    assert derived(tmp_path, cases, f"({condition}) | bool") == [True, False]


# -- the hook of certbot -------------------------------------------------------------------------


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """The hook, with programs in its PATH that note how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("nginx", "systemctl"):
        program = programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n'
            f'grep -qx "{name} $1" {tmp_path}/failing && exit 1 || exit 0\n'
        )
        program.chmod(0o755)
    (tmp_path / "failing").touch()
    text = (ROLES / "edge/templates/certificate/hook.sh.j2").read_text()
    for name, value in {
        "_edge_marker": "",
        "__edge_acme_live": LIVE,
        "_edge_service": "nginx.service",
    }.items():
        text = text.replace("{{ " + name + " }}", value)
    assert "{{" not in text
    path = tmp_path / "hook"
    path.write_text(text)
    path.chmod(0o755)
    return path


def called(hook: Path, lineage: str | None, *failing: str) -> tuple[int, list[str]]:
    """Run the hook; return its status and what it called."""
    (hook.parent / "failing").write_text("".join(f"{line}\n" for line in failing))
    environment = {"PATH": f"{hook.parent / 'bin'}:{os.environ['PATH']}"}
    if lineage is not None:
        environment["RENEWED_LINEAGE"] = lineage
    done = subprocess.run([hook], env=environment, check=False)
    calls = hook.parent / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


RUNNING = "systemctl is-active --quiet nginx.service"
TESTED = "nginx -t -q"


def test_nginx_takes_a_renewed_certificate_over(hook: Path) -> None:
    assert called(hook, LIVE) == (0, [RUNNING, TESTED, "systemctl reload nginx.service"])


@pytest.mark.parametrize("lineage", ["/etc/letsencrypt/live/mail.example.com", None])
def test_certificates_of_others_are_left_alone(hook: Path, lineage: str | None) -> None:
    assert called(hook, lineage) == (0, [])


def test_an_nginx_that_does_not_run_is_not_started(hook: Path) -> None:
    assert called(hook, LIVE, "systemctl is-active") == (0, [RUNNING])


def test_a_configuration_that_does_not_hold_is_not_taken_over(hook: Path) -> None:
    assert called(hook, LIVE, "nginx -t") == (1, [RUNNING, TESTED])
