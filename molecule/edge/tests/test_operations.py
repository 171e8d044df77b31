# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Planned changes under streams cut none of them; unplanned ones leave an edge that serves."""

from __future__ import annotations

import re
import time

import pytest
from certificates import expired
from clients import Streams, healthy, holders, openai, seconds_until
from conftest import SCENARIO, lab_host, playbook
from testinfra.host import Host

EVERY_HOST = SCENARIO.gpu_hosts + SCENARIO.edge_hosts


def assert_nothing_changes(*arguments: str) -> None:
    run = playbook("site", *arguments)
    assert run.code == 0, run.output
    for host in EVERY_HOST:
        assert run.recap(host)["changed"] == 0, run.output


@pytest.mark.parametrize("arguments", [("--check", "--diff"), ()], ids=["check", "run"])
def test_run_on_a_converged_fleet_changes_nothing_and_cuts_nothing(
    arguments: tuple[str, ...],
) -> None:
    held = holders()
    with Streams() as streams:
        assert_nothing_changes(*arguments)
    assert streams.cut() == []
    assert holders() == held


def test_playbook_verify_finds_all_well() -> None:
    run = playbook("verify")
    assert run.code == 0, run.output
    assert "Ask the edge under the virtual address" in run.output


# -- reload ---------------------------------------------------------------------------------------


def test_changed_configuration_is_taken_over_under_streams() -> None:
    """A limit more, and back again: two reloads of both edges."""
    held = holders()
    with Streams() as streams:
        for extra in ({"edge_client_concurrency": 50}, {}):
            run = playbook("site", extra=extra)
            assert run.code == 0, run.output
            for front in SCENARIO.edge_hosts:
                assert run.recap(front)["changed"] > 0, run.output
    assert len(streams.answers) >= 8
    assert streams.cut() == []
    assert holders() == held


def test_engine_is_taken_out_of_rotation_under_streams() -> None:
    """It leaves the edges first and is stopped when its streams have ended; then it comes back."""
    with Streams(count=6) as streams:
        run = playbook("site", extra={"lab_leaving": True})
        assert run.code == 0, run.output
        back = playbook("site")
        assert back.code == 0, back.output
    assert streams.cut() == []


# -- the package of nginx -------------------------------------------------------------------------

REPACK = r"""
set -e
rm -rf /tmp/newer && mkdir /tmp/newer && cd /tmp/newer
apt-get -qq update >/dev/null 2>&1 || true
names=$(dpkg-query -f '${Package} ${source:Package}\n' -W | awk '$2 == "nginx" {print $1}')
for name in $names; do
    apt-get -qq download "$name=$(apt-cache madison "$name" | awk '{print $3; exit}')" 2>/dev/null
done
newer=$(dpkg-query -f '${Version}' -W nginx).1
for file in *.deb; do
    dpkg-deb -R "$file" unpacked
    version=$(sed -n 's/^Version: //p' unpacked/DEBIAN/control)
    sed -i "s/$version/$newer/g" unpacked/DEBIAN/control
    dpkg-deb -b unpacked "newer-$file" >/dev/null
    rm -r unpacked "$file"
done
"""
UPGRADE = "DEBIAN_FRONTEND=noninteractive apt-get -y install /tmp/newer/*.deb"


def version(front: Host) -> str:
    return str(front.check_output("dpkg-query -f '${Version}' -W nginx"))


def master(front: Host) -> str:
    return str(front.check_output("systemctl show -P MainPID nginx"))


@pytest.mark.parametrize("name", SCENARIO.edge_hosts)
def test_package_of_nginx_is_upgraded_under_streams(name: str) -> None:
    """Debian's package starts the new program beside the old one, which ends its streams."""
    front, held = lab_host(name), holders()
    before = version(front), master(front)
    front.check_output("sh -c %s", REPACK)
    with Streams(name) as streams:
        moment = time.monotonic()
        front.check_output(UPGRADE)
        assert healthy(name)
    assert len(streams.across(moment)) == 4
    assert streams.cut() == []
    assert version(front) == f"{before[0]}.1"
    assert seconds_until(lambda: master(front) != before[1]) < 5
    assert front.service("nginx").is_running
    assert "deleted" not in front.check_output(f"readlink /proc/{master(front)}/exe")
    assert holders() == held


