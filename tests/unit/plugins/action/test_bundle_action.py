# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What is asked for a bundle, and that it is written whole; molecule/airgap has all real parts."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.baremetal.vllm.plugins.action import bundle as action
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import BundleError
from ansible_collections.baremetal.vllm.plugins.plugin_utils._registry import RegistryError

DIGEST = f"sha256:{'ab' * 32}"
ONE = f"registry.example/vllm@{DIGEST}"
TWO = "docker.io/vllm/vllm-openai:v0.32.0"
LISTING = {
    "model": "a/b",
    "commit": "cd" * 20,
    "asked": "a/b",
    "source": "https://hub",
    "files": [],
}


class Fleet:
    """The hosts, and what stands for archive, registry, source and index of packages."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.hosts: dict[str, dict[str, Any]] = {
            "gpu-1": {"vllm_instances": [{"name": "a", "model": "a/b", "gpus": "none"}]},
            "gpu-2": {"vllm_instances": [], "vllm_image": "never/asked:1"},
        }
        self.variables: dict[str, Any] = {"vllm_image": ONE, "vllm_registry_username": "me"}
        self.variables |= {"vllm_registry_password": "hunter2"}
        self.images: list[tuple[Any, ...]] = []
        self.kinds: list[Any] = []
        self.edges: list[str] = []
        monkeypatch.setattr(action, "wanted", self._wanted)
        monkeypatch.setattr(action, "fetch_packages", self._packages)
        monkeypatch.setattr(action, "fetch_image", self._image)
        monkeypatch.setattr(action, "fetch_model", self._model)
        monkeypatch.setattr(action.ActionModule, "_wheel", self._wheel)

    def _wanted(self, _system: str, settings: Any, *_more: Any) -> Any:
        self.kinds = list(settings)

    def _packages(self, _asked: Any, directory: Path, *_more: Any) -> dict[str, Any]:
        directory.mkdir(parents=True)
        for file in ("a.deb", "Packages"):
            (directory / file).write_text(file)
        one = {"name": "a", "version": "1", "file": "a.deb", "sha256": "12" * 32, "size": 5}
        return {"packages": [one], "index_sha256": "34" * 32, "notes": []}

    def _image(self, image: str, directory: Path, *more: Any) -> dict[str, Any]:
        self.images.append((image, *more[:2]))
        directory.mkdir(parents=True)
        (directory / "oci-layout").write_text("{}")
        return {"files": {"oci-layout": "56" * 32}, "size_bytes": 2}

    def _model(self, listing: dict[str, Any], directory: Path, *_more: Any, **_also: Any) -> Any:
        home = directory / "models/a--b"
        home.mkdir(parents=True)
        (home / f"{listing['commit']}.json").write_text("{}")
        return listing

    def _wheel(self, directory: Path) -> str:
        (directory / "wheels").mkdir()
        (directory / "wheels/nvidia_ml_py-1.whl").write_text("wheel")
        return "wheels/nvidia_ml_py-1.whl"

    def write(self, check_mode: bool = False) -> dict[str, Any]:
        """Run the action; its result, which holds no secret."""
        given = {"directory": str(self.directory), "systems": ["debian-13"], "listings": [LISTING]}
        task = mock.Mock(args=given, check_mode=check_mode, diff=False, async_val=0)
        connection = mock.Mock()
        connection._shell.tmpdir = None
        loader = DataLoader()
        plugin = action.ActionModule(
            task, connection, mock.Mock(), loader, Templar(loader=loader), None
        )
        hostvars = mock.Mock(raw_get=lambda host: self.variables | self.hosts[host])
        groups = {"gpu_hosts": [host for host in self.hosts if host not in self.edges]}
        groups |= {"edge_hosts": self.edges} if self.edges else {}
        result: dict[str, Any] = plugin.run(task_vars={"groups": groups, "hostvars": hostvars})
        assert "hunter2" not in json.dumps(result)
        return result


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(tmp_path / "bundle", monkeypatch)


OTHER = {"vllm_instances": [{"name": "b", "model": "a/b", "gpus": "none"}]}


def test_a_host_that_fronts_itself_serves_its_own_models(fleet: Fleet) -> None:
    fleet.hosts["gpu-2"] = OTHER
    fleet.write()
    assert {kind["several_models"] for kind in fleet.kinds} == {False}


def test_an_edge_has_packages_for_what_is_behind_it(fleet: Fleet) -> None:
    fleet.edges = ["edge-1"]
    edge = {"edge_tls": "self_signed", "edge_vip_address": "192.0.2.10/24"}
    fleet.hosts |= {"gpu-2": OTHER, "edge-1": edge}
    fleet.write()
    (found,) = (kind for kind in fleet.kinds if kind["edge"])
    assert found["several_models"] is True
    assert (found["tls"], found["shares_address"]) == ("self_signed", True)


def test_all_that_the_hosts_need_is_asked_for_once(fleet: Fleet) -> None:
    result = fleet.write()
    assert result["changed"], result
    # A host without instances needs no image.
    assert fleet.images == [(ONE, "amd64", ("me", "hunter2"))]
    kinds = [(kind["gpu_host"], kind["wants_gpus"], kind["edge"]) for kind in fleet.kinds]
    assert kinds == [(True, False, True)]
    content = json.loads((fleet.directory / "bundle.json").read_text())
    assert content == result["content"]
    assert [image["digest"] for image in content["images"]] == [DIGEST]
    assert content["packages"] == {
        "debian-13": {"index_sha256": "34" * 32, "packages": {"a": ["1"]}}
    }
    listed = {
        line.split("  ")[1] for line in (fleet.directory / "SHA256SUMS").read_text().splitlines()
    }
    assert listed == {
        "bundle.json",
        f"images/{'ab' * 32}/oci-layout",
        f"models/a--b/{'cd' * 20}.json",
        "packages/debian-13/Packages",
        "packages/debian-13/a.deb",
        "wheels/nvidia_ml_py-1.whl",
    }


def test_an_image_without_digest_is_refused_before_anything_is_written(fleet: Fleet) -> None:
    fleet.variables["vllm_image"] = TWO
    result = fleet.write()
    assert result["failed"]
    assert result["msg"] == (
        "1 problem in the inventory; nothing was written:\n"
        f"vllm_image {TWO} has no digest; run playbooks/pin.yml with this inventory first."
    )
    assert not fleet.directory.exists()


def test_its_pin_is_as_good(fleet: Fleet) -> None:
    fleet.variables |= {"vllm_image": TWO, "vllm_pins": {"images": {TWO: DIGEST}}}
    assert fleet.write()["changed"]
    assert [image[0] for image in fleet.images] == [f"{TWO}@{DIGEST}"]


def test_check_mode_writes_nothing(fleet: Fleet) -> None:
    assert fleet.write(check_mode=True)["changed"]
    assert not fleet.directory.exists()


@pytest.mark.parametrize("error", [RegistryError("The registry says no."), BundleError("No.")])
def test_what_cannot_be_had_is_one_sentence(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(action, "fetch_image", mock.Mock(side_effect=error))
    result = fleet.write()
    assert result["msg"] == f"1 problem in the bundle; what has arrived is kept:\n{error}"
    assert not (fleet.directory / "bundle.json").exists()


def test_a_second_writer_is_refused(fleet: Fleet) -> None:
    fleet.directory.mkdir()
    with (fleet.directory / ".baremetal-vllm-bundle").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = fleet.write()
    assert "another run writes" in result["msg"]


def test_a_directory_of_somebody_else_is_left_alone(fleet: Fleet) -> None:
    own = fleet.directory / "models/mine/weights.bin"
    own.parent.mkdir(parents=True)
    own.write_text("precious")
    result = fleet.write()
    assert "has models and is no bundle; what is there is left alone" in result["msg"]
    assert own.read_text() == "precious"
    assert [file.name for file in fleet.directory.iterdir()] == ["models"]
