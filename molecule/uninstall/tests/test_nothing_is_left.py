# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""After playbooks/uninstall.yml: no unit, container, image or file of ours but the weights."""

from __future__ import annotations

from testinfra.host import Host


def test_no_unit_is_left(gpu_host: Host) -> None:
    for command in ("list-unit-files --no-legend", "list-units --all --plain --no-legend"):
        assert gpu_host.run(f"systemctl {command} 'vllm*'").stdout == ""


def test_no_container_and_no_image_is_left(gpu_host: Host) -> None:
    assert gpu_host.check_output("docker ps --all --quiet") == ""
    assert gpu_host.check_output("docker images --all --quiet") == ""


def test_no_file_is_left(gpu_host: Host, edge_host: Host) -> None:
    for host in (gpu_host, edge_host):
        found = host.check_output(
            "find / -xdev \\( -path /proc -o -path /sys -o -path '/var/log/*' \\) -prune"
            " -o -path /var/lib/vllm -prune"
            " -o \\( -iname '*vllm*' -o -iname '*baremetal*' \\) -print"
        )
        assert found == "", found
    assert not edge_host.file("/var/lib/vllm").exists
    assert gpu_host.check_output("ls -A /var/lib/vllm") == "models"


def test_weights_are_kept(gpu_host: Host) -> None:
    store = "/var/lib/vllm/models/openai-lab--gpt-oss-tiny"
    weights = gpu_host.check_output(f"find {store} -name '*.safetensors' -size +1M").splitlines()
    assert weights
    for path in weights:
        assert (gpu_host.file(path).mode, gpu_host.file(path).uid) == (0o644, 0)
    assert len(gpu_host.check_output(f"ls {store}/*.json").splitlines()) == 1, "the manifest"
    assert gpu_host.check_output(f"find {store} -name '*.part*'") == ""


def test_packet_filter_is_gone(gpu_host: Host) -> None:
    assert "vllm" not in gpu_host.check_output("nft list tables")


def test_engine_of_the_host_stays(gpu_host: Host) -> None:
    assert gpu_host.service("docker").is_running


def test_nginx_is_stopped_and_its_package_stays(edge_host: Host) -> None:
    nginx = edge_host.service("nginx")
    assert not nginx.is_running
    assert not nginx.is_enabled
    assert edge_host.package("nginx").is_installed


def test_nginx_has_the_distributions_configuration(edge_host: Host) -> None:
    assert "vllm" not in edge_host.file("/etc/nginx/nginx.conf").content_string
    assert not edge_host.file("/etc/nginx/nginx.conf.distribution").exists
    assert "/etc/" not in edge_host.run("dpkg --verify nginx-common").stdout
