# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What programs that know common mistakes say about the configuration and about TLS."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from edge_server import Edge
from rendering import Rendering

# By the name of gixy's check: what of it is wanted, by the beginning of the directive, and why.
WANTED = {
    # Tokens go out as they come in. Slow clients are bounded by edge_address_connections.
    "proxy_buffering_off": "proxy_buffering off",
    # It chooses a variable's value and nothing else: the location stays what it is.
    "if_is_evil": "set $vllm_refuser ",
    # The variable holds the name of an upstream of this configuration, which nginx finds before it
    # would ask a resolver; its servers are addresses.
    "stale_dns_cache": "proxy_pass http://$vllm_other_",
}


def findings(configuration: Path) -> list[dict[str, Any]]:
    """What gixy finds, without what is wanted."""
    program = Path(sys.executable).parent / "gixy"
    command = [str(program), "--format", "json", str(configuration)]
    # It exits with 1 where it found anything.
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return [finding for finding in json.loads(done.stdout or "[]") if not is_wanted(finding)]


def is_wanted(finding: dict[str, Any]) -> bool:
    lines = (line.strip() for line in finding["config"].splitlines())
    # The name of the server is printed with whatever is in it.
    directives = [line for line in lines if line.endswith(";") and line != "server_name _;"]
    wanted = WANTED.get(finding["plugin"])
    return wanted is not None and all(line.startswith(wanted) for line in directives)


def test_gixy_finds_nothing(renderings: dict[str, Rendering]) -> None:
    found = {
        name: findings(renderings[name].tree / "etc/nginx/nginx.conf")
        for name in ("one", "several", "limits", "tls", "session", "other host")
    }
    assert {name: some for name, some in found.items() if some} == {}


def test_gixy_reads_the_parts(renderings: dict[str, Rendering], tmp_path: Path) -> None:
    shutil.copytree(renderings["one"].tree / "etc/nginx", tmp_path, dirs_exist_ok=True)
    with (tmp_path / "vllm/api.conf").open("a") as file:
        # Header splitting by a line end in the address.
        file.write("location /old { return 301 https://edge.example.net$uri; }\n")
    assert "http_splitting" in {one["plugin"] for one in findings(tmp_path / "nginx.conf")}


# Findings of testssl.sh above LOW that stay, by its id, and why.
ARGUED = {
    # The certificate is the tests' own: their authority is known to them alone and revokes nothing.
    "cert_chain_of_trust": "the tests' own authority",
    "cert_revocation": "the tests' own authority",
    # Mozilla's level intermediate: all ciphers are good, and the client knows which is fast for it.
    "cipher_order": "wanted",
    # Of CSP, X-Frame-Options and the like: no browser shows what an API answers. HSTS is there.
    "security_headers": "no pages",
}


@pytest.mark.scan
@pytest.mark.variant("tls")
def test_testssl_finds_nothing_above_low(edge: Edge, tmp_path: Path) -> None:
    report = tmp_path / "testssl.json"
    command = [
        *("testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "min"),
        *("--ip", "127.0.0.1", "--jsonfile", str(report), f"edge.example.net:{edge.port}"),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert report.exists(), done.stdout + done.stderr
    results = json.loads(report.read_text())
    # It came to its end and has seen TLS 1.3.
    ratings = {one["id"]: one for one in results}
    assert ratings["TLS1_3"]["finding"].startswith("offered")
    assert "scanTime" in ratings
    bad = {
        one["id"]: f"{one['severity']}: {one['finding']}"
        for one in results
        if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL") and one["id"] not in ARGUED
    }
    assert bad == {}
