# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Sizes of images, from a registry on this machine, and what preflight makes of them."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.baremetal.vllm.plugins.action import image_source as action
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _web
from ansible_collections.baremetal.vllm.tests.unit.fake_registry import FakeRegistry
from ansible_collections.baremetal.vllm.tests.unit.playbooks import ansible_playbook
from ansible_collections.baremetal.vllm.tests.unit.small_image import (
    CONFIG,
    LAYER,
    MANIFEST,
    SmallImage,
    digest,
)

GIB = 2**30
DIGEST = f"sha256:{'ab' * 32}"
BUNDLED = f"registry.example/lab/vllm@{DIGEST}"
ABSENT = f"127.0.0.1:1/lab/vllm@{DIGEST}"
DISKS = ("/var/lib/docker", "/var/lib/vllm", "/var/lib/vllm-bundle")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_web, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    server = FakeRegistry()
    yield server
    server.close()


@pytest.fixture
def image(registry: FakeRegistry) -> SmallImage:
    small = SmallImage()
    for name in small.documents:
        registry.images["lab/vllm", name] = small.blobs[name]
    return small


def sent(image: SmallImage) -> int:
    return sum(len(blob) for name, blob in image.blobs.items() if name not in image.documents)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One with an image of 10 GiB."""
    entry = {"reference": BUNDLED, "digest": DIGEST, "size": 10 * GIB}
    content = {"format": 1, "images": [entry], "models": [], "packages": {}, "wheels": []}
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "bundle.json").write_text(json.dumps(content))
    return directory


# -- the action ----------------------------------------------------------------------------------


def ask(*images: str, check_mode: bool = False, **each: str) -> list[dict[str, Any]]:
    """What the action says; it holds no secret."""
    wanted = [{"image": image, "architecture": "x86_64", **each} for image in images]
    task = mock.Mock(args={"images": wanted}, check_mode=check_mode, diff=False, async_val=0)
    connection = mock.Mock()
    connection._shell.tmpdir = None
    loader = DataLoader()
    plugin = action.ActionModule(
        task, connection, mock.Mock(), loader, Templar(loader=loader), None
    )
    result = plugin.run(task_vars={})
    assert "hunter2" not in json.dumps(result)
    assert not result["changed"]
    assert "failed" not in result
    images_told: list[dict[str, Any]] = result["images"]
    return images_told


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_registry_tells_the_size(
    registry: FakeRegistry, image: SmallImage, check_mode: bool
) -> None:
    reference = f"{registry.host}/lab/vllm@{image.top}"
    assert ask(reference, check_mode=check_mode) == [
        {
            "image": reference,
            "name": f"{registry.host}/lab/vllm@{image.top[:15]}…",
            "architecture": "x86_64",
            "bytes": sent(image),
            "problem": "",
        }
    ]


def test_answers_come_in_the_order_of_the_questions(
    registry: FakeRegistry, image: SmallImage
) -> None:
    known = f"{registry.host}/lab/vllm@{image.top}"
    told = ask(ABSENT, known, "no reference", known)
    assert [each["bytes"] for each in told] == [None, sent(image), None, sent(image)]
    assert "cannot be reached" in told[0]["problem"]
    assert "is no image reference" in told[2]["problem"]


def test_the_login_of_the_inventory_comes_before_that_of_docker(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    registry.authentication, registry.user = "Basic", "reader:hunter2"
    reference = f"{registry.host}/lab/vllm@{image.top}"
    assert "without credentials" in ask(reference)[0]["problem"]
    assert ask(reference, username="reader", password="hunter2")[0]["bytes"] == sent(image)
    entry = {"auth": base64.b64encode(b"reader:hunter2").decode()}
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {registry.host: entry}}))
    assert ask(reference)[0]["bytes"] == sent(image)
    other = ask(reference, username="writer", password="hunter22")
    assert "as writer" in other[0]["problem"]
    (tmp_path / ".docker/config.json").write_text("{")
    assert "credentials in" in ask(reference)[0]["problem"]


def test_a_bundle_is_asked_and_no_registry(bundle: Path, tmp_path: Path) -> None:
    told = ask(BUNDLED, f"lab/vllm@sha256:{'cd' * 32}", bundle=str(bundle))
    assert [each["bytes"] for each in told] == [10 * GIB, None]
    assert told[1]["problem"].startswith(f"The bundle {bundle} has no image")
    assert "has no bundle.json" in ask(BUNDLED, bundle=str(tmp_path))[0]["problem"]


# -- the role ------------------------------------------------------------------------------------


def state(image: str, found: Any = None, free: int = 0, *alone: str) -> dict[str, Any]:
    """A host with all disks on one filesystem, those named alone on their own."""
    disks = {
        path: {"free_bytes": free, "device": path if path in alone else "8:1"} for path in DISKS
    }
    platform = {"architecture": "x86_64"}
    return {"images": {image: found}, "disks": disks, "models": {}, "platform": platform}


def play(directory: Path, hosts: dict[str, dict[str, Any]], **extra: Any) -> dict[str, Any]:
    """Host -> what preflight says of the image, and the room that it wants."""
    known = {
        host: {
            "__preflight_host_state": {"host_state": given.pop("state")},
            "__preflight_inventory": {"image": given.pop("image"), "needs_facts": []},
            **given,
        }
        for host, given in hosts.items()
    }
    fleet = {"gpu_hosts": {"hosts": known}}
    (directory / "hosts.json").write_text(json.dumps(fleet))
    instance = {"name": "a", "model": "a/b", "gpus": "none"}
    variables = {
        "vllm_instances": [instance],
        "vllm_state_directory": "/var/lib/vllm",
        "ansible_python_interpreter": sys.executable,
        **extra,
    }
    (directory / "vars.json").write_text(json.dumps(variables))
    role = {"name": "baremetal.vllm.preflight", "tasks_from": "more.yml", "public": True}
    tasks: list[dict[str, Any]] = [
        # As host.yml does, and again as the second look does.
        {"ansible.builtin.include_role": role},
        {"ansible.builtin.include_role": role},
        {
            "ansible.builtin.copy": {
                "dest": f"{directory}/{{{{ inventory_hostname }}}}.json",
                "content": "{{ {'line': __preflight_image_line, 'needs': __preflight_disk_needs}"
                " | to_json }}",
                "mode": "0600",
            },
            "check_mode": False,
        },
    ]
    plays = [{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": tasks}]
    (directory / "play.json").write_text(json.dumps(plays))
    done = ansible_playbook(
        directory, "-i", "hosts.json", "play.json", "--check", "--extra-vars", "@vars.json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    told = {host: json.loads((directory / f"{host}.json").read_text()) for host in hosts}
    for host, said in told.items():
        # It is said once, and only where something is lacking.
        assert done.stdout.count(said["line"]) == bool(said["needs"]), host
    return told


def push(registry: FakeRegistry, layer_bytes: int, config_bytes: int) -> str:
    """An image that is large in words alone; its reference."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": DIGEST, "size": config_bytes},
        "layers": [{"mediaType": LAYER, "digest": f"sha256:{'cd' * 32}", "size": layer_bytes}],
    }
    content = json.dumps(manifest).encode()
    registry.images["lab/vllm", digest(content)] = content
    return f"{registry.host}/lab/vllm@{digest(content)}"


