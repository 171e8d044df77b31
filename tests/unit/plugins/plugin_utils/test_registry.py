# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The client of registries, against a real server on this machine."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    Reference,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _web
from ansible_collections.baremetal.vllm.plugins.plugin_utils._registry import (
    RegistryError,
    api_address,
    digest_of,
)
from ansible_collections.baremetal.vllm.tests.unit.fake_registry import FakeRegistry, digest

USER = ("reader", "hunter2")
MANIFEST = "/v2/lab/vllm/manifests/v1"


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_web, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def start() -> Iterator[Callable[..., FakeRegistry]]:
    started: list[FakeRegistry] = []

    def start_one(**settings: Any) -> FakeRegistry:
        started.append(FakeRegistry(**settings))
        return started[-1]

    yield start_one
    for registry in started:
        registry.close()


@pytest.fixture
def registry(start: Callable[..., FakeRegistry]) -> FakeRegistry:
    return start()


def ask(registry: FakeRegistry, tag: str = "v1", **arguments: Any) -> str:
    return digest_of(f"{registry.host}/lab/vllm:{tag}", **arguments)


def refusal(registry: FakeRegistry, tag: str = "v1", **arguments: Any) -> str:
    """The one sentence; none of them holds a secret."""
    with pytest.raises(RegistryError) as caught:
        ask(registry, tag, **arguments)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert USER[1] not in sentence
    return sentence


# -- digests -------------------------------------------------------------------------------------


def test_a_tag_is_resolved_by_head(registry: FakeRegistry) -> None:
    pushed = registry.push("lab/vllm", "v1")
    assert ask(registry) == pushed
    assert registry.methods() == ["HEAD"]


def test_an_index_is_asked_for_before_the_image_of_one_architecture(registry: FakeRegistry) -> None:
    registry.push("lab/vllm", "v1")
    ask(registry)
    assert registry.requests[-1].accept.split(", ") == [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]


def test_a_registry_that_refuses_head_is_asked_by_get(registry: FakeRegistry) -> None:
    pushed = registry.push("lab/vllm", "v1")
    registry.without = ("HEAD",)
    assert ask(registry) == pushed
    assert registry.methods() == ["HEAD", "GET"]


def test_without_the_header_the_digest_is_that_of_the_content(registry: FakeRegistry) -> None:
    pushed = registry.push("lab/vllm", "v1")
    registry.without = ("digest",)
    assert ask(registry) == pushed
    assert registry.methods() == ["HEAD", "GET"]


def test_a_digest_that_is_not_that_of_the_content_is_refused(registry: FakeRegistry) -> None:
    said, came = digest(b"one"), digest(b"two")
    registry.answers[MANIFEST] = (200, {"Docker-Content-Digest": said}, b"two")
    registry.statuses = [405]
    assert f"{said} is said, {came} came" in refusal(registry)


def test_a_registry_that_names_no_digest_is_told(registry: FakeRegistry) -> None:
    registry.answers[MANIFEST] = (200, {}, b"")
    assert "names no sha256 digest" in refusal(registry)


def test_a_digest_of_another_kind_is_none(registry: FakeRegistry) -> None:
    named = {"Docker-Content-Digest": f"sha512:{'a' * 128}"}
    registry.answers[MANIFEST] = (200, named, b"")
    assert "names no sha256 digest" in refusal(registry)


def test_a_reference_with_a_digest_is_not_asked_about() -> None:
    pinned = f"sha256:{'a' * 64}"
    assert digest_of(f"registry.invalid/vllm:v1@{pinned}") == pinned


def test_what_is_no_reference_is_refused() -> None:
    with pytest.raises(RegistryError, match="has neither tag nor digest"):
        digest_of("registry.invalid/vllm")


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("docker.io/vllm/vllm-openai:v1", ("registry-1.docker.io", "vllm/vllm-openai")),
        ("vllm/vllm-openai:v1", ("registry-1.docker.io", "vllm/vllm-openai")),
        ("index.docker.io/vllm/vllm-openai:v1", ("registry-1.docker.io", "vllm/vllm-openai")),
        ("debian:13", ("registry-1.docker.io", "library/debian")),
        ("docker.io/debian:13", ("registry-1.docker.io", "library/debian")),
        ("quay.io/vllm:v1", ("quay.io", "vllm")),
        ("registry:5000/a/b/c:v1", ("registry:5000", "a/b/c")),
    ],
)
def test_where_an_image_is_asked_for(reference: str, expected: tuple[str, str]) -> None:
    assert api_address(Reference.parse(reference)) == expected


