# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Who may ask. Nobody else costs an engine so much as a connection."""

from __future__ import annotations

import json

import pytest
from edge_server import CHAT, Edge, chat
from http_client import Answer, request
from rendering import ALICE, BOB, BOB_NEXT, CAROL, DAVE, INTERNAL_KEY

BODY = json.dumps(chat()).encode()


def ask(edge: Edge, *headers: str) -> Answer:
    """With exactly these header lines, beside those of the body."""
    lines = [f"POST {CHAT} HTTP/1.1", "Host: x", f"Content-Length: {len(BODY)}", *headers]
    return edge.send("\r\n".join([*lines, "", ""]).encode("latin-1") + BODY)


@pytest.mark.parametrize(
    ("key", "client"),
    [(ALICE, "alice"), (BOB, "bob"), (BOB_NEXT, "bob"), (CAROL, "carol"), (DAVE, "dave")],
    ids=["alice", "bob", "bob, the next key", "carol", "dave"],
)
@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "authorization: bearer {}"])
def test_each_key_of_a_client_is_its_own(edge: Edge, key: str, client: str, header: str) -> None:
    answer = ask(edge, header.format(key))
    assert answer.status == 200
    assert edge.logged(answer.headers["X-Request-Id"])["client"] == client


@pytest.mark.variant("every path")
@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/messages/count_tokens"])
def test_the_key_may_come_as_anthropics_clients_send_it(edge: Edge, path: str) -> None:
    answer = edge.ask("POST", path, chat(), key=None, headers={"x-api-key": BOB_NEXT})
    assert answer.status == 200
    assert edge.logged(answer.headers["X-Request-Id"])["client"] == "bob"
    assert edge.seen()[-1].header("x-api-key") is None


WRONG = {
    "none": (),
    "empty": ("Authorization:",),
    "no key": ("Authorization: Bearer",),
    "another one": (f"Authorization: Bearer {'0' * 48}",),
    "upper case": (f"Authorization: Bearer {ALICE.upper()}",),
    "one upper-case letter": (f"Authorization: Bearer {ALICE[:-1]}{ALICE[-1:]}A",),
    "too short": (f"Authorization: Bearer {ALICE[:-1]}",),
    "too long": (f"Authorization: Bearer {ALICE}0",),
    "of a start": ("Authorization: Bearer a",),
    "two keys": (f"Authorization: Bearer {ALICE}, Bearer {BOB}",),
    "two spaces": (f"Authorization: Bearer  {ALICE}",),
    "no scheme": (f"Authorization: {ALICE}",),
    "another scheme": (f"Authorization: Basic {ALICE}",),
    "with a password": ("Authorization: Basic YWxpY2U6YWxpY2U=",),
    "the engines' own": (f"Authorization: Bearer {INTERNAL_KEY}",),
    "a client's name": ("Authorization: Bearer alice",),
    "a word of maps": ("Authorization: default",),
    "another header": (f"Proxy-Authorization: Bearer {ALICE}", f"Cookie: key={ALICE}"),
    "not ASCII": ("Authorization: Bearer \xe4\xf6\xfc",),
    "very long": (f"Authorization: Bearer {'a' * 4000}",),
    "wrong x-api-key": (f"x-api-key: {'0' * 48}",),
    "upper-case x-api-key": (f"x-api-key: {ALICE.upper()}",),
    "empty x-api-key": ("x-api-key:",),
    "x-api-key with a scheme": (f"x-api-key: Bearer {ALICE}",),
    "x-api-key of the engines": (f"x-api-key: {INTERNAL_KEY}",),
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_without_a_right_key_no_engine_sees_anything(edge: Edge, headers: tuple[str, ...]) -> None:
    answer = ask(edge, *headers)
    answer.refused(401, "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert edge.seen() == []
    entry = edge.logged(answer.headers["X-Request-Id"])
    assert (entry["client"], entry["upstream"]) == ("", "")


@pytest.mark.parametrize(
    "headers",
    [
        (f"Authorization: Bearer {ALICE}", f"Authorization: Bearer {ALICE}"),
        (f"Authorization: Bearer {ALICE}", f"Authorization: Bearer {BOB}"),
        (f"Authorization: Bearer {'0' * 48}", f"Authorization: Bearer {ALICE}"),
        (f"Authorization: Bearer {ALICE}", "authorization: Bearer x"),
        (f"x-api-key: {'0' * 48}", f"x-api-key: {ALICE}"),
    ],
)
def test_a_header_that_comes_twice_is_refused(edge: Edge, headers: tuple[str, ...]) -> None:
    answer = ask(edge, *headers)
    assert answer.status in (400, 401)
    answer.refused(answer.status)
    assert edge.seen() == []


def test_a_key_in_the_address_is_none(edge: Edge) -> None:
    answer = edge.ask("POST", f"{CHAT}?api_key={ALICE}&key={ALICE}", chat(), key=None)
    answer.refused(401, "invalid_api_key")


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_is_not_served_is_said_without_a_key(edge: Edge, method: str) -> None:
    edge.ask(method, "/metrics", key=None).refused(404, "unknown_url")


def test_a_kept_connection_does_not_keep_the_key(edge: Edge) -> None:
    with edge.connect() as connection:
        assert connection.ask(request("POST", CHAT, chat(), key=ALICE)).status == 200
        connection.ask(request("POST", CHAT, chat())).refused(401)
        assert connection.ask(request("POST", CHAT, chat(), key=BOB)).status == 200


@pytest.mark.variant("open")
@pytest.mark.parametrize("key", [None, "anything"])
def test_on_loopback_keys_may_be_left_out(edge: Edge, key: str | None) -> None:
    answer = edge.chat(key)
    assert answer.status == 200
    assert edge.logged(answer.headers["X-Request-Id"])["client"] == "anonymous"


def named(edge: Edge, host: str) -> Answer:
    """The answer to a request without a key, by a name that somebody gave this machine."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    return edge.send(head.encode() + BODY)


@pytest.mark.variant("open")
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]:8080",
        "edge.example.net",
    ],
)
def test_without_keys_the_edge_answers_to_its_own_names(edge: Edge, host: str) -> None:
    assert named(edge, host).status == 200


@pytest.mark.variant("open")
@pytest.mark.parametrize(
    "host",
    ["attacker.example", "localhost.attacker.example", "edge.example.net.attacker.example", "x"],
)
def test_without_keys_no_web_page_reaches_it_by_a_name_of_its_own(edge: Edge, host: str) -> None:
    """Its name may lead to this machine, and a browser would show it the answers."""
    error = named(edge, host).refused(401, "invalid_api_key")
    assert "edge_server_names" in error["message"]
    edge.send(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).refused(401)
    assert edge.seen() == []
    assert edge.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).status == 200
