# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Certificates of an ACME authority: got, renewed and given up without a moment of silence."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from authority import TRUSTED, Authority, start
from clients import AUTHORITY, seconds_until
from conftest import SCENARIO, Run, address, lab_host, playbook
from cryptography import x509

PORT = SCENARIO.edge_port
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/nginx-vllm"
RENEWALS = "find /etc/letsencrypt/renewal -name '*.conf'"


def name_of(front: str) -> str:
    return f"{front}.llm.example.net"


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    started = start(SCENARIO.edge_hosts[0])
    try:
        assert seconds_until(lambda: bool(served_root(started))) < 30
        for front in SCENARIO.edge_hosts:
            started.name(name_of(front), address(front))
        yield started
    finally:
        started.stop()


def served_root(authority: Authority) -> str:
    try:
        return authority.root()
    except AssertionError:
        return ""


def wanted(authority: Authority, **changed: Any) -> dict[str, Any]:
    """A name for every edge, and no shared address: challenges would reach one edge only."""
    return {
        "edge_vip_address": "",
        "edge_tls": "acme",
        "edge_server_names": ["{{ inventory_hostname }}.llm.example.net"],
        "edge_acme_email": "operator@example.net",
        "edge_acme_directory": authority.url,
        "edge_acme_ca": TRUSTED,
    } | changed


def assert_unchanged(run: Run) -> None:
    assert run.code == 0, run.output
    for front in SCENARIO.edge_hosts:
        assert run.recap(front)["changed"] == 0, run.output


def shown(front: str, name: str = "", trusted: str = "") -> x509.Certificate:
    """The certificate that an edge serves; checked as clients do where a name is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if name:
        context.load_verify_locations(cadata=trusted)
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address(front), PORT), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name or None) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der)


def serials() -> list[int]:
    return [shown(front).serial_number for front in SCENARIO.edge_hosts]


@dataclass
class Silence:
    """Connections that an edge did not take, of those that were tried all the time."""

    front: str
    tried: int = 0
    problems: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self._over.wait(0.05):
            self.tried += 1
            try:
                shown(self.front)
            except OSError as error:
                self.problems.append(str(error))

    def end(self) -> None:
        self._over.set()


@contextlib.contextmanager
def no_silence() -> Iterator[None]:
    """Every edge takes every connection while the block runs."""
    watches = [Silence(front) for front in SCENARIO.edge_hosts]
    threads = [threading.Thread(target=watch.watch) for watch in watches]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for watch in watches:
            watch.end()
        for thread in threads:
            thread.join()
    for watch in watches:
        assert watch.tried > 5
        assert watch.problems == []


def test_an_authority_that_cannot_be_asked_leaves_the_edges_as_they_run(
    authority: Authority,
) -> None:
    before = serials()
    with no_silence():
        run = playbook(
            "site",
            extra=wanted(authority, edge_acme_directory=authority.url.replace("14000", "14999")),
        )
    assert run.code != 0
    assert "gave no certificate for front1.llm.example.net" in run.output, run.output
    assert "certbot said:" in run.output
    assert serials() == before


def test_a_name_that_leads_elsewhere_leaves_the_edges_as_they_run(authority: Authority) -> None:
    """What the authority found out about it is told."""
    before = serials()
    for front in SCENARIO.edge_hosts:
        authority.name(f"elsewhere-{front}.llm.example.net", address("gpu1"))
    names = ["elsewhere-{{ inventory_hostname }}.llm.example.net"]
    with no_silence():
        run = playbook("site", extra=wanted(authority, edge_server_names=names))
    assert run.code != 0
    assert "Some challenges have failed" in run.output, run.output
    assert serials() == before


def test_check_mode_says_what_would_be_asked_for(authority: Authority) -> None:
    before = serials()
    run = playbook("site", "--check", extra=wanted(authority))
    assert run.code == 0, run.output
    for front in SCENARIO.edge_hosts:
        assert f"for a certificate for {name_of(front)}: there is none." in " ".join(
            run.output.split()
        )
    assert serials() == before


def test_every_edge_gets_the_certificate_of_its_name(authority: Authority) -> None:
    with no_silence():
        run = playbook("site", extra=wanted(authority))
    assert run.code == 0, run.output
    for front in SCENARIO.edge_hosts:
        certificate = shown(front, name_of(front), authority.root())
        assert "Pebble" in certificate.issuer.rfc4514_string()
        assert not lab_host(front).service("nginx-vllm-acme").is_running


def test_another_run_changes_nothing_and_verify_is_content(authority: Authority) -> None:
    before = serials()
    assert_unchanged(playbook("site", extra=wanted(authority)))
    assert_unchanged(playbook("site", "--check", extra=wanted(authority)))
    run = playbook("verify", extra=wanted(authority))
    assert run.code == 0, run.output
    assert serials() == before


@pytest.mark.usefixtures("authority")
def test_keys_in_clear_are_refused_at_the_port_of_challenges() -> None:
    """No redirect: whoever sends a key there shall notice."""
    for front in SCENARIO.edge_hosts:
        with socket.create_connection((address(front), 80), timeout=5) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            with connection.makefile("rb") as stream:
                answer = stream.read().decode()
        assert answer.startswith("HTTP/1.1 404 "), answer
        assert '"error"' in answer


@pytest.mark.usefixtures("authority")
def test_certbots_own_timer_renews_and_nginx_takes_it_over() -> None:
    """By the unit that the timer starts, with no play. Pebble's certificates last five years."""
    before = serials()
    with no_silence():
        for front in SCENARIO.edge_hosts:
            host = lab_host(front)
            assert host.service("certbot.timer").is_enabled
            assert host.service("certbot.timer").is_running
            setting = "s/^#* *renew_before_expiry.*/renew_before_expiry = 3650 days/"
            host.check_output(f"sed -i '{setting}' $({RENEWALS})")
            host.check_output("systemctl start certbot.service")
            assert seconds_until(lambda front=front: shown(front).serial_number not in before) < 10
    assert set(serials()).isdisjoint(before)


