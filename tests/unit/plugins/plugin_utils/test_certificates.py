# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What preflight says of the certificate that an edge is to serve with."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._certificates import (
    check_certificate,
    uncovered,
)

DAY = 86400
NOW = 1795326300  # 2026-11-22 05:45 UTC
PATH = "/etc/ssl/llm.pem"
GOOD: dict[str, Any] = {
    "certificate": PATH,
    "key": "/etc/ssl/llm.key",
    "exists": True,
    "resolved": [PATH, "/etc/ssl/llm.key"],
    "problem": "",
    "names": ["llm.example.com", "192.0.2.7"],
    "not_before": NOW - 90 * DAY,
    "not_after": NOW + 90 * DAY,
    "now": NOW,
}


def said(
    tls: str = "files", authority: str = "", names: tuple[str, ...] = (), **found: Any
) -> tuple[list[str], list[str]]:
    state = {
        "certificates": {PATH: GOOD | found},
        "paths": {"/etc/ssl/there.pem": {"exists": True}, "/etc/ssl/gone.pem": {"exists": False}},
    }
    wanted = {"tls": tls, "certificate": PATH, "names": list(names), "authority": authority}
    return check_certificate(state, wanted)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"names": ("llm.example.com",)},
        {"names": ("LLM.example.com", "192.0.2.7")},
        {"not_after": NOW + 14 * DAY},
        {"tls": "acme"},
        {"tls": "acme", "authority": "/etc/ssl/there.pem"},
        {"tls": "acme", "problem": f"{PATH} is not there", "names": ("llm.example.com",)},
        {"tls": "self_signed", "problem": f"{PATH} is not there"},
        {"tls": "self_signed", "not_after": NOW - DAY},
        {"tls": "self_signed", "names": ("other.example.com",)},
    ],
)
def test_nothing_is_said_of_what_serves_or_is_made_anew(arguments: dict[str, Any]) -> None:
    assert said(**arguments) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"problem": "/etc/ssl/llm.key is not of that certificate"},
            "edge_tls is files, but /etc/ssl/llm.key is not of that certificate; give the paths of"
            " PEM files on the host: edge_tls_certificate, the server's certificate and behind it"
            " those between it and the authority, and edge_tls_key, its key without passphrase.",
        ),
        (
            {"not_after": NOW},
            f"{PATH} has expired on 2026-11-22 05:45 UTC, and clients would refuse it; put another"
            " one there, and its key beside it.",
        ),
        (
            {"not_before": NOW + DAY},
            f"{PATH} holds only from 2026-11-23 05:45 UTC, and the host's clock says"
            " 2026-11-22 05:45 UTC; put another one there, and its key beside it, or set the"
            " clock.",
        ),
        (
            {"names": ("llm.example.com", "api.example.com")},
            f"{PATH} is for llm.example.com, 192.0.2.7, and not for api.example.com of"
            " edge_server_names, under which clients would refuse it; take one that has every name,"
            " or change edge_server_names.",
        ),
        (
            {"resolved": [PATH, "/home/me/llm.key"]},
            "/home/me/llm.key lies below /home, which systemd hides from nginx; put the certificate"
            " and its key elsewhere, such as /etc/ssl.",
        ),
        (
            {"key": "/root/link.key"},
            "/root/link.key lies below /root, which systemd hides from nginx; put the certificate"
            " and its key elsewhere, such as /etc/ssl.",
        ),
        (
            {"tls": "acme", "authority": "/etc/ssl/gone.pem"},
            "edge_acme_ca is /etc/ssl/gone.pem, which is not on the host; copy the PEM file of the"
            " authority that edge_acme_directory has its certificate from there.",
        ),
    ],
)
def test_what_cannot_serve_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    assert said(**arguments) == ([sentence], [])


def test_a_certificate_without_names_is_refused_in_words() -> None:
    problems, _notes = check_certificate(
        {"certificates": {PATH: GOOD | {"names": []}}},
        {"tls": "files", "certificate": PATH, "names": ["llm.example.com"], "authority": ""},
    )
    assert [problem.startswith(f"{PATH} is for no name at all") for problem in problems] == [True]


def test_a_certificate_that_nobody_read_is_no_good_one() -> None:
    wanted = {"tls": "files", "certificate": PATH, "names": [], "authority": ""}
    problems, _notes = check_certificate({}, wanted)
    assert problems == ["edge_tls is files, but no certificate was read; run the whole preflight."]


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (14 * DAY - 1, "expires in 13 days, on 2026-12-06 05:44 UTC"),
        (DAY, "expires in 1 day, on 2026-11-23 05:45 UTC"),
        (DAY - 1, "expires within a day, on 2026-11-23 05:44 UTC"),
    ],
)
def test_the_end_of_a_certificate_is_told_14_days_before(left: int, words: str) -> None:
    problems, notes = said(not_after=NOW + left)
    assert problems == []
    assert notes == [
        f"{PATH} {words}; put another one there, and its key beside it, and run the play."
    ]


@pytest.mark.parametrize(("left", "told"), [(6 * 3600, 0), (6 * 3600 - 1, 1)])
def test_a_certificate_of_a_day_is_told_when_a_quarter_of_it_is_left(left: int, told: int) -> None:
    end = NOW + left
    problems, notes = said(tls="acme", not_before=end - DAY, not_after=end)
    assert (problems, len(notes)) == ([], told)


def test_a_renewal_that_does_not_happen_is_told_and_no_refusal() -> None:
    problems, notes = said(tls="acme", not_after=NOW - 1)
    assert problems == []
    assert notes == [
        f"{PATH} has expired on 2026-11-22 05:44 UTC; certbot has not renewed it, see"
        " `journalctl -u certbot.service` on the host."
    ]


@pytest.mark.parametrize(
    ("wanted", "names", "left_over"),
    [
        (["a.example.com"], ["*.example.com"], []),
        (["a.b.example.com"], ["*.example.com"], ["a.b.example.com"]),
        (["example.com"], ["*.example.com"], ["example.com"]),
        (["*.example.com"], ["*.example.com"], []),
        (["2001:db8::7"], ["2001:DB8:0:0:0:0:0:7"], []),
        (["192.0.2.7"], ["192.0.2.70"], ["192.0.2.7"]),
        (["a.example.com"], ["xa.example.com"], ["a.example.com"]),
    ],
)
def test_names_are_covered_as_clients_compare_them(
    wanted: list[str], names: list[str], left_over: list[str]
) -> None:
    assert uncovered(wanted, names) == left_over
