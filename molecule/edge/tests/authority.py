# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A real ACME authority of the lab: Let's Encrypt's test server pebble, as Debian 12 packages it.

It runs on a lab host with a name server of its own, asks the edges at port 80 as Let's Encrypt
does, and is trusted by nobody who was not given its certificate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from conftest import SCENARIO, address, lab_host

DIRECTORY = "/etc/lab-authority"
TRUSTED = "/etc/ssl/lab-authority.pem"
_UNITS = ("lab-names", "lab-authority")

_MAKE = rf"""
set -e
apt-get -qq update >/dev/null 2>&1 || true
DEBIAN_FRONTEND=noninteractive apt-get -qq -y install pebble openssl >/dev/null
mkdir -p {DIRECTORY} && cd {DIRECTORY}
curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $curve -keyout ca.key -out ca.pem -days 9 -subj '/CN=Lab directory' \
    -addext keyUsage=critical,keyCertSign
openssl req $curve -keyout server.key -out server.csr -subj /CN=directory
printf 'subjectAltName=IP:%s\nextendedKeyUsage=serverAuth\n' "$ADDRESS" >names
printf 'subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' >>names  # Python 3.13 wants it
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 9 -extfile names -out server.pem
"""


@dataclass(frozen=True)
class Authority:
    """Where it is asked, and whose certificates it gives."""

    host: str
    url: str

    def root(self) -> str:
        """The certificate that signs its certificates, in PEM; made anew at every start."""
        asked = "import ssl,urllib.request as u;c=ssl._create_unverified_context();"
        asked += "print(u.urlopen('https://127.0.0.1:15000/roots/0',context=c).read().decode())"
        return str(lab_host(self.host).check_output("python3 -c %s", asked))

    def name(self, name: str, where: str) -> None:
        """Let a name lead to an address, for the authority only."""
        body = json.dumps({"host": f"{name}.", "addresses": [where]})
        asked = "import sys,urllib.request as u;"
        asked += "u.urlopen('http://127.0.0.1:8055/add-a',sys.argv[1].encode())"
        lab_host(self.host).check_output("python3 -c %s %s", asked, body)

    def stop(self) -> None:
        host = lab_host(self.host)
        for unit in _UNITS:
            host.check_output(f"systemctl stop {unit}")
        host.check_output(f"rm -r {DIRECTORY}")
        for front in SCENARIO.edge_hosts:
            # Another authority at this address would not know the accounts.
            lab_host(front).check_output(f"rm -r {TRUSTED} /etc/letsencrypt/accounts")


def start(name: str) -> Authority:
    """Start the authority on a lab host, and give its certificate to all edges."""
    host, where = lab_host(name), address(name)
    host.check_output("env ADDRESS=%s sh -c %s", where, _MAKE)
    settings = {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": f"{DIRECTORY}/server.pem",
        "privateKey": f"{DIRECTORY}/server.key",
        "httpPort": 80,
        "tlsPort": 443,
    }
    host.check_output(f"printf %%s %s >{DIRECTORY}/settings.json", json.dumps({"pebble": settings}))
    nothing = "-defaultIPv4 '' -defaultIPv6 '' -http01 '' -https01 '' -tlsalpn01 ''"
    host.check_output(
        "systemd-run --collect --unit=lab-names pebble-challtestsrv"
        f" -dns01 127.0.0.1:8053 -management 127.0.0.1:8055 {nothing}"
    )
    host.check_output(
        "systemd-run --collect --unit=lab-authority --setenv=PEBBLE_VA_NOSLEEP=1"
        f" pebble -config {DIRECTORY}/settings.json -dnsserver 127.0.0.1:8053"
    )
    certificate = host.file(f"{DIRECTORY}/ca.pem").content_string
    for front in SCENARIO.edge_hosts:
        lab_host(front).check_output(f"printf %%s %s >{TRUSTED}", certificate)
    return Authority(name, f"https://{where}:14000/dir")
