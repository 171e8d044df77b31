# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""TLS as Mozilla's guidelines 6.0 say, level intermediate. `edge-scan` asks a scanner as well."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess

import pytest
from edge_server import CHAT, Edge, chat
from http_client import Connection, request
from rendering import ALICE

VARIANT = "tls"

# Those with a certificate of an elliptic curve, which the tests use.
CIPHERS = (
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    "ECDHE-ECDSA-CHACHA20-POLY1305",
)
WEAK_CIPHERS = (
    *("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384"),
    *("ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-CAMELLIA128-SHA256", "AES128-GCM-SHA256"),
    *("AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "NULL", "aNULL"),
)


def client(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Speaks one version, takes any certificate and offers whatever OpenSSL can."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


def handshake(edge: Edge, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", edge.port), 10))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_of_today_are_spoken(edge: Edge, version: ssl.TLSVersion) -> None:
    connection = Connection(edge.port, client(version))
    with connection:
        assert connection.ask(request("POST", CHAT, chat(), key=ALICE)).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_refused(edge: Edge, version: ssl.TLSVersion) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(edge, client(version)).close()


@pytest.mark.parametrize("cipher", CIPHERS)
def test_ciphers_of_tls_1_2(edge: Edge, cipher: str) -> None:
    context = client(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher)
    with handshake(edge, context) as sock:
        negotiated = sock.cipher()
    assert negotiated
    assert negotiated[0] == cipher


@pytest.mark.parametrize("cipher", WEAK_CIPHERS)
def test_weak_ciphers_are_refused(edge: Edge, cipher: str) -> None:
    context = client(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(edge, context).close()


@pytest.mark.parametrize(
    ("offered", "spoken"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)]
)
def test_http2_is_spoken_where_the_client_can(
    edge: Edge, offered: list[str], spoken: str | None
) -> None:
    context = client(ssl.TLSVersion.TLSv1_3)
    if offered:
        context.set_alpn_protocols(offered)
    with handshake(edge, context) as sock:
        assert sock.selected_alpn_protocol() == spoken


@pytest.mark.parametrize(
    ("method", "target", "key", "status"),
    [
        ("GET", "/v1/models", ALICE, 200),
        ("GET", "/v1/models", None, 401),
        ("GET", "/metrics", ALICE, 404),
        ("GET", CHAT, ALICE, 405),
    ],
)
def test_every_answer_keeps_browsers_on_tls(
    edge: Edge, method: str, target: str, key: str | None, status: int
) -> None:
    answer = edge.ask(method, target, key=key)
    assert answer.status == status
    assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"


@pytest.mark.variant("one")
def test_plain_http_does_not_promise_tls(edge: Edge) -> None:
    assert edge.chat().headers["Strict-Transport-Security"] is None


def test_a_plain_request_is_refused_as_json(edge: Edge) -> None:
    with Connection(edge.port) as plain:
        plain.ask(request("POST", CHAT, chat(), key=ALICE)).refused(400, "bad_request")
    assert edge.seen() == []


def test_an_engine_is_told_that_the_client_came_by_tls(edge: Edge) -> None:
    assert edge.chat().status == 200
    [seen] = edge.seen()
    assert seen.header("X-Forwarded-Proto") == "https"


def ticket_keys_change() -> bool:
    """nginx before 1.23.2 never changes the key of its tickets; the role turns those off."""
    told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", told)
    assert found, told
    return tuple(map(int, found.groups())) >= (1, 23, 2)


def test_a_session_is_resumed_without_a_ticket_that_never_changes(edge: Edge) -> None:
    context = client(ssl.TLSVersion.TLSv1_2)
    with handshake(edge, context) as first:
        session = first.session
        assert session is not None
        assert session.has_ticket == ticket_keys_change()
    sock = socket.create_connection(("127.0.0.1", edge.port), 10)
    with context.wrap_socket(sock, session=session) as second:
        assert second.session_reused


def test_a_name_of_another_host_is_not_served_otherwise(edge: Edge) -> None:
    # There is one server: whichever name a client asks for, it gets this one or an error.
    connection = http.client.HTTPSConnection(
        "127.0.0.1", edge.port, context=client(ssl.TLSVersion.TLSv1_3)
    )
    connection.request("GET", "/metrics", headers={"Host": "other.example.net"})
    assert connection.getresponse().status == 404
    connection.close()
