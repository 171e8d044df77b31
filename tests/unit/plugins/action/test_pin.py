# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Pinning, against a registry and a hub on this machine: the action, then playbooks/pin.yml."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.baremetal.vllm.plugins.action import pin as action
from ansible_collections.baremetal.vllm.tests.unit.fake_registry import FakeRegistry
from ansible_collections.baremetal.vllm.tests.unit.playbooks import (
    COLLECTION,
    ansible_playbook,
    program,
)

COMMIT = "6cee5e81ee83917806bbde320786a8fb61efebee"
TAGGED = "12e81ee83917806bbde320786a8fb61efebee123"
TOKEN = "hf_hunter2"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    server = FakeRegistry(hub_token=TOKEN)
    server.push("lab/vllm", "v1")
    server.models = {"lab/a": {"main": COMMIT}, "lab/b": {"v/2": TAGGED}}
    yield server
    server.close()


class Fleet:
    """An inventory in a directory, to be pinned by the action alone or by the playbook."""

    def __init__(
        self, directory: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.directory = directory
        self.registry = registry
        self.image = f"{registry.host}/lab/vllm:v1"
        self.lines: list[str] = []
        self._patch = monkeypatch.setattr
        self._patch(action, "Display", lambda: mock.Mock(display=self.lines.append))
        monkeypatch.setenv("HOME", str(directory))
        monkeypatch.setenv("no_proxy", "*")
        (directory / "inventory").mkdir()
        instances = [
            {"name": "a", "model": "lab/a"},
            {"name": "b", "model": "lab/b@v/2", "extra_models": {"draft": "lab/a"}},
            {"name": "local", "model": "/srv/models/c"},
            {"name": "fixed", "model": f"lab/d@{COMMIT}"},
            {"name": "gone", "model": "lab/e", "state": "absent"},
        ]
        self.hosts: dict[str, dict[str, Any]] = {
            "gpu-1": {"vllm_instances": instances},
            "gpu-2": {"vllm_instances": instances[:1]},
            "gpu-3": {"vllm_instances": [], "vllm_image": f"vllm@sha256:{'a' * 64}"},
        }
        self.variables: dict[str, Any] = {"vllm_image": self.image}

    def pin(self, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        """Run the action; its result, which holds no secret."""
        given = {"model_endpoint": self.registry.url, "model_token": TOKEN, **arguments}
        task = mock.Mock(args=given, check_mode=check_mode, diff=True, async_val=0)
        connection = mock.Mock()
        connection._shell.tmpdir = None
        sources = {"inventory": [str(self.directory / "inventory")]}
        self._patch(action, "context", mock.Mock(CLIARGS=sources))
        loader = DataLoader()
        plugin = action.ActionModule(
            task, connection, mock.Mock(), loader, Templar(loader=loader), None
        )
        hostvars = mock.Mock(raw_get=lambda host: self.variables | self.hosts[host])
        groups = {"gpu_hosts": list(self.hosts)}
        result: dict[str, Any] = plugin.run(task_vars={"groups": groups, "hostvars": hostvars})
        assert "hunter2" not in json.dumps(result) + "".join(self.lines)
        return result

    def refusal(self, **arguments: Any) -> str:
        """What the action says when it fails."""
        result = self.pin(**arguments)
        assert result["failed"]
        assert not result["changed"]
        return str(result["msg"])

    def play(self, *arguments: str, inventories: tuple[str, ...] = ("inventory",)) -> str:
        """Run the playbook; its output, which holds no secret."""
        variables = self.variables | {
            "model_store_endpoint": self.registry.url,
            "model_store_token": f"{{{{ 'hf_' }}}}{TOKEN[3:]}",
        }
        (self.directory / "inventory/hosts.json").write_text(
            json.dumps({"gpu_hosts": {"hosts": self.hosts, "vars": variables}})
        )
        given = [part for each in inventories for part in ("-i", each)]
        done = ansible_playbook(
            self.directory, str(COLLECTION / "playbooks/pin.yml"), *given, *arguments
        )
        said = done.stdout + done.stderr
        assert "hunter2" not in said
        assert (done.returncode == 0) == ("failed=0" in said), said
        return said

    @property
    def file(self) -> Path:
        return self.directory / "inventory/group_vars/all/pins.yml"

    def pins(self, file: Path | None = None) -> dict[str, Any]:
        pins: dict[str, Any] = yaml.safe_load((file or self.file).read_text())["vllm_pins"]
        return pins

    def expected(self) -> dict[str, Any]:
        digest = self.registry.push("lab/vllm", "v1")
        return {"images": {self.image: digest}, "models": {"lab/a": COMMIT, "lab/b@v/2": TAGGED}}


@pytest.fixture
def fleet(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(tmp_path, registry, monkeypatch)


# -- what is pinned ------------------------------------------------------------------------------


def test_all_that_may_move_is_pinned_beside_the_inventory(fleet: Fleet) -> None:
    result = fleet.pin()
    assert result["changed"]
    assert result["path"] == str(fleet.file)
    assert result["vllm_pins"] == fleet.pins() == fleet.expected()


def test_each_thing_is_asked_once_however_many_hosts_have_it(fleet: Fleet) -> None:
    fleet.pin()
    asked = [each.path for each in fleet.registry.requests]
    assert len(asked) == len(set(asked)) == 3


def test_a_second_run_writes_the_same_and_changes_nothing(fleet: Fleet) -> None:
    fleet.pin()
    written = fleet.file.read_bytes()
    fleet.lines.clear()
    second = fleet.pin()
    assert not second["changed"]
    assert second["changes"] == []
    assert fleet.file.read_bytes() == written
    assert fleet.lines == [f"Nothing has moved; see {fleet.file}."]


def test_what_has_moved_is_told_and_what_is_gone_is_dropped(fleet: Fleet) -> None:
    fleet.pin()
    before = fleet.pins()["images"][fleet.image]
    after = fleet.registry.push("lab/vllm", "v1", "two")
    del fleet.hosts["gpu-1"]
    fleet.lines.clear()
    assert fleet.pin()["changes"] == [
        {"what": fleet.image, "kind": "image", "old": before, "new": after},
        {"what": "lab/b@v/2", "kind": "model", "old": TAGGED, "new": ""},
    ]
    assert fleet.lines == [
        f"image {fleet.image}: moved: {before} -> {after}",
        f"model lab/b@v/2: dropped, no host has it any more: {TAGGED}",
    ]
    assert fleet.pins() == {"images": {fleet.image: after}, "models": {"lab/a": COMMIT}}


def test_check_mode_shows_the_difference_and_writes_nothing(fleet: Fleet) -> None:
    result = fleet.pin(check_mode=True)
    assert result["changed"]
    assert result["diff"]["before"] == ""
    assert f'    "lab/a": "{COMMIT}"\n' in result["diff"]["after"]
    assert not fleet.file.exists()


def test_credentials_of_the_docker_client_are_used(fleet: Fleet) -> None:
    fleet.registry.authentication, fleet.registry.user = "Bearer", "reader:hunter2"
    entry = {"auth": base64.b64encode(b"reader:hunter2").decode()}
    (fleet.directory / ".docker").mkdir()
    config = {"auths": {fleet.registry.host: entry}}
    (fleet.directory / ".docker/config.json").write_text(json.dumps(config))
    fleet.pin()
    assert fleet.pins() == fleet.expected()


# -- the file ------------------------------------------------------------------------------------


def test_another_file_can_be_named(fleet: Fleet) -> None:
    fleet.pin(path=str(fleet.directory / "other/pins.yml"))
    assert fleet.pins(fleet.directory / "other/pins.yml") == fleet.expected()
    assert not fleet.file.exists()


def test_nothing_is_left_beside_the_file(fleet: Fleet) -> None:
    fleet.pin()
    assert list(fleet.file.parent.iterdir()) == [fleet.file]


def test_a_rewritten_file_keeps_its_mode_and_its_link(fleet: Fleet) -> None:
    target = fleet.directory / "reviewed.yml"
    target.write_text("")
    target.chmod(0o640)
    fleet.file.parent.mkdir(parents=True)
    fleet.file.symlink_to(target)
    fleet.pin()
    assert fleet.file.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert fleet.pins(target) == fleet.expected()


@pytest.mark.parametrize("name", ["all", "all.yml", "all.yaml", "all.json"])
def test_group_vars_in_a_file_are_not_hidden_by_a_directory(fleet: Fleet, name: str) -> None:
    group_vars = fleet.file.parents[1]
    group_vars.mkdir()
    (group_vars / name).write_text("a: b\n")
    said = fleet.refusal()
    assert f"{group_vars / name} is a file" in said
    assert f"move it to {group_vars}/all/main.yml." in said
    assert not fleet.file.exists()
    assert fleet.registry.requests == []


def test_a_file_of_something_else_stays_as_it_is(fleet: Fleet) -> None:
    fleet.file.parent.mkdir(parents=True)
    fleet.file.write_text("vllm_release: 0.32.0\n")
    assert "holds something else than vllm_pins" in fleet.refusal()
    assert fleet.file.read_text() == "vllm_release: 0.32.0\n"


def test_a_file_that_cannot_be_read_is_told(fleet: Fleet) -> None:
    fleet.file.mkdir(parents=True)
    assert f"{fleet.file} cannot be read (Is a directory)" in fleet.refusal()


def test_a_file_that_cannot_be_written_is_told(fleet: Fleet) -> None:
    (fleet.directory / "file").write_text("")
    said = fleet.refusal(path=str(fleet.directory / "file/pins.yml"))
    assert "file/pins.yml cannot be written" in said


# -- what cannot be pinned -----------------------------------------------------------------------


def test_all_that_cannot_be_resolved_is_told_and_nothing_is_written(fleet: Fleet) -> None:
    fleet.hosts["gpu-2"]["vllm_image"] = f"{fleet.registry.host}/lab/vllm:v2"
    fleet.hosts["gpu-2"]["vllm_instances"] = [
        {"name": "a", "model": "lab/a@v9"},
        {"name": "b", "model": "lab/z"},
    ]
    head, image, revision, model = fleet.refusal().splitlines()
    assert head == "3 problems in the images and models; nothing was changed:"
    assert image.startswith(f"Registry {fleet.registry.host} has no tag v2 of lab/vllm;")
    assert revision.startswith(f"Hub {fleet.registry.host} has no revision v9 of model lab/a;")
    assert model.startswith(f"Hub {fleet.registry.host} has no model lab/z,")
    assert not fleet.file.exists()


def test_one_cause_is_one_problem(fleet: Fleet) -> None:
    said = fleet.refusal(ca_path="/nowhere/ca.pem").splitlines()
    assert said[0].startswith("1 problem in the images and models;")
    assert said[1].startswith("ca_path: /nowhere/ca.pem cannot be used on this machine")


def test_a_hub_that_does_not_know_the_token_is_told(fleet: Fleet) -> None:
    said = fleet.refusal(model_token="another")
    assert f"Hub {fleet.registry.host} does not let us see model lab/a with this token;" in said


def test_an_answer_without_a_commit_is_told(fleet: Fleet) -> None:
    fleet.registry.models["lab/a"]["main"] = "main"
    assert "names no commit for model lab/a;" in fleet.refusal()


def test_what_is_wrong_with_the_inventory_is_told_by_host_before_anything_is_asked(
    fleet: Fleet,
) -> None:
    fleet.hosts["gpu-1"]["vllm_image"] = "vllm:latest"
    fleet.hosts["gpu-2"]["vllm_instances"] = [
        {"name": "a", "model": "a b"},
        {"name": "b", "model": "lab/a", "extra_models": {"draft": "b c"}},
    ]
    fleet.hosts["gpu-3"]["vllm_instances"] = trust_as_template("{{ nowhere }}")
    lines = fleet.refusal().splitlines()
    assert lines[0] == "4 problems in the inventory; nothing was changed:"
    for line, start in zip(
        lines[1:],
        [
            "gpu-1: vllm_image is 'vllm:latest'; latest moves",
            "gpu-2: vllm_instances[0].model is 'a b'; it must be",
            "gpu-2: vllm_instances[1].extra_models.draft is 'b c'; it must be",
            "gpu-3: vllm_instances cannot be templated ('nowhere' is undefined);",
        ],
        strict=True,
    ):
        assert line.startswith(start)
    assert fleet.registry.requests == []


def test_an_image_that_only_facts_can_tell_is_told(fleet: Fleet) -> None:
    image = trust_as_template("registry/{{ ansible_facts['architecture'] }}:v1")
    fleet.variables["vllm_image"] = image
    assert "gpu-1: vllm_image refers to facts" in fleet.refusal()


def test_without_a_gpu_host_there_is_nothing_to_pin(fleet: Fleet) -> None:
    fleet.hosts = {}
    assert "no host in the group gpu_hosts" in fleet.refusal()


def test_a_provider_without_commits_is_told(fleet: Fleet) -> None:
    said = fleet.refusal(provider="s3")
    assert "Model lab/a cannot be pinned:" in said
    assert "model_store_provider is s3" in said


# -- the playbook --------------------------------------------------------------------------------


def test_the_playbook_shows_what_moved_and_is_idempotent(fleet: Fleet) -> None:
    said = fleet.play("-vvv", "--diff")
    assert "changed=1" in said
    assert f"\nmodel lab/a: pinned: {COMMIT}\n" in said
    assert f'+    "lab/a": "{COMMIT}"' in said
    assert fleet.pins() == fleet.expected()
    assert "changed=0" in fleet.play()


def test_the_pins_are_variables_of_every_host(fleet: Fleet) -> None:
    fleet.play(inventories=("inventory/hosts.json",))
    done = subprocess.run(
        [program("ansible-inventory"), "-i", "inventory", "--host", "gpu-3"],
        cwd=fleet.directory,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["vllm_pins"] == fleet.expected()


def test_with_several_inventories_the_file_has_to_be_named(fleet: Fleet) -> None:
    two = ("inventory", "inventory/hosts.json")
    said = " ".join(fleet.play(inventories=two).split())
    assert "path is not given, and this run has not one inventory" in said
    assert "changed=1" in fleet.play("-e", "pins_file=pins.yml", inventories=two)
    assert fleet.pins(fleet.directory / "pins.yml") == fleet.expected()


def test_an_authority_is_a_file_of_the_controller(fleet: Fleet) -> None:
    """The one of model_store_ca is a file of the hosts."""
    fleet.variables["model_store_ca"] = "/nowhere/ca.pem"
    assert "/nowhere/ca.pem" not in fleet.play()
    assert "ca_path: /other/ca.pem cannot be used" in fleet.play("-e", "pins_ca=/other/ca.pem")
