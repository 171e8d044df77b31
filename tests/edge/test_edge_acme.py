# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Where an authority asks in clear whether the name is ours: its answers, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from edge_server import CHAT, Edge, chat

VARIANT = "acme"
CHALLENGES = "/.well-known/acme-challenge"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # an example of RFC 8555


@pytest.fixture
def challenge(edge: Edge) -> Iterator[str]:
    """What certbot has put where the edge looks for it."""
    path = edge.path(f"/var/lib/nginx-vllm-acme{CHALLENGES}/{TOKEN}")
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = f"{TOKEN}.thumbprint"
    path.write_text(answer)
    yield answer
    path.unlink()


def test_a_challenge_is_answered(edge: Edge, challenge: str) -> None:
    answer = edge.ask("GET", f"{CHALLENGES}/{TOKEN}", key=None)
    assert (answer.status, answer.body.decode()) == (200, challenge)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", CHAT, 404),
        ("GET", "/v1/models", 404),
        ("GET", "/", 404),
        ("GET", "/healthz", 404),
        ("GET", f"{CHALLENGES}/", 404),
        ("GET", CHALLENGES, 404),
        ("GET", f"{CHALLENGES}/another", 404),
        ("GET", f"{CHALLENGES}/../../etc/passwd", 404),
        ("GET", f"{CHALLENGES}/..%2f..%2f..%2fetc%2fpasswd", 400),
        ("GET", f"{CHALLENGES}/%2e%2e/", 404),
        ("POST", f"{CHALLENGES}/{TOKEN}", 405),
    ],
)
def test_everything_else_is_an_error_and_never_a_redirect(
    edge: Edge, challenge: str, method: str, target: str, status: int
) -> None:
    # A client that sends its key in clear shall notice at once.
    answer = edge.ask(method, target, chat() if method == "POST" else None)
    answer.refused(status)
    assert answer.headers["Location"] is None
    assert challenge.encode() not in answer.body
    assert edge.seen() == []
