# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What is wrong with an edge: nginx, its unit, and the certificate that it shows to clients."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._certificates import ends_soon
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import (
    Commands,
    Findings,
)

State = Mapping[str, Any]

IN_FORCE = "/etc/nginx/vllm/in_force"
_DROPIN = "/etc/systemd/system/nginx.service.d/vllm.conf"
PATHS = (IN_FORCE, _DROPIN)

_OWN = "/etc/nginx/vllm/tls/server.pem"  # the key and its certificate
_ACME = "/etc/letsencrypt/live"


@dataclass(frozen=True)
class Certificate:
    """The two files that nginx serves TLS with.

    :param tls: as in edge_tls: ``files``, ``acme`` or ``self_signed``.
    :param authority: edge_acme_ca, which certbot has to be given by hand; may be empty.
    """

    tls: str
    certificate: str
    key: str
    authority: str = ""


def certificate_of(variables: Mapping[str, Any]) -> Certificate | None:
    """Where the certificate lies, as roles/edge/vars has it; None where there is none."""
    tls = str(variables.get("edge_tls", "none"))
    names = variables.get("edge_server_names")
    found = None
    if tls == "files":
        files = [str(variables.get(f"edge_tls_{name}") or "") for name in ("certificate", "key")]
        found = Certificate(tls, *files) if all(files) else None
    elif tls == "self_signed":
        found = Certificate(tls, _OWN, _OWN)
    elif tls == "acme" and isinstance(names, list) and names:
        directory = f"{_ACME}/{names[0]}"
        found = Certificate(
            tls,
            f"{directory}/fullchain.pem",
            f"{directory}/privkey.pem",
            str(variables.get("edge_acme_ca") or ""),
        )
    return found


def examine_dropin(findings: Findings, state: State) -> None:
    """nginx as its package starts it ends every stream with a stop, and may write anywhere."""
    if ((state.get("paths") or {}).get(_DROPIN) or {}).get("exists") is False:
        findings.add("edge_dropin_missing", path=_DROPIN)


def examine_former(findings: Findings, state: State) -> None:
    """Of a host that is no edge: nothing but a whole run of site.yml takes the edge off it."""
    if ((state.get("paths") or {}).get(IN_FORCE) or {}).get("exists"):
        findings.add("edge_left_behind", path=IN_FORCE)


def examine_certificate(
    findings: Findings, state: State, wanted: Certificate | None, commands: Commands
) -> None:
    """Only of an edge that is in force: before that, the first run brings it."""
    found = (state.get("certificates") or {}).get(wanted.certificate) if wanted else None
    if not wanted or not found:
        return
    if found["problem"]:
        mend = _another(wanted, commands, lost=True)
        findings.add("edge_certificate_unusable", problem=found["problem"], renew=mend)
        return
    told = {
        "path": wanted.certificate,
        "day": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(found["not_after"])),
        "renew": _another(wanted, commands, lost=False),
    }
    if found["not_after"] <= found["now"]:
        findings.add("edge_certificate_expired", **told)
    elif ends_soon(found):
        findings.add("edge_certificate_expires", **told)


def _another(wanted: Certificate, commands: Commands, lost: bool) -> str:
    """What brings another certificate; certbot renews only what it has."""
    if wanted.tls == "files":
        return "Put a good certificate and its key there and run `systemctl reload nginx`."
    if wanted.tls == "acme" and not lost:
        trusting = f"REQUESTS_CA_BUNDLE={wanted.authority} " if wanted.authority else ""
        return f"{trusting}certbot renew --no-random-sleep-on-renew"
    return f"{commands.play}/site.yml"
