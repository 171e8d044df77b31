# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The action plugins as a person meets them: through ansible-playbook."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._edge_vip import CONFIGURATION, DROPIN
from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook

INVENTORY: dict[str, Any] = {
    "all": {
        "children": {
            "gpu_hosts": {"hosts": {"gpu-1": {}, "gpu-2": {}}},
            "edge_hosts": {"hosts": {"edge-1": {}}},
        },
        "vars": {
            "vllm_api_key": "{{ 'hunter' ~ 2 ~ 'x' * 30 }}",
            "vllm_image": "registry.example/vllm@sha256:{{ 'a' * 64 }}",
        },
    }
}
STATE = {
    "platform": {
        "distribution": "Debian",
        "distribution_version": "13.2",
        "architecture": "x86_64",
        "service_mgr": "systemd",
    },
    "systemd": 252,
    "nvidia_gpus": 0,
    "cdi_devices": [],
    "paths": {},
    "listening": [{"address": "0.0.0.0", "port": 8000, "process": "python3"}],
    "disks": {"/": {"free_bytes": 2**30}},
}

# A result as the callback `minimal` prints it: host | STATUS => {...}
_RESULT = re.compile(r"^(\S+) \| (\S+) => (\{.*?^\})", re.MULTILINE | re.DOTALL)


def play(directory: Path, task: dict[str, Any], **extra: Any) -> tuple[int, dict[str, str]]:
    """Exit status, and the message of each host that failed."""
    (directory / "hosts.yml").write_text(json.dumps(INVENTORY))
    (directory / "vars.json").write_text(json.dumps(extra))
    tasks = [task]
    plays = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    (directory / "play.yml").write_text(json.dumps(plays))
    given = ("-i", "hosts.yml", "play.yml", "--extra-vars", "@vars.json")
    done = ansible_playbook(directory, *given, ANSIBLE_STDOUT_CALLBACK="minimal")
    found = _RESULT.findall(done.stdout)
    assert found, done.stdout + done.stderr
    results = [(host, status, json.loads(result)) for host, status, result in found]
    assert not any(result["changed"] for _host, _status, result in results)
    failed = {host: result["msg"] for host, status, result in results if status == "FAILED!"}
    return done.returncode, failed


@pytest.fixture
def validate() -> dict[str, Any]:
    return {"baremetal.vllm.validate_inventory": {}}


def test_a_right_inventory_passes_without_facts_or_connection(
    tmp_path: Path, validate: dict[str, Any]
) -> None:
    assert play(tmp_path, validate) == (0, {})


def test_names_of_clients_are_seen_as_yaml_reads_them(
    tmp_path: Path, validate: dict[str, Any]
) -> None:
    names = {"1001": "0123456789abcdef" * 2, "team-a": "fedcba9876543210" * 2}
    lines = "".join(f"  {name}: {key}\n" for name, key in names.items())
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(
        f"keys:\n{lines}edge_api_keys: '{{{{ keys }}}}'\nedge_client_limits:\n  1001: {{rate: 5}}\n"
    )
    status, said = play(tmp_path, validate)
    assert status == 2
    assert said["edge-1"].splitlines()[1:] == [
        'edge-1: edge_api_keys.1001 is a number; quote it: "1001".',
        'edge-1: edge_client_limits.1001 is a number; quote it: "1001".',
    ]


def test_what_has_to_be_read_of_a_host_is_told(tmp_path: Path, validate: dict[str, Any]) -> None:
    wrong = "('docker.service' in checked.needs.services) != (inventory_hostname in {0})"
    for hosts, expected in ((["gpu-1", "gpu-2"], 0), (["edge-1"], 2)):
        told = {"register": "checked", "failed_when": wrong.format(hosts)}
        assert play(tmp_path, validate | told)[0] == expected