@pytest.mark.parametrize("name", SCENARIO.edge_hosts)
def test_new_program_is_reloaded_as_the_old_one_was(name: str) -> None:
    with Streams(name) as streams:
        for _ in range(3):
            lab_host(name).check_output("systemctl reload nginx")
            time.sleep(1)
    assert streams.cut() == []


def test_run_behind_the_upgrade_changes_nothing() -> None:
    assert_nothing_changes()


# -- what keeps nginx safe ------------------------------------------------------------------------


def test_unit_is_confined(edge_host: Host) -> None:
    """While nginx serves: what systemd cannot enforce here it does not count."""
    assert edge_host.service("nginx").is_running
    said = edge_host.check_output("systemd-analyze security --no-pager nginx.service")
    level = re.search(r"Overall exposure level for nginx\.service: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= 3.0, said


def test_confinement_holds_in_the_running_processes(edge_host: Host) -> None:
    status = edge_host.check_output(f"cat /proc/{master(edge_host)}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
    assert int(fields["CapBnd"], 16).bit_count() == 5


def test_needrestart_lists_nginx_and_leaves_it(edge_host: Host) -> None:
    """A library under it is replaced, as an upgrade of security does."""
    edge_host.check_output(
        "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1"
        " apt-get -qq -y install needrestart >/dev/null"
    )
    library = edge_host.check_output(
        f"awk '/libcrypt.*so/ {{print $6; exit}}' /proc/{master(edge_host)}/maps"
    )
    edge_host.check_output(f"cp -a {library} {library}.new && mv {library}.new {library}")
    before = master(edge_host)
    said = edge_host.check_output("needrestart -l -r a -v 2>&1")
    assert "nginx" in said, said
    assert master(edge_host) == before
    assert edge_host.service("keepalived").is_running


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIO.edge_hosts)
def test_killed_nginx_starts_again_although_its_socket_is_left(name: str) -> None:
    front = lab_host(name)
    before = master(front)
    front.check_output("systemctl kill --kill-whom=all --signal=KILL nginx")
    assert seconds_until(lambda: healthy(name)) < 10
    assert master(front) != before
    socket = front.check_output("find /run -type s -name '*nginx*' -o -type s -name '*vllm*'")
    asked = "curl --silent --fail --unix-socket %s http://localhost/stub_status"
    assert "Active connections" in front.check_output(asked, socket.split()[0])


def test_expired_certificate_is_refused_and_the_edge_serves_on() -> None:
    pem, private_key = expired("llm.example.net")
    fronts = [lab_host(name) for name in SCENARIO.edge_hosts]
    for front in fronts:
        front.check_output("mkdir -p /etc/ssl/lab && chmod 700 /etc/ssl/lab")
        front.check_output("printf %%s %s >/etc/ssl/lab/edge.pem", pem)
        front.check_output("printf %%s %s >/etc/ssl/lab/edge.key", private_key)
    before = [master(front) for front in fronts]
    with Streams() as streams:
        run = playbook(
            "site",
            extra={
                "edge_tls": "files",
                "edge_tls_certificate": "/etc/ssl/lab/edge.pem",
                "edge_tls_key": "/etc/ssl/lab/edge.key",
                "edge_server_names": ["llm.example.net"],
            },
        )
    assert run.code != 0
    for name in SCENARIO.edge_hosts:
        assert f"{name}: /etc/ssl/lab/edge.pem has expired on" in run.output, run.output
        assert run.recap(name)["changed"] == 0, run.output
    assert streams.cut() == []
    assert [master(front) for front in fronts] == before
    assert openai().models.list().data
    for front in fronts:
        front.check_output("rm -r /etc/ssl/lab")
