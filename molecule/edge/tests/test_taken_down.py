# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The last tests: the address is taken away alone, then all of it. Nothing is left."""

from __future__ import annotations

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