def test_every_host_tells_all_its_problems(tmp_path: Path, validate: dict[str, Any]) -> None:
    status, said = play(
        tmp_path,
        validate,
        vllm_relase="0.32.0",
        vllm_shm_size_gib="{{ 'lots' }}",
        vllm_container_user="{{ nowhere }}",
        model_store_token="{{ hunter2_token }}",
        vllm_address="{{ ansible_facts['default_ipv4']['address'] }}",
        vllm_instances="{{ [{'name': 'a', 'model': 'b/c', 'gpu': 1}] }}",
    )
    assert status == 2
    assert sorted(said) == ["edge-1", "gpu-1", "gpu-2"]
    lines = said["gpu-1"].splitlines()
    assert lines[0] == "5 problems in the inventory; nothing was changed:"
    assert sorted(lines[1:]) == [
        "gpu-1: model_store_token cannot be templated; mend its template.",
        "gpu-1: vllm_container_user cannot be templated ('nowhere' is undefined);"
        " mend its template.",
        "gpu-1: vllm_instances[0].gpu is not a key of it; did you mean gpus?",
        "gpu-1: vllm_relase is not a variable of this collection; did you mean vllm_release?",
        "gpu-1: vllm_shm_size_gib is 'lots'; it must be a whole number.",
    ]
    assert "hunter2" not in "".join(said.values())


def test_variables_that_want_facts_are_named(tmp_path: Path, validate: dict[str, Any]) -> None:
    told = {"register": "checked", "failed_when": "checked.needs_facts != expected"}
    assert play(tmp_path, validate | told, expected=[])[0] == 0
    fact = "ansible_facts['eth1']['ipv4']['address']"
    # The second has a value without facts, too, and the third through another variable.
    for address in (f"{{{{ {fact} }}}}", f"{{{{ {fact} | default('') }}}}", "{{ own }}"):
        asked = {"vllm_address": address, "own": f"{{{{ {fact} }}}}"}
        assert play(tmp_path, validate | told, expected=["vllm_address"], **asked)[0] == 0


def test_the_source_of_the_models_is_told(tmp_path: Path, validate: dict[str, Any]) -> None:
    told = {"register": "checked", "failed_when": "checked.source != expected"}
    asked = {"model_store_provider": "http", "model_store_endpoint": "https://{{ name }}.example"}
    expected = {"provider": "http", "endpoint": "https://a.example", "exclude": []}
    asked |= {"name": "a", "model_store_exclude": []}
    assert play(tmp_path, validate | told, expected=expected, **asked)[0] == 0