def gib_wanted(said: dict[str, Any]) -> dict[str, float]:
    return {need["path"]: need["need_gib"] for need in said["needs"]}


def test_a_registry_is_asked_once_for_all_hosts(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.authentication, registry.user = "Basic", "reader:hunter2"
    reference = push(registry, 9 * GIB, 3 * GIB // 10)
    login = {"vllm_registry_username": "reader", "vllm_registry_password": "hunter2"}
    told = play(
        tmp_path,
        {
            "gpu-0": {"image": reference, "state": state(reference, {"id": "sha256:1"})},
            "gpu-1": {"image": reference, "state": state(reference, None, 812 * GIB), **login},
            "gpu-2": {"image": reference, "state": state(reference, None, 7 * GIB), **login},
            "gpu-3": {"image": ABSENT, "state": state(ABSENT, None, 30 * GIB)},
        },
    )
    assert registry.methods() == ["GET", "GET"]  # without the login, and with it
    name = f"image {reference.partition('@')[0]}@{reference.partition('@')[2][:15]}…"
    assert told["gpu-0"]["needs"] == []
    assert told["gpu-1"]["line"] == (
        f"{name}: 9.30 GiB are still to come; 812.0 GiB are free in /var/lib/docker"
    )
    assert "; 7.0 GiB are free" in told["gpu-2"]["line"]
    for host in ("gpu-1", "gpu-2"):
        assert gib_wanted(told[host]) == {"/var/lib/docker": 37.2, "/var/lib/vllm": 37.2}
    line = told["gpu-3"]["line"]
    assert "is not known, and 40 GiB are wanted; 30.0 GiB are free in /var/lib/docker. Reg" in line
    assert line.endswith("connection refused.")
    assert gib_wanted(told["gpu-3"]) == {"/var/lib/docker": 40, "/var/lib/vllm": 40}


def test_with_a_bundle_the_copy_needs_room_too(tmp_path: Path, bundle: Path) -> None:
    told = play(
        tmp_path,
        {
            "gpu-1": {"image": BUNDLED, "state": state(BUNDLED, None, GIB)},
            "gpu-2": {"image": BUNDLED, "state": state(BUNDLED, None, 2 * GIB, DISKS[0])},
            "gpu-3": {
                "image": BUNDLED,
                "state": state(BUNDLED, None, 3 * GIB),
                "preflight_min_free_gib": 11,
            },
        },
        bundle_directory=str(bundle),
    )
    assert "10.00 GiB are still to come" in told["gpu-1"]["line"]
    assert list(gib_wanted(told["gpu-1"]).values()) == [50, 40, 10]
    assert told["gpu-1"]["needs"][0]["what"] == "the image, with the copy that it is loaded from,"
    assert list(gib_wanted(told["gpu-2"]).values()) == [40, 40, 10]
    assert told["gpu-2"]["needs"][0]["what"] == "the image"
    assert list(gib_wanted(told["gpu-3"]).values()) == [11, 11, 10]
