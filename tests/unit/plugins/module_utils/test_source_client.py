# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Asking a source one question: retries, redirects, proxies, TLS, and what none may learn."""

from __future__ import annotations

import email.utils
import socket
import ssl
import subprocess
import time

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import (
    Client,
    SourceError,
    normal_endpoint,
)
from ansible_collections.baremetal.vllm.tests.unit.fake_source import (
    CLOSE,
    HANG,
    FakeSource,
    Reply,
)

TOKEN = "hf_secret"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def start_source():
    started = []

    def start(tls=None):
        started.append(FakeSource(tls))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def source(start_source):
    return start_source()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def client(source, pauses):
    return Client(source.url, {"Authorization": f"Bearer {TOKEN}"}, timeout=5, sleep=pauses.append)


# Addresses


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://Hub.Example.com/", "https://hub.example.com"),
        ("https://hub.example.com:443/a%7eb/", "https://hub.example.com/a~b"),
        ("http://10.0.0.1:80/a%20b", "http://10.0.0.1/a%20b"),
        ("http://[::1]:9000/bucket", "http://[::1]:9000/bucket"),
        ("http://host:443", "http://host:443"),
    ],
)
def test_an_endpoint_is_brought_into_one_form(endpoint, expected):
    assert normal_endpoint(endpoint) == expected


@pytest.mark.parametrize(
    "endpoint",
    [
        *("hub.example.com", "ftp://host", "https://", "https://host:x", "https://host:99999"),
        *("https://user:sesame@host", "https://host/?sesame", "https://host/#x", "https://ho st/"),
        "https://[::1",
    ],
)
def test_what_is_no_endpoint_is_refused_and_no_secret_of_it_shown(endpoint):
    with pytest.raises(SourceError, match=r"^endpoint: .*allowed is .*\.$") as problem:
        normal_endpoint(endpoint)
    assert "sesame" not in str(problem.value)


# One question


def test_an_answer_is_given_as_it_is(client, source, pauses):
    source.routes["/x"] = Reply("text", 404, {"X-Error-Code": "RepoNotFound"})
    answer = client.get(f"{source.url}/x?y=1")
    assert (answer.status, answer.body) == (404, b"text")
    assert answer.header("x-error-code") == "RepoNotFound"
    assert [each.path for each in source.requests] == ["/x?y=1"]
    assert source.requests[0].token == f"Bearer {TOKEN}"
    assert pauses == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_after_growing_pauses(client, source, pauses, status):
    source.routes["/x"] = [*[Reply("", status)] * 3, Reply("here")]
    assert client.get(f"{source.url}/x").body == b"here"
    assert pauses == [1, 2, 4]


def test_a_server_that_stays_busy_is_given_up_after_four_attempts(client, source, pauses):
    source.routes["/x"] = Reply("", 503)
    with pytest.raises(SourceError) as problem:
        client.get(f"{source.url}/x?X-Amz-Signature=sesame")
    expected = f"{source.url}/x answers 503 (4 attempts); try again later."
    assert str(problem.value) == expected
    assert len(source.requests) == 4
    assert pauses == [1, 2, 4]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_a_refusal_is_not_asked_again(client, source, status):
    source.routes["/x"] = Reply("", status)
    assert client.get(f"{source.url}/x").status == status
    assert len(source.requests) == 1


@pytest.mark.parametrize(
    ("asked", "paused"),
    [("7", 7), ("0.5", 0.5), ("300", 30), ("0", 1), ("-3", 1), ("soon", 1), ("nan", 1), ("", 1)],
)
def test_a_pause_that_the_server_asks_for_is_kept_up_to_30_seconds(
    client, source, pauses, asked, paused
):
    source.routes["/x"] = [Reply("", 429, {"Retry-After": asked}), Reply("here")]
    client.get(f"{source.url}/x")
    assert pauses == [paused]


def test_a_pause_may_be_asked_for_as_a_date(client, source, pauses):
    until = email.utils.formatdate(time.time() + 20, usegmt=True)
    source.routes["/x"] = [Reply("", 503, {"Retry-After": until}), Reply("here")]
    client.get(f"{source.url}/x")
    assert 15 < pauses[0] <= 20


@pytest.mark.parametrize("fault", [CLOSE, Reply("half", claimed=400)])
def test_an_answer_that_breaks_off_is_asked_for_again(client, source, pauses, fault):
    source.routes["/x"] = [fault, Reply("whole")]
    assert client.get(f"{source.url}/x").body == b"whole"
    assert pauses == [1]


def test_an_answer_that_always_breaks_off_is_no_answer(client, source):
    source.routes["/x"] = Reply("half", claimed=400)
    with pytest.raises(SourceError, match=r"cannot be reached .*: the answer broke off \(4 att"):
        client.get(f"{source.url}/x")


def test_a_server_that_never_answers_is_given_up(source, pauses):
    source.routes["/x"] = HANG
    client = Client(source.url, timeout=0.2, sleep=pauses.append)
    with pytest.raises(SourceError, match=r"no answer in 0\.2 seconds \(4 attempts\)"):
        client.get(f"{source.url}/x")