def test_a_renewal_by_certbot_is_no_change_for_a_run(authority: Authority) -> None:
    assert_unchanged(playbook("site", extra=wanted(authority)))


def test_another_name_gets_another_certificate(authority: Authority) -> None:
    """The edges answer the challenges themselves by now."""
    for front in SCENARIO.edge_hosts:
        authority.name(f"api.{name_of(front)}", address(front))
    names = [
        *wanted(authority)["edge_server_names"],
        "api.{{ inventory_hostname }}.llm.example.net",
    ]
    before = serials()
    with no_silence():
        run = playbook("site", extra=wanted(authority, edge_server_names=names))
    assert run.code == 0, run.output
    for front in SCENARIO.edge_hosts:
        shown(front, f"api.{name_of(front)}", authority.root())
    assert set(serials()).isdisjoint(before)
    assert_unchanged(playbook("site", extra=wanted(authority, edge_server_names=names)))


def test_of_another_first_name_one_certificate_is_left_to_renew(authority: Authority) -> None:
    """certbot calls it after its first name. That of the old one may lead elsewhere soon."""
    names = ["api.{{ inventory_hostname }}.llm.example.net"]
    with no_silence():
        run = playbook("site", extra=wanted(authority, edge_server_names=names))
    assert run.code == 0, run.output
    for front in SCENARIO.edge_hosts:
        host = lab_host(front)
        shown(front, f"api.{name_of(front)}", authority.root())
        assert host.check_output(RENEWALS).endswith(f"/api.{name_of(front)}.conf")
        assert host.check_output(f"{RENEWALS} | wc -l") == "1"
    assert_unchanged(playbook("site", extra=wanted(authority, edge_server_names=names)))


def test_given_up_certbot_renews_nothing_any_more() -> None:
    with no_silence():
        run = playbook("site")
    assert run.code == 0, run.output
    for front in SCENARIO.edge_hosts:
        host = lab_host(front)
        shown(front, "llm.example.net", host.file(AUTHORITY).content_string)
        assert not host.file(HOOK).exists
        assert host.check_output(RENEWALS) == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address(front), 80), timeout=5)
    assert_unchanged(playbook("site"))
