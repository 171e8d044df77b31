# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The controller's nvidia-ml-py reaches the host, and nothing of it stays or is seen."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.action import gpu_info as action
from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml, _nvml_library
from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook

ROOT = Path(_nvml.__file__).resolve().parents[2]
LAB = ROOT / "molecule" / "shared"
sys.path.insert(0, str(LAB))

with_lab = pytest.mark.skipif(
    importlib.util.find_spec("pynvml") is None or not (LAB / "nvml").is_dir(),
    reason="it takes nvidia-ml-py and the lab's NVML stand-in",
)


def play(directory: Path, gpu_set: str, *options: str, pipelining: bool = True) -> tuple[Any, str]:
    """What a second task finds among the facts of a host with these GPUs, and all output."""
    from nvml import build

    tasks = [
        {"baremetal.vllm.gpu_info": {}, "environment": build.environment(gpu_set)},
        {
            "ansible.builtin.copy": {"content": FACTS, "dest": str(directory / "facts.json")},
            "check_mode": False,
        },
    ]
    (directory / "play.yml").write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}])
    )
    done = ansible_playbook(
        directory,
        "-vvv",
        "-c",
        "local",
        "-i",
        "localhost,",
        *options,
        "play.yml",
        ANSIBLE_LOCAL_TEMP=str(directory / "local"),
        ANSIBLE_REMOTE_TEMP=str(directory / "remote"),
        ANSIBLE_PIPELINING=str(pipelining),
        ANSIBLE_PYTHON_INTERPRETER=bare_python(directory),
        ANSIBLE_INJECT_FACT_VARS="false",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((directory / "facts.json").read_text()), done.stdout + done.stderr


FACTS = "{{ ansible_facts['gpu_info'] | to_json }}"


def bare_python(directory: Path) -> str:
    """A Python without any package, as hosts have one."""
    program = directory / "python3"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    program.chmod(0o755)
    return str(program)


@with_lab
@pytest.mark.parametrize("options", [(), ("--check",)])
def test_the_facts_of_a_host_without_any_package(tmp_path: Path, options: tuple[str, ...]) -> None:
    facts, printed = play(tmp_path, "h100-8", *options)
    assert (facts["state"], len(facts["gpus"])) == ("ok", 8)
    assert facts["nvswitch"] is True
    assert action.controller_library()[:60] not in printed


@with_lab
@pytest.mark.parametrize("pipelining", [True, False])
def test_nothing_stays_on_the_host(tmp_path: Path, pipelining: bool) -> None:
    facts, _printed = play(tmp_path, "mismatch", pipelining=pipelining)
    assert facts["state"] == "mismatch"
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]


def test_the_controller_s_package_is_sent_whole() -> None:
    found = importlib.util.find_spec("pynvml")
    if found is None or found.origin is None:
        assert action.controller_library() == ""
        return
    library = _nvml_library.load(action.controller_library())
    expected = _nvml_library.load(_nvml_library.pack(Path(found.origin).read_bytes()))
    assert set(dir(library)) == set(dir(expected))


@pytest.mark.parametrize("origin", [None, "/site-packages/pynvml/__init__.py"])
def test_a_package_of_another_maker_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, origin: str | None
) -> None:
    found = SimpleNamespace(origin=origin)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert action.controller_library() == ""


def test_a_controller_without_the_package_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert action.controller_library() == ""
