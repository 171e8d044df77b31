# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Images from a registry with a login and an authority of its own, and what can go wrong."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import lab_host, playbook
from on_host import HOST, module
from private_registry import (
    CERTIFICATES,
    LOGIN,
    NAME,
    PASSWORD,
    USER,
    PrivateRegistry,
    docker,
)

REPOSITORY = f"{NAME}/small"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    started = PrivateRegistry.start(tmp_path_factory.mktemp("private"))
    yield started
    started.remove()
    lab_host(HOST).check_output(f"rm -rf {CERTIFICATES} {LOGIN}")


@pytest.fixture(scope="module")
def digest(registry: PrivateRegistry) -> str:
    return registry.push("1", 64)


@pytest.fixture(autouse=True)
def _as_it_should_be(registry: PrivateRegistry, digest: str) -> None:
    registry.trust()
    registry.log_in()
    lab_host(HOST).run(f"docker image rm {names(digest)}")


def names(digest: str) -> str:
    """What the image is called on the host: it goes with the last of them."""
    return f"{REPOSITORY}@{digest} {local(digest)}"


def local(digest: str) -> str:
    return f"localhost/small:{digest.removeprefix('sha256:')}"


def pull(image: str, **arguments: Any) -> dict[str, Any]:
    return module("image_pull", image=image, **arguments)


def test_an_image_comes_by_digest_with_the_hosts_login(digest: str) -> None:
    result = pull(f"{REPOSITORY}@{digest}")
    assert (result["changed"], result["digest"]) == (True, f"{REPOSITORY}@{digest}")
    assert result["local"] == local(digest)
    lab_host(HOST).check_output(f"docker image inspect {local(digest)}")


def test_an_image_without_its_local_name_is_only_named(
    registry: PrivateRegistry, digest: str
) -> None:
    assert pull(f"{REPOSITORY}@{digest}")["changed"]
    lab_host(HOST).check_output(f"docker image rm {local(digest)}")
    docker("stop", registry.container)
    try:
        assert pull(f"{REPOSITORY}@{digest}")["changed"]
        assert not pull(f"{REPOSITORY}@{digest}")["changed"]
    finally:
        docker("start", registry.container)


def test_an_image_comes_with_a_login_that_is_kept_nowhere(
    registry: PrivateRegistry, digest: str
) -> None:
    registry.log_in("wrong")
    before = lab_host(HOST).check_output(f"cat {LOGIN}")
    assert pull(f"{REPOSITORY}@{digest}", username=USER, password=PASSWORD)["changed"]
    assert lab_host(HOST).check_output(f"cat {LOGIN}") == before
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, encoded):
        found = lab_host(HOST).run(f"grep -rl {secret} /root /etc /run /tmp /var/lib/vllm")
        assert found.stdout == ""


def test_wrong_credentials_have_their_sentence(registry: PrivateRegistry, digest: str) -> None:
    registry.log_in("wrong")
    said = pull(f"{REPOSITORY}@{digest}")["msg"]
    assert said.startswith("Registry private:5000 does not let us pull image"), said
    assert "docker login private:5000" in said


def test_an_authority_that_is_not_trusted_has_its_sentence(
    registry: PrivateRegistry, digest: str
) -> None:
    registry.trust(False)
    said = pull(f"{REPOSITORY}@{digest}")["msg"]
    assert said.startswith("Registry private:5000 cannot be trusted for image"), said
    assert f"{CERTIFICATES}/ca.crt" in said


def test_the_registry_may_be_down_where_the_image_is_there(
    registry: PrivateRegistry, digest: str
) -> None:
    assert pull(f"{REPOSITORY}@{digest}")["changed"]
    docker("stop", registry.container)
    try:
        assert not pull(f"{REPOSITORY}@{digest}")["changed"]
        lab_host(HOST).check_output(f"docker image rm {names(digest)}")
        said = pull(f"{REPOSITORY}@{digest}")["msg"]
        assert said.startswith("Registry private:5000 cannot be reached from this host"), said
    finally:
        docker("start", registry.container)


def test_a_tag_that_has_moved_is_refused(registry: PrivateRegistry, digest: str) -> None:
    now = registry.push("1", 32)
    pinned = f"{REPOSITORY}:1@{digest}"
    said = pull(pinned, refuse_moved_tag=True)["msg"]
    assert said.startswith(f"Tag 1 of {REPOSITORY} names {now[:19]}… now, and {digest[:19]}…"), said
    assert pull(pinned)["changed"], "by digest alone it can be had"


def test_other_content_than_the_digest_promises_is_refused(registry: PrivateRegistry) -> None:
    damaged = registry.push("2", 512)
    registry.damage(damaged)
    said = pull(f"{REPOSITORY}@{damaged}")["msg"]
    assert said.startswith("Registry private:5000 sent other content than the digest"), said


def test_a_full_disk_of_docker_has_its_sentence(registry: PrivateRegistry) -> None:
    """A second engine, whose data is on 16 MiB."""
    large = registry.push("3", 64 * 1024)
    host = lab_host(HOST)
    directory, pid = "/srv/small-docker", "/run/small-docker.pid"
    sockets = "--host unix:///run/small-docker.sock --exec-root /run/small-docker"
    host.check_output(f"mkdir -p {directory} && mount -t tmpfs -o size=16m none {directory}")
    # A bridge of its own: with none, an engine removes the one of the other.
    host.check_output("ip link add small0 type bridge && ip addr add 172.31.99.1/24 dev small0")
    try:
        host.check_output(
            f"(setsid dockerd --data-root {directory} --pidfile {pid} {sockets} --bridge small0"
            " --iptables=false --ip6tables=false >/run/small-docker.log 2>&1 </dev/null &)"
        )
        host.check_output(
            "for _ in $(seq 100); do docker -H unix:///run/small-docker.sock version >/dev/null"
            " 2>&1 && exit; sleep 0.2; done; tail -5 /run/small-docker.log; exit 1"
        )
        said = pull(f"{REPOSITORY}@{large}", socket="/run/small-docker.sock")["msg"]
        assert said.startswith("The disk of Docker's data is full while image"), said
    finally:
        host.run(f"kill $(cat {pid}) && tail --pid=$(cat {pid}) -f /dev/null")
        host.check_output(f"umount -R {directory} && ip link delete small0")


def test_site_uses_pins_and_an_authority_of_the_registry(
    registry: PrivateRegistry, digest: str
) -> None:
    """The image is not vLLM's, but it is refused before anything that runs is touched."""
    registry.trust(False)
    registry.log_in("wrong")
    now = registry.push("4", 48)
    registry.trust(False)
    before = lab_host(HOST).check_output("readlink -f /var/lib/vllm/one/current")
    settings = {
        "vllm_image": f"{REPOSITORY}:4",
        "vllm_registry_username": USER,
        "vllm_registry_password": PASSWORD,
        "vllm_registry_ca": registry.ca,
    }
    pins = {"vllm_pins": {"images": {f"{REPOSITORY}:4": digest}}}
    refused = playbook("site", extra=settings | pins)
    assert refused.code == 2
    assert f"Tag 4 of {REPOSITORY} names {now[:19]}… now" in refused.output, refused.output
    assert lab_host(HOST).check_output("readlink -f /var/lib/vllm/one/current") == before
    assert PASSWORD not in refused.output
