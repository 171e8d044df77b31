# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the edge tells its operator: enough to find a request, nothing of its content or its key."""

from __future__ import annotations

import re
import socket

import engines
import pytest
from edge_server import CHAT, Edge, chat
from http_client import Connection, request
from rendering import ALICE, BOB_NEXT, INTERNAL_KEY

WRONG = "0badc0de" * 6
IN_QUERY = "feedface" * 6
PROMPT = "what nobody must read"


def test_an_entry_tells_who_asked_what_and_how_long_it_took(edge: Edge) -> None:
    answer = edge.chat(BOB_NEXT)
    [seen] = edge.seen()
    entry = edge.logged(answer.headers["X-Request-Id"])
    assert seen.header("X-Request-Id") == entry["request_id"]
    expected = {
        **{"client": "bob", "address": "127.0.0.1", "method": "POST", "path": CHAT},
        **{"protocol": "HTTP/1.1", "status": 200, "completion": "OK", "upstream_status": "200"},
    }
    assert {name: entry[name] for name in expected} == expected
    ports = [engine.port for engine in edge.engines if engine.requests]
    assert entry["upstream"] == f"127.0.0.1:{ports[0]}"
    for name in ("upstream_connect_seconds", "upstream_header_seconds", "upstream_seconds"):
        assert float(entry[name]) >= 0


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/v1/models", 405), ("GET", "/v1/secret", 404)]
)
def test_an_error_is_logged_as_what_was_asked(
    edge: Edge, method: str, path: str, status: int
) -> None:
    answer = edge.ask(method, path, {} if method == "POST" else None)
    entry = edge.logged(answer.headers["X-Request-Id"])
    assert (entry["method"], entry["path"], entry["status"]) == (method, path, status)


@pytest.mark.parametrize(
    "lines",
    [
        ("POST /v1/models HTTP/1.1", "Host: x", "Content-Length: abc"),
        (f"GET /{'a' * 40_000} HTTP/1.1", "Host: x"),
        ("hello",),
    ],
    ids=["no length", "too long", "no HTTP"],
)
def test_what_was_not_understood_is_logged_as_nothing_else(
    edge: Edge, lines: tuple[str, ...]
) -> None:
    answer = edge.send("\r\n".join([*lines, "", ""]).encode())
    entry = edge.logged(answer.headers["X-Request-Id"])
    assert (entry["method"], entry["path"], entry["status"]) == ("", "", answer.status)


def test_a_request_of_two_attempts_is_one_entry_with_both(edge: Edge) -> None:
    refused, taking = edge.engines
    refused.behaviour = engines.full
    answers = [edge.chat() for _turn in range(8)]
    assert refused.requests
    entries = [edge.logged(answer.headers["X-Request-Id"]) for answer in answers]
    again = [one for one in entries if one["upstream_status"].startswith("503")]
    assert len(again) == len(refused.requests)
    assert {re.sub(r"\s", "", one["upstream_status"]) for one in again} == {"503:200"}
    assert all(str(taking.port) in one["upstream"] for one in again)
    assert {one["method"] for one in again} == {"POST"}


def test_a_client_that_left_is_seen(edge: Edge) -> None:
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
        engine.emit("token")
    body = request("POST", CHAT, chat(stream=True), key=ALICE)
    with edge.connect() as connection, connection.stream(body) as response:
        request_id = response.headers["X-Request-Id"]
        assert response.readline()
    entry = edge.logged(request_id)
    assert entry["completion"] == ""


def test_keys_and_contents_are_nowhere(edge: Edge) -> None:
    [first, second] = edge.engines
    for key in (ALICE, WRONG, ALICE.upper()):
        for target in (CHAT, f"{CHAT}?key={IN_QUERY}", f"/v1/unknown?key={IN_QUERY}"):
            edge.ask("POST", target, chat(text=PROMPT), key=key, headers={"x-api-key": WRONG})
    for behaviour in (engines.reset, engines.full):
        first.behaviour = second.behaviour = behaviour
        edge.ask("POST", f"{CHAT}?key={IN_QUERY}", chat(text=PROMPT))
    edge.send(b"POST / HTTP/1.1\r\nAuthorization: Bearer %s\r\n\x00\r\n\r\n" % WRONG.encode())
    first.stop()
    second.stop()
    edge.chat(text=PROMPT)
    access_log = edge.path("/var/log/nginx/access.log").read_text()
    for secret in (ALICE, ALICE.upper(), WRONG, INTERNAL_KEY, PROMPT, "Bearer"):
        assert secret not in access_log + edge.error_log()
    # nginx's own log of errors has the first lines of requests, as the role's README says.
    assert IN_QUERY not in access_log


@pytest.mark.variant("one engine")
@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"* OK IMAP4rev1\r\n"])
def test_a_port_that_speaks_something_else_does_not_break_the_log(
    edge: Edge, banner: bytes
) -> None:
    async def greet(call: engines.Call) -> None:
        await call.send(banner)
        call.closed = True

    edge.engines[0].behaviour = greet
    before = len(list(edge.access_log()))
    with edge.connect() as connection:
        connection.send(request("POST", CHAT, chat(), key=ALICE, headers={"Connection": "close"}))
        while connection.sock.recv(4096):
            pass
    edge.wait_until(lambda: len(list(edge.access_log())) > before, "the request is logged")
    assert isinstance(list(edge.access_log())[-1]["status"], int)


@pytest.mark.parametrize(
    "target",
    ['/"quoted"\\', "/%22%0a{}", "/\xe4\xf6\x1b[31m"],
    ids=["quotes", "encoded line end", "not ASCII"],
)
def test_no_client_can_write_entries(edge: Edge, target: str) -> None:
    answer = edge.send(request("GET", target, key=ALICE, headers={"X-Request-Id": '"\\x'}))
    assert edge.logged(answer.headers["X-Request-Id"])["status"] in (400, 404)


def test_every_answer_has_an_id_of_its_own(edge: Edge) -> None:
    answers = [
        edge.chat(),
        edge.chat(None),
        edge.ask("GET", "/nothing"),
        edge.send(b"nonsense\r\n\r\n"),
        edge.ask("POST", CHAT, chat(), headers={"X-Request-Id": "a" * 32}),
    ]
    identities = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(identities) == len(answers)
    assert all(re.fullmatch("[0-9a-f]{32}", identity) for identity in identities)


def test_numbers_of_nginx_are_on_a_socket_of_this_host(edge: Edge) -> None:
    text = edge.path("/etc/nginx/vllm/status.conf").read_text()
    [path] = re.findall(r"listen unix:(/run/\S+);", text)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(edge.path(path)))
        sock.sendall(b"GET /stub_status HTTP/1.0\r\n\r\n")
        answer = sock.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Active connections: " in answer
    edge.ask("GET", "/stub_status").refused(404)


def test_a_kept_connection_has_one_entry_for_each_request(edge: Edge) -> None:
    with Connection(edge.port) as connection:
        answers = [connection.ask(request("POST", CHAT, chat(), key=ALICE)) for _turn in range(3)]
    entries = [edge.logged(answer.headers["X-Request-Id"]) for answer in answers]
    assert [one["connection_requests"] for one in entries] == [1, 2, 3]
    assert len({one["connection"] for one in entries}) == 1
