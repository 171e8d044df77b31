# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""One edge holds the address; when it fails another one takes it, and its own streams go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from clients import SHARED, Streams, healthy, holders, openai, seconds_until
from conftest import SCENARIO, lab_host, playbook
from testinfra.host import Host

WITHIN = 5.0
"""Seconds from a failure to the first answer under the address."""


@dataclass(frozen=True)
class Failure:
    """How a host fails, and how it is mended."""

    breaks: Callable[[str], None]
    mends: Callable[[str], None]


def on_host(command: str) -> Callable[[str], None]:
    def run(name: str) -> None:
        lab_host(name).check_output(command)

    return run


# Neither requests nor advertisements come through; Docker, which the tests speak to, is outside.
CUT_OFF = """nft -f - <<'END'
table inet lab_cut_off {
    chain in { type filter hook input priority -300; iifname "eth0" drop; }
    chain out { type filter hook output priority -300; oifname "eth0" drop; }
}
END"""

# By hand; its unit refuses to be stopped, as the package would do that at every upgrade.
STOP_NGINX = "systemctl kill --kill-whom=main --signal=QUIT nginx"

FAILURES = {
    "nginx is stopped": Failure(on_host(STOP_NGINX), on_host("systemctl start nginx")),
    "keepalived is stopped": Failure(
        on_host("systemctl stop keepalived"), on_host("systemctl start keepalived")
    ),
    "keepalived is killed": Failure(
        on_host("systemctl kill --kill-whom=all --signal=KILL keepalived"),
        on_host("systemctl is-active --wait keepalived || sleep 2"),
    ),
    "the host is cut off": Failure(on_host(CUT_OFF), on_host("nft delete table inet lab_cut_off")),
}


@pytest.fixture(autouse=True)
def one_holder() -> Iterator[None]:
    """Every test begins and ends with one holder and both edges at work."""
    assert seconds_until(lambda: len(holders()) == 1) < WITHIN
    yield
    assert seconds_until(lambda: len(holders()) == 1) < WITHIN
    assert all(healthy(front) for front in SCENARIO.edge_hosts)


def other(holder: str) -> str:
    (found,) = (front for front in SCENARIO.edge_hosts if front != holder)
    return found


@pytest.mark.parametrize("name", FAILURES)
def test_address_moves_and_the_survivors_streams_go_on(name: str) -> None:
    failure = FAILURES[name]
    (holder,) = holders()
    survivor = other(holder)
    with Streams(survivor) as streams:
        moment = time.monotonic()
        failure.breaks(holder)
        # The survivor must answer: the holder may serve until it gives the address up.
        needed = seconds_until(lambda: holds(survivor) and healthy())
        assert openai().models.list().data
        failure.mends(holder)
        assert seconds_until(lambda: healthy(holder)) < WITHIN
    print(f"{name}: the address answered after {needed:.1f} s")
    assert needed < WITHIN
    assert len(streams.across(moment)) == 4
    assert streams.cut() == []


def holds(front: str) -> bool:
    asked = f"ip -oneline address show to {SHARED}"
    return bool(lab_host(front).check_output(asked))


def test_host_that_comes_back_does_not_take_the_address_back() -> None:
    """From whichever host it is: one of the two has the higher priority."""
    for _ in SCENARIO.edge_hosts:
        (holder,) = holders()
        survivor = other(holder)
        lab_host(holder).check_output(STOP_NGINX)
        assert seconds_until(partial(holds, survivor)) < WITHIN
        lab_host(holder).check_output("systemctl start nginx")
        time.sleep(6)  # two checks and three advertisements
        assert holders() == [survivor]


def test_reload_of_keepalived_moves_nothing(edge_host: Host) -> None:
    held = holders()
    with Streams() as streams:
        edge_host.check_output("systemctl reload keepalived")
        time.sleep(4)
    assert holders() == held
    assert streams.cut() == []


def test_changed_setting_is_taken_over_without_a_move() -> None:
    held = holders()
    with Streams() as streams:
        for extra in ({"edge_vip_priority": 7}, {}):
            run = playbook("site", extra=extra)
            assert run.code == 0, run.output
            assert run.recap(held[0])["changed"] == 1, run.output
    assert holders() == held
    assert streams.cut() == []


def test_another_port_takes_the_address_from_nobody() -> None:
    """keepalived asks where that port does not matter: not for a moment does its check fail."""
    held = holders()
    before = {name: lab_host(name).check_output("date +%s") for name in SCENARIO.edge_hosts}
    for extra in ({"edge_port": 9443}, {}):
        run = playbook("site", extra=extra)
        assert run.code == 0, run.output
    assert holders() == held
    for name, moment in before.items():
        asked = f"journalctl --unit keepalived --since @{moment} --output cat"
        said = lab_host(name).check_output(asked)
        assert "failed" not in said, said
        assert "Entering" not in said, said


def test_configuration_that_keepalived_refuses_does_not_replace_the_one_in_force(
    edge_host: Host,
) -> None:
    before = edge_host.file("/etc/keepalived/keepalived.conf").content_string
    run = playbook("site", extra={"edge_vip_interface": "nonesuch0"})
    assert run.code != 0
    assert "nonesuch0" in run.output, run.output
    assert edge_host.file("/etc/keepalived/keepalived.conf").content_string == before
    assert edge_host.service("keepalived").is_running


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"edge_vip_address": "192.0.2.10"}, "it must be an IPv4 address that a host can have"),
        ({"edge_listen_address": "127.0.0.1"}, "and edge_listen_address is '127.0.0.1'"),
        ({"edge_vip_address": "198.51.100.7/24"}, "which no network of this host has"),
    ],
)
def test_address_that_cannot_be_is_refused(extra: dict[str, str], words: str) -> None:
    held = holders()
    run = playbook("site", extra=extra)
    assert run.code != 0
    assert words in run.output, run.output
    assert holders() == held


def test_one_edge_alone_is_refused() -> None:
    """It would not hear the other one any more."""
    run = playbook("site", "--limit", f"gpu_hosts,{SCENARIO.edge_hosts[0]}")
    assert run.code != 0
    assert f"{SCENARIO.edge_hosts[1]} took no part in this run" in run.output, run.output
