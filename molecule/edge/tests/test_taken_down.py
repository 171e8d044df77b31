# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The last tests: the address is taken away alone, then all of it. Nothing is left."""

from __future__ import annotations

from pathlib import Path

from clients import holders
from conftest import SCENARIO, lab_host, playbook

WORDS = r"-iname '*vllm*' -o -iname '*baremetal*' -o -path /etc/keepalived/keepalived.conf"
FILES = rf"find /etc /run /var /usr/local -xdev -path '/var/log/*' -prune -o \( {WORDS} \) -print"


def test_emptied_address_is_given_back_and_the_edges_serve_on() -> None:
    run = playbook("site", extra={"edge_vip_address": "", "edge_server_names": ["llm.example.net"]})
    assert run.code == 0, run.output
    assert holders() == []
    for name in SCENARIO.edge_hosts:
        assert not lab_host(name).service("keepalived").is_running
        assert not lab_host(name).service("keepalived").is_enabled
        assert lab_host(name).service("nginx").is_running
    again = playbook("site")
    assert again.code == 0, again.output
    assert len(holders()) == 1


def test_gpu_host_that_was_an_edge_for_a_while_is_none_any_more(tmp_path: Path) -> None:
    joined = tmp_path / "joined.yml"
    joined.write_text("edge_hosts: {hosts: {gpu1: }}\n")
    gpu = lab_host("gpu1")
    began = "docker inspect --format '{{.State.StartedAt}}' vllm-gpt-oss-tiny"
    engine = gpu.check_output(began)
    run = playbook("site", "-i", str(joined))
    assert run.code == 0, run.output
    for service in ("nginx", "keepalived"):
        assert gpu.service(service).is_running
    assert len(holders()) == 1
    said = playbook("doctor").output
    assert "This host is no edge by the inventory" in said, said
    run = playbook("site")
    assert run.code == 0, run.output
    assert len(holders()) == 1
    for service in ("nginx", "keepalived"):
        assert not gpu.service(service).is_running
        assert not gpu.service(service).is_enabled
    assert not gpu.file("/etc/nginx/vllm").exists
    assert gpu.check_output(began) == engine
    again = playbook("site")
    assert again.recap("gpu1")["changed"] == 0, again.output


def test_uninstalling_leaves_nothing() -> None:
    run = playbook("uninstall")
    assert run.code == 0, run.output
    assert holders() == []
    for name in SCENARIO.edge_hosts:
        front = lab_host(name)
        assert front.check_output(FILES) == ""
        for service in ("nginx", "keepalived"):
            assert not front.service(service).is_running
            assert not front.service(service).is_enabled
        assert front.check_output("systemctl list-units --failed --plain --no-legend") == ""
        assert "/etc/" not in front.run("dpkg --verify nginx-common keepalived").stdout


def test_uninstalling_again_changes_nothing() -> None:
    run = playbook("uninstall")
    assert run.code == 0, run.output
    for name in SCENARIO.edge_hosts:
        assert run.recap(name)["changed"] == 0, run.output