# -- authentication ------------------------------------------------------------------------------


def test_a_token_is_had_without_credentials(registry: FakeRegistry) -> None:
    pushed = registry.push("lab/vllm", "v1")
    registry.authentication = "Bearer"
    assert ask(registry) == pushed
    token = next(each for each in registry.requests if each.path == "/token")
    assert token.query == {"service": "lab", "scope": "repository:lab/vllm:pull"}
    assert token.authorization == ""


def test_credentials_go_to_the_token_service_and_the_token_to_the_registry(
    registry: FakeRegistry,
) -> None:
    pushed = registry.push("lab/vllm", "v1")
    registry.authentication, registry.user = "Bearer", ":".join(USER)
    assert ask(registry, credentials=USER) == pushed
    sent = [(each.path, each.authorization.partition(" ")[0]) for each in registry.requests]
    assert sent == [(MANIFEST, ""), ("/token", "Basic"), (MANIFEST, "Bearer")]


def test_a_token_may_be_called_access_token(registry: FakeRegistry) -> None:
    registry.push("lab/vllm", "v1")
    registry.authentication = "Bearer"
    registry.answers["/token"] = (200, {}, json.dumps({"access_token": "abc"}).encode())
    refusal(registry)
    assert registry.requests[-1].authorization == "Bearer abc"


def test_a_registry_with_basic_authentication_gets_the_credentials(registry: FakeRegistry) -> None:
    pushed = registry.push("lab/vllm", "v1")
    registry.authentication, registry.user = "Basic", ":".join(USER)
    assert ask(registry, credentials=USER) == pushed


def test_nobody_gets_credentials_who_does_not_ask_for_them(registry: FakeRegistry) -> None:
    registry.push("lab/vllm", "v1")
    ask(registry, credentials=USER)
    assert {each.authorization for each in registry.requests} == {""}


def test_missing_credentials_are_told(registry: FakeRegistry) -> None:
    registry.authentication, registry.user = "Bearer", ":".join(USER)
    said = refusal(registry)
    assert f"does not let us see image {registry.host}/lab/vllm:v1 without credentials" in said
    assert f"docker login {registry.host}" in said


@pytest.mark.parametrize("authentication", ["Basic", "Bearer"])
def test_wrong_credentials_are_told_by_their_user(
    registry: FakeRegistry, authentication: str
) -> None:
    registry.authentication, registry.user = authentication, "reader:another"
    assert "does not let us see image" in (said := refusal(registry, credentials=USER))
    assert " as reader;" in said


def test_an_authentication_that_we_do_not_have_is_a_refusal(registry: FakeRegistry) -> None:
    registry.answers[MANIFEST] = (401, {"WWW-Authenticate": "Negotiate"}, b"")
    assert "does not let us see image" in refusal(registry, credentials=USER)


def test_a_token_service_without_a_token_is_told(registry: FakeRegistry) -> None:
    registry.authentication = "Bearer"
    registry.answers["/token"] = (200, {}, b"<html>")
    assert "gives no token" in refusal(registry)


