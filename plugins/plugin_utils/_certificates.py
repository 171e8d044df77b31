# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Whether the edge of a host has a certificate to serve with; state in, sentences out."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

_DAY = 86400
NOTE_DAYS = 14
"""Days before the end at which a person is told: enough to have another one made."""

# What the hardened unit of nginx hides from it: ProtectHome and PrivateTmp of systemd.exec(5).
_HIDDEN = re.compile(r"/(home|root|run/user|(var/)?tmp)(?=/)")
_ANOTHER = "put another one there, and its key beside it"


def check_certificate(
    state: Mapping[str, Any], wanted: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return what keeps the edge from serving with TLS, and what the operator should know.

    Only certificates of the operator are refused: those of the other ways are made anew.

    :param state: result of the module host_state, which was asked for ``wanted['certificate']``.
    :param wanted: ``tls`` (a value of edge_tls), ``certificate`` (its path), ``names`` and
        ``authority`` (edge_acme_ca, may be empty).
    """
    tls = wanted["tls"]
    found = (state.get("certificates") or {}).get(wanted["certificate"]) or {}
    if tls == "files":
        problems = _refused(found, wanted)
        return problems, [] if problems else _ending(found, f"{_ANOTHER}, and run the play")
    if tls == "acme":
        advice = "certbot has not renewed it, see `journalctl -u certbot.service` on the host"
        return _authority(state, wanted["authority"]), _ending(found, advice)
    return [], []


def _refused(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    if not found:
        return ["edge_tls is files, but no certificate was read; run the whole preflight."]
    if found["problem"]:
        return [
            f"edge_tls is files, but {found['problem']}; give the paths of PEM files on the host:"
            " edge_tls_certificate, the server's certificate and behind it those between it and the"
            " authority, and edge_tls_key, its key without passphrase."
        ]
    certificate = wanted["certificate"]
    problems = [
        f"{path} lies below {hidden.group()}, which systemd hides from nginx; put the certificate"
        " and its key elsewhere, such as /etc/ssl."
        for path in dict.fromkeys([certificate, found["key"], *found["resolved"]])
        if (hidden := _HIDDEN.match(path))
    ]
    if found["not_after"] <= found["now"]:
        problems.append(
            f"{certificate} has expired on {_day(found['not_after'])}, and clients would refuse it;"
            f" {_ANOTHER}."
        )
    elif found["not_before"] > found["now"]:
        problems.append(
            f"{certificate} holds only from {_day(found['not_before'])}, and the host's clock says"
            f" {_day(found['now'])}; {_ANOTHER}, or set the clock."
        )
    lacking = uncovered(wanted["names"], found["names"])
    if lacking:
        names = ", ".join(found["names"]) or "no name at all"
        problems.append(
            f"{certificate} is for {names}, and not for {', '.join(lacking)} of edge_server_names,"
            " under which clients would refuse it; take one that has every name, or change"
            " edge_server_names."
        )
    return problems


def _ending(found: Mapping[str, Any], advice: str) -> list[str]:
    """Return the note about a certificate that ends soon, or has ended."""
    if not found or found["problem"]:
        return []
    if not ends_soon(found):
        return []
    left = found["not_after"] - found["now"]
    path = found["certificate"]
    if left <= 0:
        return [f"{path} has expired on {_day(found['not_after'])}; {advice}."]
    days = left // _DAY
    within = "within a day" if days < 1 else f"in {days} day{'s' if days > 1 else ''}"
    return [f"{path} expires {within}, on {_day(found['not_after'])}; {advice}."]


def ends_soon(found: Mapping[str, Any]) -> bool:
    """Whether a person should know by now; authorities that sign for a day are renewed late."""
    left = found["not_after"] - found["now"]
    lifetime = found["not_after"] - found["not_before"]
    return bool(left <= 0 or left < min(NOTE_DAYS * _DAY, lifetime / 4))


def _authority(state: Mapping[str, Any], path: str) -> list[str]:
    if not path or ((state.get("paths") or {}).get(path) or {}).get("exists"):
        return []
    return [
        f"edge_acme_ca is {path}, which is not on the host; copy the PEM file of the authority that"
        " edge_acme_directory has its certificate from there."
    ]


def uncovered(wanted: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return those of the wanted names that a certificate with such names does not stand for."""
    known = {_canonical(name) for name in names}
    return [
        name
        for name in wanted
        if _canonical(name) not in known and f"*.{_canonical(name).partition('.')[2]}" not in known
    ]


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower().rstrip(".")


def _day(epoch: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(epoch))