def test_a_server_that_is_not_there_has_its_sentence(pauses):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(SourceError) as problem:
            Client(url, sleep=pauses.append).get(f"{url}/x")
    assert f"{url}/x cannot be reached from this host: connection refused" in str(problem.value)
    assert "https_proxy" in str(problem.value)
    assert pauses == [1, 2, 4]


def test_a_name_without_an_address_has_its_sentence(pauses):
    url = "http://hub.invalid"
    with pytest.raises(SourceError, match="its name has no address here"):
        Client(url, sleep=pauses.append).get(f"{url}/x")


def test_the_proxy_of_the_environment_is_asked(source, monkeypatch, pauses):
    source.routes["http://hub.invalid/x"] = Reply("through the proxy")
    monkeypatch.setenv("http_proxy", f"http://user:sesame@{source.host}")
    client = Client("http://hub.invalid", sleep=pauses.append)
    assert client.get("http://hub.invalid/x").body == b"through the proxy"


def test_a_proxy_that_is_not_there_is_named_without_its_login(monkeypatch, pauses):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("http_proxy", f"http://user:sesame@{proxy}")
        with pytest.raises(SourceError) as problem:
            Client("http://hub.invalid", sleep=pauses.append).get("http://hub.invalid/x")
    assert f"through the proxy {proxy}: connection refused" in str(problem.value)
    assert "sesame" not in str(problem.value)


def test_an_answer_too_large_for_a_listing_is_refused(client, source, monkeypatch):
    module = "ansible_collections.baremetal.vllm.plugins.module_utils._source_client"
    monkeypatch.setattr(f"{module}.ANSWER_LIMIT", 10)
    source.routes["/x"] = Reply("x" * 11)
    with pytest.raises(SourceError, match="no listing of a model"):
        client.get(f"{source.url}/x")


# Redirects


def test_a_redirect_on_the_same_server_keeps_the_token(client, source):
    source.routes["/old"] = Reply("", 307, {"Location": "/new?blobs=true"})
    source.routes["/new"] = Reply("renamed")
    assert client.get(f"{source.url}/old").body == b"renamed"
    assert [each.path for each in source.requests] == ["/old", "/new?blobs=true"]
    assert source.requests[1].token == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_does_not_take_the_token_there(
    client, source, start_source, status
):
    other = start_source()
    other.routes["/there"] = Reply("elsewhere")
    source.routes["/x"] = Reply("", status, {"Location": f"{other.url}/there"})
    assert client.head(f"{source.url}/x").status == 200
    assert other.asked() == ["HEAD /there"]
    assert other.requests[0].token is None


def test_redirects_in_a_circle_are_given_up(client, source):
    source.routes["/x"] = Reply("", 302, {"Location": "/x"})
    with pytest.raises(SourceError, match="redirects more than 5 times"):
        client.get(f"{source.url}/x")
    assert len(source.requests) == 6


def test_a_redirect_to_a_file_of_the_host_is_refused(client, source):
    source.routes["/x"] = Reply("", 302, {"Location": "file:///etc/passwd"})
    with pytest.raises(SourceError, match="file:///etc/passwd"):
        client.get(f"{source.url}/x")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=hub"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)),
        ],
        check=True,
        capture_output=True,
    )
    return key, pem


@pytest.fixture
def tls_source(start_source, certificate):
    key, pem = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    source = start_source(context)
    source.routes["/x"] = Reply("safely")
    return source


def test_https_is_asked_with_the_given_authority(tls_source, certificate, pauses):
    client = Client(tls_source.url, ca_path=str(certificate[1]), sleep=pauses.append)
    assert client.get(f"{tls_source.url}/x").body == b"safely"


def test_a_certificate_that_nobody_trusts_is_refused_at_once(tls_source, pauses):
    with pytest.raises(SourceError) as problem:
        Client(tls_source.url, sleep=pauses.append).get(f"{tls_source.url}/x")
    assert f"The certificate of {tls_source.host} is not trusted" in str(problem.value)
    assert "as ca_path." in str(problem.value)
    assert (tls_source.requests, pauses) == ([], [])


def test_a_redirect_from_https_to_http_is_refused(tls_source, source, certificate, pauses):
    tls_source.routes["/x"] = Reply("", 302, {"Location": f"{source.url}/x"})
    client = Client(tls_source.url, ca_path=str(certificate[1]), sleep=pauses.append)
    with pytest.raises(SourceError, match="redirects from https to http://"):
        client.get(f"{tls_source.url}/x")
    assert source.requests == []


def test_a_server_without_tls_is_not_taken_for_one(source, pauses):
    url = source.url.replace("http:", "https:")
    with pytest.raises(SourceError, match="does not speak TLS"):
        Client(url, sleep=pauses.append).get(f"{url}/x")
    assert pauses == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent.pem", "No such file"), ("empty.pem", "holds no certificate"), (".", "")],
)
def test_a_ca_path_that_cannot_be_used_has_its_sentence(tmp_path, name, reason):
    (tmp_path / "empty.pem").write_text("nothing\n")
    with pytest.raises(SourceError, match=rf"^ca_path: .*{reason}.*give a PEM file"):
        Client("https://hub.invalid", ca_path=str(tmp_path / name))
