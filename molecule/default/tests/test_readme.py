# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Every command of the README is run by a test: here, or where the table says."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
from conftest import ENVIRONMENT, ROOT, address, lab_host

README = (ROOT / "README.md").read_text()

# Command of the README -> the test that runs it.
RUN_BY = {
    "make demo": "part `demo` of make test",
    "make test": "itself",
    "ansible -m setup": "test_fleet.py, beside the second run",
    "make clean": "molecule/uninstall/tests/test_make_clean.py",
    "git clone": "CI works on a clone",
    "make venv": "make test begins with it",
    "ansible-galaxy collection install baremetal.vllm": "part `build`, from the built tarball",
    "ansible-playbook baremetal.vllm.site": "part `build`",
    "ansible-playbook playbooks/plan.yml -e gpu_set=l4 -e model=openai/gpt-oss-20b -e intent=chat"
    " -e vllm_release=0.32.0": "tests/unit/test_readme.py",
    "ansible-playbook -i inventories/homelab playbooks/site.yml": "test_homelab_inventory",
    "curl -s http://127.0.0.1:8080/v1/models": "test_models_as_the_homelab_asks",
    "ansible-playbook -i inventories/production playbooks/site.yml --check --diff": (
        "test_production_inventory"
    ),
    "ansible-playbook -i inventories/production playbooks/site.yml": "test_production_inventory",
    "ansible-playbook -i inventories/production playbooks/doctor.yml": "test_production_doctor",
    "ansible-playbook playbooks/edge_key.yml -e client=team-a": (
        "tests/unit/plugins/action/test_edge_key.py"
    ),
    "make test-all": "by hand, before what it covers is released",
    "make edge-benchmark": "by hand, for docs/edge-benchmark.md",
    "ansible-doc baremetal.vllm.vllm_health": "part `build`",
    "journalctl -u vllm@<instance>": "test_gpu_host.py",
}


def commands() -> set[str]:
    """What the README tells a reader to type: console blocks, and code in the text."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    programs = r"(?:make|git|ansible[a-z-]*|curl|journalctl) "
    return {line for line in lines if line} | set(re.findall(f"`({programs}[^`]+)`", README))


def test_table_names_every_command_and_no_other() -> None:
    assert commands() == set(RUN_BY)


def run(
    inventory: str, *arguments: str, extra: dict[str, Any], playbook: str = "site"
) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", "-i", inventory, f"playbooks/{playbook}.yml", *arguments]
    return subprocess.run(
        [*command, "-e", json.dumps(extra)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_homelab_inventory() -> None:
    """The inventory as it is, but on a host of the lab, which has no GPU and no hub."""
    container = lab_host("gpu2").backend.name
    instance = {"name": "gpt-oss-20b", "model": "/srv/models/gpt-oss-tiny", "gpus": "none"}
    extra = {
        "ansible_connection": "community.docker.docker",
        "ansible_host": container,
        "ansible_become": False,  # the lab's hosts have no sudo, and root needs none
        "vllm_instances": [
            instance | {"port": 8005},
            instance | {"name": "gpt-oss-tiny", "state": "absent"},
        ],
        "preflight_min_free_gib": 5,
        "docker_engine_source": "distro",  # as that host has it, with which the default is refused
    }
    done = run("inventories/homelab", "--check", extra=extra)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("--check", "--diff"), ()])
def test_production_inventory(arguments: tuple[str, ...]) -> None:
    """The example's hosts do not exist: all of the inventory is accepted, then none is reached."""
    keys = {
        "vault_vllm_api_key": "a1" * 32,
        "vault_edge_api_keys": {"example-client": "b2" * 32},
    }
    done = run("inventories/production", *arguments, extra=keys)
    accepted = re.findall(r"^ok: \[(\S+\.example\.net)\]", done.stdout, re.M)
    assert len(accepted) == 6, done.stdout + done.stderr
    assert done.returncode == 4
    assert "UNREACHABLE" in done.stdout + done.stderr


def test_production_inventory_is_refused_with_the_keys_of_the_example() -> None:
    done = run("inventories/production", extra={})
    assert done.returncode == 2
    assert "vllm_api_key is a placeholder that everyone knows" in done.stdout + done.stderr


def test_production_doctor() -> None:
    """Hosts that do not exist are findings, and errors."""
    done = run("inventories/production", playbook="doctor", extra={})
    assert done.returncode == 2, done.stdout + done.stderr
    said = re.findall(
        r"^ +(\S+\.example\.net) +error +The host cannot be reached", done.stdout, re.M
    )
    assert len(said) == 6, done.stdout


def test_doctor_finds_nothing_wrong_with_the_lab() -> None:
    """A lab host's clock is that of the machine below, whose daemon it does not see."""
    done = run("inventories/demo", playbook="doctor", extra={})
    assert done.returncode == 0, done.stdout + done.stderr
    assert " error " not in done.stdout
    assert re.findall(r"warning +(.*)", done.stdout) in ([], 3 * ["The clock is not synchronised."])


def test_models_as_the_homelab_asks() -> None:
    """The README's curl, on the edge of the lab and with its key."""
    edge = lab_host("edge1")
    key = (ROOT / ".cache/demo-keys/edge_demo_key").read_text().strip()
    command = f"curl -s -H 'Authorization: Bearer {key}' http://127.0.0.1:8080/v1/models"
    listed = json.loads(edge.check_output(command))
    assert [model["id"] for model in listed["data"]] == ["gpt-oss-tiny"]
    assert address("edge1")
