# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import socket
import time

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _http
from ansible_collections.baremetal.vllm.tests.unit.fake_engine import HANG, Raw


@pytest.mark.parametrize(
    ("url", "authority", "tls"),
    [
        ("http://10.0.0.1:8000", "10.0.0.1:8000", False),
        ("http://10.0.0.1:8000/", "10.0.0.1:8000", False),
        ("http://localhost", "localhost:80", False),
        ("https://llm.example.com", "llm.example.com:443", True),
        ("http://[::1]:8000", "[::1]:8000", False),
        ("unix:///run/vllm.sock", "localhost", False),
    ],
)
def test_a_url_gives_the_address(url: str, authority: str, tls: bool) -> None:
    address = _http.parse_url(url)
    assert (address.authority, address.tls) == (authority, tls)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("127.0.0.1:8000", "is not one that can be asked"),
        ("ftp://127.0.0.1", "is not one that can be asked"),
        ("http://", "is not one that can be asked"),
        ("http://a:99999", "cannot be read"),
        ("http://a:8000/v1", "without /v1"),
        ("http://a:8000/?x=1", "without /v1"),
        ("unix://vllm.sock", "names no socket"),
        ("unix:///" + "x" * 120, "longer than 107 bytes"),
    ],
)
def test_an_unusable_url_is_refused_with_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        _http.parse_url(url)


def test_a_password_in_the_url_is_refused_without_being_repeated() -> None:
    with pytest.raises(ValueError, match="user or password") as caught:
        _http.parse_url("http://me:hunter2@a:8000")
    assert "hunter2" not in str(caught.value)


def test_a_key_that_fits_no_header_is_refused_without_being_repeated() -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        _http.Client(_http.parse_url("http://a"), api_key="hunter2\nX-Evil: 1")
    assert "hunter2" not in str(caught.value)


def test_the_host_header_is_the_authority_of_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = _http.Client(_http.parse_url(f"http://localhost:{port}"))
        with pytest.raises(_http.TimedOutError):
            client.request("GET", "/", limit=0.2)
        connection, _peer = listener.accept()
        with connection:
            assert f"\r\nHost: localhost:{port}\r\n".encode() in connection.recv(4096)


TRICKLE = (b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100)
TRICKLED_BODY = (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b"x"] * 100)
TRICKLED_STREAM = (b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 100)


@pytest.mark.parametrize(
    "behaviour",
    [HANG, Raw(TRICKLE, 0.05), Raw(TRICKLED_BODY, 0.05), Raw(TRICKLED_STREAM, 0.05)],
    ids=["silent", "trickling header", "trickling body", "trickling body without length"],
)
def test_the_limit_holds_for_the_whole_exchange(engine, behaviour) -> None:
    engine.routes["/health"] = behaviour
    client = _http.Client(_http.parse_url(engine.url))
    started = time.monotonic()
    with pytest.raises(_http.TimedOutError):
        client.request("GET", "/health", limit=0.3)
    assert 0.25 < time.monotonic() - started < 2


def test_an_endless_answer_is_cut(engine, monkeypatch) -> None:
    monkeypatch.setattr(_http, "ANSWER_LIMIT", 10)
    engine.routes["/health"] = Raw((b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000,))
    client = _http.Client(_http.parse_url(engine.url))
    assert client.request("GET", "/health", limit=2).body == b"x" * 10


def test_a_name_without_address_is_told_from_a_refused_connection() -> None:
    client = _http.Client(_http.parse_url("http://nowhere.invalid:8000"))
    with pytest.raises(_http.UnknownHostError, match=r"no address for nowhere\.invalid"):
        client.request("GET", "/", limit=5)


def test_redirects_are_not_followed(engine) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /version\r\nContent-Length: 0\r\n\r\n"
    engine.routes["/health"] = Raw((moved,))
    client = _http.Client(_http.parse_url(engine.url))
    assert client.request("GET", "/health", limit=2).status == 302
    assert engine.paths() == ["/health"]