def test_a_bundle_without_what_a_host_wants_is_refused(
    tmp_path: Path, validate: dict[str, Any]
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    content = {"format": 1, "images": [], "models": [], "packages": {}, "wheels": []}
    (bundle / "bundle.json").write_text(json.dumps(content))
    image = f"docker.io/vllm/vllm-openai@sha256:{'ab' * 32}"
    status, said = play(tmp_path, validate, bundle_directory=str(bundle), vllm_image=image)
    assert status == 2
    assert f"gpu-1: the bundle {bundle} has no image {image}; write it" in said["gpu-1"]
    assert f"gpu-1: the bundle {bundle} has no model" in said["gpu-1"]
    # An edge needs neither, and a bundle that is to be written need not be there.
    assert "edge-1" not in said
    write = {"baremetal.vllm.validate_inventory": {"bundle": "written"}}
    assert play(tmp_path, write, bundle_directory=str(tmp_path / "new"))[0] == 0


def test_an_edge_reads_the_variables_of_its_engines(
    tmp_path: Path, validate: dict[str, Any]
) -> None:
    edge_keep_alive = {"edge_upstream_keepalive_timeout": 300}
    status, said = play(tmp_path, validate, **edge_keep_alive)
    assert status == 2
    assert said == {
        "edge-1": "2 problems in the inventory; nothing was changed:\n"
        "gpu-1: vllm_http_keep_alive is 120; it must be above edge_upstream_keepalive_timeout,"
        " which is 300 on edge-1.\n"
        "gpu-2: vllm_http_keep_alive is 120; it must be above edge_upstream_keepalive_timeout,"
        " which is 300 on edge-1."
    }


def test_only_the_roles_asked_for_are_checked(tmp_path: Path) -> None:
    task = {"baremetal.vllm.validate_inventory": {"roles": ["docker_engine"]}}
    assert play(tmp_path, task, vllm_relase=1) == (0, {})


def test_a_role_that_is_not_there_is_refused(tmp_path: Path) -> None:
    _status, said = play(tmp_path, {"baremetal.vllm.validate_inventory": {"roles": ["engine"]}})
    assert "roles has 'engine'; the roles are bundle, container_toolkit," in said["gpu-1"]


def test_a_host_tells_all_its_problems(tmp_path: Path) -> None:
    task = {
        "baremetal.vllm.validate_host": {
            "host_state": "{{ state }}",
            "instances": "{{ [{'name': 'a', 'model': '/srv/a'}] }}",
            "disk_needs": [{"path": "/", "need_gib": "{{ 40 }}", "what": "the image"}],
        },
    }
    platform = STATE["platform"] | {"distribution_version": "11.7"}
    status, said = play(tmp_path, task, state=STATE | {"platform": platform})
    assert status == 2
    lines = said["gpu-1"].splitlines()
    assert lines[0] == "5 problems in the host; nothing was changed:"
    for line, start in zip(
        lines[1:],
        ["runs Debian 11.7", "vllm_instances (a) wants GPUs", "vllm_instances (a) serves /srv/a"],
    ):
        assert line.startswith(f"gpu-1: {start}")
    assert "needs 40 GiB" in lines[5]


GPU: dict[str, Any] = {
    "index": 0,
    "uuid": "GPU-8a56a4bc-b184-a047-2620-be19ba913c3d",
    "name": "NVIDIA L4",
    "compute_capability": "8.9",
    "memory_total_bytes": 24152899584,
    "memory_reserved_bytes": 509607936,
    "memory_used_bytes": 0,
    "processes": [],
}


def test_what_the_gpus_cannot_hold_is_one_of_the_problems(tmp_path: Path) -> None:
    task = {
        "baremetal.vllm.validate_host": {
            "host_state": "{{ state }}",
            "instances": "{{ [{'name': 'a', 'model': 'openai/gpt-oss-120b'}] }}",
            "gpu_info": "{{ gpu_info }}",
            "vllm_release": "0.32.0",
        },
    }
    state = STATE | {"nvidia_gpus": 1, "cdi_devices": ["nvidia.com/gpu=0"], "listening": []}
    state |= {"docker": {"version": "26.1.5"}}
    facts = {"state": "ok", "message": "", "gpus": [GPU]}
    status, said = play(tmp_path, task, state=state, gpu_info=facts)
    assert status == 2
    assert said["gpu-1"].startswith("1 problem in the host; nothing was changed:")
    assert "gpu-1: vllm_instances (a): gpt-oss-120b needs" in said["gpu-1"]
    assert "GiB are missing" in said["gpu-1"]


def test_a_certificate_that_has_expired_is_one_of_the_problems(tmp_path: Path) -> None:
    found = {
        "certificate": "/etc/ssl/llm.pem",
        "key": "/etc/ssl/llm.key",
        "problem": "",
        "resolved": ["/etc/ssl/llm.pem", "/etc/ssl/llm.key"],
        "names": ["llm.example.com"],
        "not_before": 1795326231,
        "not_after": 1803102231,
        "now": 1803102232,
    }
    task = {
        "baremetal.vllm.validate_host": {
            "host_state": "{{ state }}",
            "certificate": {
                "tls": "files",
                "certificate": "/etc/ssl/llm.pem",
                "names": ["llm.example.com"],
            },
        },
    }
    state = STATE | {"certificates": {"/etc/ssl/llm.pem": found}}
    status, said = play(tmp_path, task, state=state)
    assert status == 2
    assert "gpu-1: /etc/ssl/llm.pem has expired on 2027-02-20 05:43 UTC" in said["gpu-1"]


def test_interface_of_a_shared_address_is_found_and_a_strange_network_is_refused(
    tmp_path: Path,
) -> None:
    table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    state = STATE | {
        "read": {"/proc/net/route": f"{table}eth7 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"},
        "paths": {path: {"exists": False} for path in (CONFIGURATION, DROPIN)},
    }
    for address, expected in (("192.0.2.10/24", 0), ("198.51.100.10/24", 2)):
        task = {
            "baremetal.vllm.validate_host": {
                "host_state": "{{ state }}",
                "edge_vip": {"address": address},
            },
            "register": "checked",
            "failed_when": "checked is failed or checked.edge_vip_interface != 'eth7'",
        }
        status, said = play(tmp_path, task, state=state)
        assert status == expected, said
    assert (
        "edge_vip_address is 198.51.100.10/24, which no network of this host has" in said["gpu-1"]
    )