def test_credentials_are_not_handed_on_to_another_server(
    registry: FakeRegistry, start: Callable[..., FakeRegistry]
) -> None:
    other = start()
    pushed = other.push("lab/vllm", "v1")
    registry.authentication, registry.user = "Basic", ":".join(USER)
    moved = {"Location": f"{other.url}{MANIFEST}"}
    challenge = {"WWW-Authenticate": 'Basic realm="lab"'}
    answers = iter([(401, challenge, b""), (307, moved, b"")])

    class _InTurn(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return next(answers)

    registry.answers = _InTurn({MANIFEST: None})
    assert ask(registry, credentials=USER) == pushed
    assert registry.requests[-1].authorization.startswith("Basic ")
    assert [each.authorization for each in other.requests] == [""]


# -- failures ------------------------------------------------------------------------------------


def test_a_tag_that_is_not_there_is_told(registry: FakeRegistry) -> None:
    registry.push("lab/vllm", "v1")
    assert f"Registry {registry.host} has no tag v2 of lab/vllm;" in refusal(registry, "v2")


def test_a_repository_that_is_not_there_is_told(registry: FakeRegistry) -> None:
    assert f"Registry {registry.host} has no repository lab/vllm;" in refusal(registry)


def test_a_rate_limit_is_told_and_not_asked_again(registry: FakeRegistry) -> None:
    registry.statuses = [429, 429]
    said = refusal(registry)
    assert "because of its rate limit" in said
    assert f"docker login {registry.host}" in said
    assert len(registry.requests) == 1


def test_a_busy_registry_is_asked_again(registry: FakeRegistry) -> None:
    pushed = registry.push("lab/vllm", "v1")
    registry.statuses = [503, 502]
    assert ask(registry) == pushed


def test_a_registry_that_stays_busy_is_asked_three_times(registry: FakeRegistry) -> None:
    registry.statuses = [503] * 9
    assert "answered 503" in refusal(registry)
    assert len(registry.requests) == 3


def test_a_registry_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(RegistryError) as caught:
        digest_of(f"127.0.0.1:{port}/lab/vllm:v1")
    said = str(caught.value)
    assert said.startswith(f"Registry 127.0.0.1:{port} cannot be reached from this machine for")
    assert said.endswith("connection refused.")


def test_redirects_in_circles_end(registry: FakeRegistry) -> None:
    registry.answers[MANIFEST] = (307, {"Location": MANIFEST}, b"")
    assert "redirects in circles" in refusal(registry)


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority (ca.pem) and a server's key and certificate (server.pem)."""
    directory = tmp_path_factory.mktemp("authority")
    (directory / "server.ext").write_text(
        "subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n"
    )
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for command in (
        f"req -x509 {new_key} -keyout ca.key -out ca.pem -days 2 -subj /CN=Lab"
        " -addext keyUsage=critical,keyCertSign",
        f"req {new_key} -keyout server.key -out server.csr -subj /CN=registry",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -extfile server.ext -out server.crt",
    ):
        subprocess.run(
            ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
        )
    pem = (directory / "server.key").read_text() + (directory / "server.crt").read_text()
    (directory / "server.pem").write_text(pem)
    return directory


@pytest.fixture
def secured(start: Callable[..., FakeRegistry], authority: Path) -> FakeRegistry:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem")
    registry = start(tls=context)
    registry.push("lab/vllm", "v1")
    return registry


def test_an_authority_of_ones_own_is_trusted(secured: FakeRegistry, authority: Path) -> None:
    secured.authentication, secured.user = "Bearer", ":".join(USER)
    pushed = digest(secured.images["lab/vllm", "v1"])
    assert ask(secured, credentials=USER, ca_path=str(authority / "ca.pem")) == pushed


def test_a_certificate_of_somebody_is_refused(secured: FakeRegistry) -> None:
    said = refusal(secured)
    assert said.startswith(f"Registry {secured.host} cannot be trusted for image")
    assert "ca_path" in said
    assert secured.requests == []


def test_the_certificate_of_an_insecure_registry_is_not_verified(secured: FakeRegistry) -> None:
    assert ask(secured, insecure=[secured.host]) == digest(secured.images["lab/vllm", "v1"])


def test_credentials_are_not_sent_to_a_token_service_without_tls(
    secured: FakeRegistry, registry: FakeRegistry, authority: Path
) -> None:
    secured.authentication, secured.realm = "Bearer", f"{registry.url}/token"
    said = refusal(secured, credentials=USER, ca_path=str(authority / "ca.pem"))
    assert "wants credentials" in said
    assert "without TLS" in said
    assert registry.requests == []


def test_a_redirect_away_from_tls_is_not_followed(
    secured: FakeRegistry, registry: FakeRegistry, authority: Path
) -> None:
    moved = {"Location": f"{registry.url}{MANIFEST}"}
    secured.answers[MANIFEST] = (307, moved, b"")
    assert "without TLS" in refusal(secured, ca_path=str(authority / "ca.pem"))
    assert registry.requests == []


def test_a_registry_elsewhere_is_not_asked_without_tls(
    monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry
) -> None:
    registry.push("lab/vllm", "v1")
    there = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, *rest, **named: there("127.0.0.1", *rest, **named)
    )
    reference = f"registry.example:{registry.host.partition(':')[2]}/lab/vllm:v1"
    with pytest.raises(RegistryError, match=r"cannot be reached .* TLS failed"):
        digest_of(reference)
    assert registry.requests == []
    assert digest_of(reference, insecure=[reference.partition("/")[0]])


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), ("", "no certificate in it")]
)
def test_a_file_of_authorities_that_is_none_is_told(
    registry: FakeRegistry, tmp_path: Path, content: str | None, reason: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    assert f"ca_path: {file} cannot be used on this machine ({reason})" in refusal(
        registry, ca_path=str(file)
    )
