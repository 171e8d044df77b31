# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Hosts that were provisioned from a bundle, without a network, beside one that had one."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Scenario, lab_host, playbook

BUNDLE = ROOT / ".cache/airgap/bundle"
CUT_OFF, CONNECTED = "gpu1", "gpu2"
VENDORS = "l4"
"""Cut off, too, with driver, Docker and toolkit of the vendors."""
DRIVER = "580.178.04"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BUNDLE / "bundle.json").read_text())
    return found


@pytest.mark.parametrize("name", [CUT_OFF, VENDORS])
def test_host_has_no_network(name: str) -> None:
    host = lab_host(name)
    assert host.check_output("ip -4 route show default") == ""
    assert "docker" in host.check_output("ip -brief link")


def test_real_engine_answers_on_it() -> None:
    assert playbook("verify").code == 0
    for host in (CUT_OFF, VENDORS, CONNECTED):
        assert lab_host(host).service("vllm@one").is_running


def test_driver_of_the_bundle_runs_and_containers_have_the_gpu() -> None:
    host = lab_host(VENDORS)
    assert host.check_output("cat /sys/module/nvidia/version") == DRIVER
    listed = "nvidia-smi --list-gpus"
    assert "NVIDIA L4" in host.check_output(listed)
    assert host.check_output(f"docker exec vllm-one {listed}") == host.check_output(listed)


def test_releases_of_both_hosts_are_the_same_bytes() -> None:
    listing = "cd /var/lib/vllm/one/releases && find . -type f | sort | xargs sha256sum"
    releases = [lab_host(host).check_output(listing) for host in (CUT_OFF, CONNECTED)]
    assert "run" in releases[0]
    assert releases[0] == releases[1]


def test_weights_are_the_same_bytes(content: dict[str, Any]) -> None:
    model = content["models"][0]
    directory = f"/var/lib/vllm/models/{model['model'].replace('/', '--')}"
    listing = f"cd {directory} && find . -type f ! -name .lock | sort | xargs sha256sum"
    stores = [lab_host(host).check_output(listing) for host in (CUT_OFF, CONNECTED)]
    assert all(file["sha256"] in stores[0] for file in model["files"])
    assert stores[0] == stores[1]


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        (CUT_OFF, ["docker.io", "nginx"]),
        (VENDORS, ["docker-ce", "nvidia-driver-cuda", "nvidia-container-toolkit-base", "nginx"]),
    ],
)
def test_packages_came_from_the_bundle(
    content: dict[str, Any], name: str, packages: list[str]
) -> None:
    host = lab_host(name)
    known = content["packages"]["debian-12"]["packages"]
    for package in packages:
        assert host.package(package).version in known[package]
    sources = host.check_output("grep -rlE '^(URIs:|deb) .*(http|file)' /etc/apt/sources.list*")
    assert sources.split() == [
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d/baremetal-vllm-bundle.sources",
    ]


def test_packages_that_a_killed_run_left_half_copied_are_mended(content: dict[str, Any]) -> None:
    host = lab_host(CUT_OFF)
    there = "/var/lib/vllm-bundle/packages"
    listing = f"cd {there} && sha256sum *.deb"
    before = host.check_output(listing)
    host.check_output(f"cd {there} && truncate -s 100 nginx_*.deb && rm containerd_*.deb")
    host.check_output(f"rm {there}.sha256")
    run = playbook("site")
    assert run.code == 0, run.output
    assert host.check_output(listing) == before
    assert playbook("site").recap(CUT_OFF)["changed"] == 0


def test_nothing_of_the_transfer_is_left() -> None:
    left = lab_host(CUT_OFF).check_output("ls /var/lib/vllm-bundle")
    assert left.split() == ["apt.conf", "packages", "packages.sha256"]


def test_sums_hold() -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=BUNDLE, check=True)
    listed = {line.split("  ", 1)[1] for line in (BUNDLE / "SHA256SUMS").read_text().splitlines()}
    there = {str(file.relative_to(BUNDLE)) for file in BUNDLE.rglob("*") if file.is_file()}
    assert there - listed == {"SHA256SUMS", ".baremetal-vllm-bundle"}


def test_written_again_it_fetches_nothing(content: dict[str, Any]) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        large = [*BUNDLE.glob("images/**/*"), *BUNDLE.glob("models/*/*/*"), *BUNDLE.rglob("*.deb")]
        found = {
            file: file.stat() for file in large if file.is_file() and file.stat().st_size > 4096
        }
        return {file: (each.st_ino, each.st_mtime_ns) for file, each in found.items()}

    before = files()
    assert playbook("bundle").code == 0
    assert files() == before
    assert json.loads((BUNDLE / "bundle.json").read_text()) == content


def test_bundle_without_the_model_is_refused_before_a_host_is_reached(
    scenario: Scenario, tmp_path: Path
) -> None:
    other = json.loads((BUNDLE / "bundle.json").read_text()) | {"models": []}
    (tmp_path / "bundle.json").write_text(json.dumps(other))
    run = playbook("site", extra={"bundle_directory": str(tmp_path)})
    assert run.code == 2
    assert f"the bundle {tmp_path} has no model openai-lab/gpt-oss-tiny; write it" in run.output
    assert "Read the state of the host" not in run.output


def test_flipped_byte_of_the_bundle_is_never_served(scenario: Scenario) -> None:
    """A second model directory would need a second model: the copy on the host is taken away."""
    model = json.loads((BUNDLE / "bundle.json").read_text())["models"][0]
    name = max(model["files"], key=lambda file: int(file["size"]))["path"]
    home = f"{model['model'].replace('/', '--')}/{model['commit']}"
    file = BUNDLE / "models" / home / name
    host = lab_host(CUT_OFF)
    host.check_output(f"truncate -s -1 /var/lib/vllm/models/{home}/{name}")
    whole = file.read_bytes()
    try:
        file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        run = playbook("site")
        assert run.code == 2
        assert f"{name} of openai-lab/gpt-oss-tiny at" in run.output, run.output
        assert "came damaged from the bundle, so nothing was installed" in run.output
        there = f"/var/lib/vllm/models/{home}/{name}"
        assert host.file(there).size == len(whole) - 1  # as it was, and nothing else
    finally:
        file.write_bytes(whole)
    assert playbook("site").code == 0
    digest = host.check_output(f"sha256sum /var/lib/vllm/models/{home}/{name}").split()[0]
    assert digest == hashlib.sha256(whole).hexdigest()


def test_uninstall_takes_it_all(scenario: Scenario) -> None:
    assert playbook("uninstall", extra={"vllm_uninstall_weights": True}).code == 0
    host = lab_host(CUT_OFF)
    assert not host.file("/var/lib/vllm-bundle").exists
    assert not host.file("/etc/apt/sources.list.d/baremetal-vllm-bundle.sources").exists
    assert not yaml.safe_load(host.check_output("docker images -q") or "[]")
