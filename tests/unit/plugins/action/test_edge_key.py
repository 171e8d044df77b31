# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""playbooks/edge_key.yml as a person runs it: the key is on the screen, and nowhere else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.baremetal.vllm.tests.unit.playbooks import COLLECTION, ansible_playbook
from ansible_collections.baremetal.vllm.tests.unit.plugins.plugin_utils.inventory_hosts import (
    problems,
)

KEY = re.compile(r"\b[0-9a-f]{64}\b")


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook without an inventory, as talkative as can be, and with a log."""
    return ansible_playbook(
        directory,
        str(COLLECTION / "playbooks/edge_key.yml"),
        "-vvv",
        *arguments,
        ANSIBLE_LOG_PATH=str(directory / "ansible.log"),
    )


@pytest.mark.parametrize("arguments", [(), ("--check", "--diff")])
def test_a_key_is_shown_once_and_kept_nowhere(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, "-e", "client=team-a", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (key,) = KEY.findall(done.stdout + done.stderr)
    assert "changed=0" in done.stdout
    assert "Show a new key once" in (tmp_path / "ansible.log").read_text()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if key in path.read_text(errors="replace")]


@pytest.mark.parametrize("client", ["team-a", "1001", "on", "null", "2026-01-31"])
def test_the_lines_for_the_vault_are_what_preflight_accepts(tmp_path: Path, client: str) -> None:
    printed = run(tmp_path, "-e", f"client={client}").stdout
    (lines,) = re.findall(r"^  vault_edge_api_keys:\n.*\n", printed, re.M)
    keys = yaml.safe_load(lines)["vault_edge_api_keys"]
    assert list(keys) == [client]
    assert problems({"edge_api_keys": keys}) == []
    (both,) = re.findall(r"^    .*:\n(?:      - .*\n){2}", printed, re.M)
    assert list(yaml.safe_load(both)) == [client]


def test_every_run_makes_another_key(tmp_path: Path) -> None:
    keys = [KEY.findall(run(tmp_path, "-e", "client=a").stdout) for _run in range(2)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "client is missing; name the client, as in -e client=team-a."),
        (("-e", "client="), "client is missing; name the client, as in -e client=team-a."),
        (
            ("-e", '{"client": "team a"}'),
            "client is 'team a'; it must be a name of letters, digits, dots, dashes and"
            " underscores, 64 at most.",
        ),
        (
            ("-e", "client=default"),
            "client is 'default'; it is a word of nginx's own; give the client another name.",
        ),
        (
            ("-e", f"client={'5ec7' * 16}"),
            "client is '(not shown)'; it looks like a key and is not shown; a client's name comes"
            " first, its key behind it.",
        ),
    ],
)
def test_a_client_that_preflight_would_refuse_gets_no_key(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert not KEY.findall(done.stdout)
