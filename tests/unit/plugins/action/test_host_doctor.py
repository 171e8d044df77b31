# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""playbooks/doctor.yml as a person runs it, on hosts that are this machine or nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.baremetal.vllm.plugins.action import host_doctor
from ansible_collections.baremetal.vllm.plugins.plugin_utils import (
    _doctor,
    _doctor_report,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_edge import Certificate
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import (
    Commands,
    Finding,
    Findings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import (
    HostVariables,
    RoleInterfaces,
)
from ansible_collections.baremetal.vllm.tests.unit.playbooks import COLLECTION, ansible_playbook

IS_ROOT = os.geteuid() == 0
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
AWAY = {
    "ansible_host": "127.0.0.1",
    "ansible_port": 1,
    "ansible_ssh_common_args": "-o BatchMode=yes -o ConnectTimeout=5",
}


def doctor(directory: Path, hosts: dict[str, Any], *extra: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook on hosts that serve on the CPU: GPUs of this machine do not matter."""
    instances = [{"name": "gpt-oss-20b", "model": "openai/gpt-oss-20b", "gpus": "none"}]
    group = {
        "hosts": hosts,
        "vars": {"vllm_instances": instances, "vllm_state_directory": str(directory / "state")},
    }
    (directory / "hosts.json").write_text(json.dumps({"gpu_hosts": group}))
    command = [str(COLLECTION / "playbooks/doctor.yml"), "-i", "hosts.json"]
    for each in extra:
        command += ["-e", each]
    return ansible_playbook(directory, *command, ANSIBLE_REMOTE_TEMP=str(directory / "remote"))


def written(directory: Path) -> dict[str, Any]:
    content = json.loads((directory / "found.json").read_text())
    assert isinstance(content, dict)
    return content


def test_a_host_that_is_away_does_not_stop_the_others(tmp_path: Path) -> None:
    done = doctor(tmp_path, {"away": AWAY, "here": HERE}, "doctor_json=found.json")
    assert done.returncode == 2, done.stdout + done.stderr
    found = {(each["host"], each["code"]): each for each in written(tmp_path)["findings"]}
    assert found["away", "unreachable"]["what"].startswith("The host cannot be reached: ")
    assert found["away", "unreachable"]["mend"] == (
        "ansible -i hosts.json away -m ansible.builtin.ping -vvv"
    )
    assert ("here", "not_provisioned" if IS_ROOT else "unreadable") in found
    assert "  away  error     The host cannot be reached: " in done.stdout
    assert "The doctor found 1 error" in done.stdout + done.stderr


@pytest.mark.skipif(not IS_ROOT, reason="others than root are told so, and nothing else")
def test_notes_fail_no_run(tmp_path: Path) -> None:
    done = doctor(tmp_path, {"here": HERE}, "doctor_json=found.json", "doctor_fail_on=error")
    found = written(tmp_path)
    note = next(each for each in found["findings"] if each["code"] == "not_provisioned")
    assert note["what"].startswith("There is no vLLM instance on this host yet")
    assert note["mend"] == (f"ansible-playbook -i hosts.json {COLLECTION}/playbooks/site.yml")
    assert found["hosts"] == ["here"]
    assert (done.returncode == 0) == (found["counts"]["error"] == 0)
    assert "changed=0" in done.stdout


def test_never_fails_where_that_is_asked(tmp_path: Path) -> None:
    done = doctor(tmp_path, {"away": AWAY}, "doctor_fail_on=never")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The host cannot be reached" in done.stdout


@pytest.mark.parametrize(
    ("hosts", "extra", "said"),
    [
        ({}, (), "the inventory has no host in the group gpu_hosts"),
        ({"here": HERE}, ("doctor_jsn=found.json",), "did you mean doctor_json?"),
        ({"here": HERE}, ("doctor_fail_on=notes",), "must be one of: error, warning, never"),
        ({"here": HERE}, ("doctor_json=/nowhere/found.json",), "/nowhere/found.json cannot be"),
    ],
    ids=["no host", "misspelt", "severity", "file"],
)
def test_what_is_wrong_with_the_run_is_said(
    tmp_path: Path, hosts: dict[str, Any], extra: tuple[str, ...], said: str
) -> None:
    done = doctor(tmp_path, hosts, *extra)
    assert done.returncode == 2
    assert said in " ".join((done.stdout + done.stderr).split())


def test_a_host_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    hosts = {"here": HERE | {"vllm_state_directory": "not/absolute"}}
    done = doctor(tmp_path, hosts, "doctor_json=found.json")
    assert done.returncode == 2
    (finding,) = written(tmp_path)["findings"]
    assert finding["code"] == "unreadable"
    assert finding["what"].startswith("The host could not be examined: ")
    assert finding["mend"] == "ansible -i hosts.json here -b -m ansible.builtin.command -a true"


# -- what the inventory wants, and what comes back ------------------------------------------------


def settings(groups: dict[str, list[str]], **given: Any) -> _doctor.Settings:
    """Of the host gpu1 with these variables."""
    loader = DataLoader()
    instances = [
        {"name": "gpt-oss-20b", "model": "openai/gpt-oss-20b"},
        {"name": "small", "model": "a/b", "port": 8100, "gpus": "none"},
        {"name": "gone", "model": "a/b", "port": 8200, "state": "absent"},
    ]
    raw = {"inventory_hostname": "gpu1", "groups": groups, "vllm_instances": instances, **given}
    variables = HostVariables(RoleInterfaces(loader), raw, Templar(loader=loader, variables=raw))
    wanted = host_doctor._instances(variables, raw)
    return host_doctor._settings(variables, wanted, raw, Commands())


def test_what_an_inventory_wants() -> None:
    assert settings({"gpu_hosts": ["gpu1"]}, vllm_release="0.33.0") == _doctor.Settings(
        gpu_host=True,
        edge=True,
        wants_gpus=True,
        instances=["gpt-oss-20b", "small"],
        ports={8000: "the instance gpt-oss-20b", 8100: "the instance small", 8080: "the edge"},
        addresses={8000: "127.0.0.1", 8100: "127.0.0.1", 8080: "127.0.0.1"},
        edge_ports=[8080],
        managed=["docker", "driver", "toolkit"],
        by_hand=[],
        guard=True,
        vllm_release="0.33.0",
    )


def test_what_an_inventory_sets_otherwise() -> None:
    found = settings(
        {"gpu_hosts": ["gpu1"], "edge_hosts": ["edge1"]},
        vllm_address="10.0.0.5",
        nvidia_driver_source="preinstalled",
        docker_engine_source="distro",
        host_tuning_guard=False,
    )
    assert (found.edge, found.edge_ports, found.guard) == (False, [], False)
    assert (found.managed, found.by_hand) == (["toolkit"], ["driver"])
    assert found.ports == {8000: "the instance gpt-oss-20b", 8100: "the instance small"}
    assert found.addresses == {8000: "10.0.0.5", 8100: "10.0.0.5"}


def test_an_address_that_only_facts_can_tell_is_unknown() -> None:
    found = settings({"gpu_hosts": ["gpu1"], "edge_hosts": ["edge1"]})
    assert found.addresses == {8000: "", 8100: ""}


def test_an_edge_alone() -> None:
    found = settings(
        {"gpu_hosts": ["gpu2"], "edge_hosts": ["gpu1"]},
        edge_port=443,
        edge_listen_address="0.0.0.0",
    )
    assert (found.gpu_host, found.instances, found.wants_gpus) == (False, [], False)
    assert (found.ports, found.addresses) == ({443: "the edge"}, {443: "0.0.0.0"})
    assert found.certificate is None


@pytest.mark.parametrize(
    ("given", "certificate"),
    [
        (
            {"edge_tls": "files", "edge_tls_certificate": "/etc/a.pem", "edge_tls_key": "/etc/b"},
            Certificate("files", "/etc/a.pem", "/etc/b"),
        ),
        ({"edge_tls": "files", "edge_tls_certificate": "/etc/a.pem"}, None),
        (
            {"edge_tls": "self_signed", "edge_server_names": ["a.example"]},
            Certificate("self_signed", *["/etc/nginx/vllm/tls/server.pem"] * 2),
        ),
        (
            {"edge_tls": "acme", "edge_server_names": ["a.example", "b.example"]},
            Certificate(
                "acme",
                "/etc/letsencrypt/live/a.example/fullchain.pem",
                "/etc/letsencrypt/live/a.example/privkey.pem",
            ),
        ),
        (
            {"edge_tls": "acme", "edge_server_names": ["a"], "edge_acme_ca": "/etc/ca.pem"},
            Certificate(
                "acme",
                "/etc/letsencrypt/live/a/fullchain.pem",
                "/etc/letsencrypt/live/a/privkey.pem",
                "/etc/ca.pem",
            ),
        ),
        ({"edge_tls": "acme"}, None),  # preflight says what is missing
    ],
)
def test_certificate_of_an_edge(given: dict[str, Any], certificate: Certificate | None) -> None:
    found = settings({"gpu_hosts": ["gpu1"]}, **given)
    assert found.certificate == certificate
    # An engine's host behind another edge may have the same variables.
    assert settings({"gpu_hosts": ["gpu1"], "edge_hosts": ["x"]}, **given).certificate is None


def test_an_address_that_edges_share() -> None:
    given = {"edge_vip_address": "192.0.2.10/24"}
    assert settings({"gpu_hosts": ["gpu1"], "edge_hosts": ["gpu1"]}, **given).shares_address
    assert not settings({"gpu_hosts": ["gpu1"], "edge_hosts": ["x"]}, **given).shares_address


def test_challenges_have_a_port() -> None:
    given = {"edge_tls": "acme", "edge_port": 443, "edge_listen_address": "0.0.0.0"}
    found = settings({"gpu_hosts": ["gpu2"], "edge_hosts": ["gpu1"]}, **given)
    assert found.ports == {443: "the edge", 80: "the ACME challenges of the edge"}
    assert found.addresses == {443: "0.0.0.0", 80: "0.0.0.0"}
    assert found.edge_ports == [443, 80]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"root": True, "host_state": {}}, ""),
        ({"changed": False}, ""),  # gpu_info, which tells nothing of its user
        (
            {"root": False, "host_state": {}},
            "the user of its connection is not root; set ansible_become: true.",
        ),
        (
            {"root": False, "failed": True, "msg": "The host cannot be read."},
            "the user of its connection is not root; set ansible_become: true.",
        ),
        ({"root": True, "failed": True, "msg": "No Python"}, "No Python."),
    ],
)
def test_an_answer_that_says_nothing_of_the_host(answer: dict[str, Any], said: str) -> None:
    assert host_doctor._unread(answer) == said


def test_a_host_without_become_has_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its GPUs are not even asked for."""
    asked = []

    def ask(module: str, *_arguments: Any) -> dict[str, Any]:
        asked.append(module)
        return {"root": False, "host_state": {}}

    action = host_doctor.ActionModule(None, None, None, DataLoader(), None, None)
    action._templar = Templar(loader=action._loader)
    monkeypatch.setattr(action, "_ask", ask)
    variables = {
        "inventory_hostname": "gpu1",
        "groups": {"gpu_hosts": ["gpu1"]},
        "vllm_instances": [{"name": "a", "model": "a/b"}],
    }
    (found,) = action._examined(variables, Commands())
    assert found.code == "unreadable"
    assert found.what == (
        "The host could not be examined: the user of its connection is not root; set"
        " ansible_become: true."
    )
    assert asked == ["baremetal.vllm.host_state"]


# -- the table -----------------------------------------------------------------------------------


def finding(severity: str = "error", mend: str = "systemctl reboot") -> Finding:
    return Finding("gpu1", severity, "The clock is not synchronised.", mend, "some_code")


def test_the_table_is_readable_and_commands_are_whole() -> None:
    long = "apt-get install --yes " + " ".join(f"package-{number}" for number in range(20))
    lines = _doctor_report.table([finding(mend=long)], ["edge1", "gpu1"]).splitlines()
    assert lines[2] == "  gpu1  error     The clock is not synchronised."
    assert lines[3].strip() == long
    assert lines[-1] == "  Nothing found on edge1."


def test_sentences_are_wrapped() -> None:
    text = _doctor_report.table([finding(mend="Do this. " * 20 + "Done.")], ["gpu1"])
    assert max(map(len, text.splitlines())) <= _doctor_report.WIDTH


def test_where_nothing_is_found_one_line_says_so() -> None:
    assert _doctor_report.table([], ["a", "b"]) == "2 hosts looked at, nothing found.\n"
    assert _doctor_report.table([], ["a"]) == "1 host looked at, nothing found.\n"


@pytest.mark.parametrize(
    ("severities", "fail_on", "said"),
    [
        (["error", "error", "note"], "error", "2 errors, 1 note"),
        (["warning", "note"], "error", ""),
        (["warning", "note"], "warning", "1 warning, 1 note"),
        (["note"], "warning", ""),
        (["error"], "never", ""),
        ([], "warning", ""),
    ],
)
def test_the_exit_status_goes_by_severity(severities: list[str], fail_on: str, said: str) -> None:
    failure = _doctor_report.failure([finding(each) for each in severities], fail_on)
    assert failure == (f"The doctor found {said}; see the table above." if said else "")


def test_findings_of_the_run_itself_have_their_sentences() -> None:
    found = Findings("gpu1")
    found.add("unreachable", reason="no route to host.")
    found.add("unreadable", reason="read: /etc/cdi/nvidia.yaml is not UTF-8 text.")
    assert [each.what for each in found] == [
        "The host cannot be reached: no route to host.",
        "The host could not be examined: read: /etc/cdi/nvidia.yaml is not UTF-8 text.",
    ]
