# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An authority of the host's own, and the certificate of a server that it signs.

Each pair of key and certificate is one file. A file is replaced by one rename, so a pair always
fits, wherever a run was killed; nginx takes both from it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import ssl
import subprocess
import tempfile
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.baremetal.vllm.plugins.module_utils._certificate import (
    CertificateError,
    certificate_state,
    first_certificate,
    presented,
    server_context,
    trusting,
)

_DAY = 86400
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_COMMON_NAME_LIMIT = 64  # characters, ub-common-name of RFC 5280

# The host's own openssl.cnf is not read: what it adds differs between distributions.
_SETTINGS = """\
[req]
prompt = no
distinguished_name = name
[name]
CN = {common_name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class LocalAuthorityError(Exception):
    """A sentence for the operator about what cannot be made."""


@dataclass(frozen=True)
class Lifetimes:
    """Days that certificates hold, and days before their end at which they are made anew."""

    authority: int = 3650
    # Apple's clients accept no more, also of authorities that a user has added (HT210176).
    server: int = 825
    renew: int = 30


@dataclass(frozen=True)
class Paths:
    """Where the files lie: two pairs, and the certificate that clients shall trust."""

    directory: str

    @property
    def authority(self) -> str:
        return os.path.join(self.directory, "authority.pem")

    @property
    def public(self) -> str:
        return os.path.join(self.directory, "ca.pem")

    @property
    def server(self) -> str:
        return os.path.join(self.directory, "server.pem")


def check_names(names: t.Sequence[str]) -> None:
    """Raise LocalAuthorityError for what is neither a DNS name nor an address."""
    if not names:
        raise LocalAuthorityError("names is empty; name what clients will ask for.")
    for name in names:
        if not _address(name) and not _DNS_NAME.fullmatch(name):
            raise LocalAuthorityError(
                f"names has {name!r}, which is neither a DNS name nor an IP address."
            )


def wrong_with_authority(paths: Paths, lifetimes: Lifetimes) -> str:
    """Return why the authority must be made anew, empty where it need not."""
    try:
        certificate = first_certificate(paths.authority)
        server_context(paths.authority, paths.authority)
    except CertificateError as error:
        return str(error)
    found = trusting(certificate).get_ca_certs()
    if not found:
        return f"{paths.authority} is no authority's"
    times = [ssl.cert_time_to_seconds(str(found[0][key])) for key in ("notBefore", "notAfter")]
    return _untimely(paths.authority, times[0], times[1], lifetimes)


def wrong_with_server(paths: Paths, names: t.Sequence[str], lifetimes: Lifetimes) -> str:
    """Return why the server's certificate must be made anew, empty where it need not."""
    state = certificate_state(paths.server, paths.server)
    if state["problem"]:
        return str(state["problem"])
    if _canonical(state["names"]) != _canonical(names):
        return f"{paths.server} is for {', '.join(state['names'])}"
    try:
        authority = first_certificate(paths.authority)
        server = server_context(paths.server, paths.server)
        presented(paths.server, server, trusting(authority, check_time=False))
    except CertificateError:
        return f"{paths.server} is of another authority"
    return _untimely(paths.server, state["not_before"], state["not_after"], lifetimes)


def _untimely(path: str, not_before: float, not_after: float, lifetimes: Lifetimes) -> str:
    now = time.time()
    days = int((not_after - now) // _DAY)
    if days < lifetimes.renew:
        return f"{path} has expired" if days < 0 else f"{path} expires in {days} days"
    return f"{path} does not hold yet" if not_before > now else ""


def make_authority(openssl: str, lifetimes: Lifetimes) -> str:
    """Return key and certificate of a new authority, in PEM."""
    name = f"baremetal.vllm edge authority {secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as directory:
        maker = _Maker(openssl, directory, name, "DNS:localhost")
        maker.run(
            *("req", "-new", "-x509", "-extensions", "authority", "-config", "settings"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-sha256", "-days", str(lifetimes.authority), "-keyout", "key", "-out", "made"),
        )
        return maker.read("key") + maker.read("made")


def make_server(openssl: str, authority: str, names: t.Sequence[str], lifetimes: Lifetimes) -> str:
    """Return key and certificate of a server, in PEM, signed by an authority in such text.

    :param names: DNS names and addresses, which `check_names` has passed.
    """
    kinds = [f"{'IP' if _address(name) else 'DNS'}:{name}" for name in names]
    with tempfile.TemporaryDirectory() as directory:
        maker = _Maker(openssl, directory, names[0][:_COMMON_NAME_LIMIT], ",".join(kinds))
        maker.write("authority", authority)
        maker.run(
            *("req", "-new", "-config", "settings", "-keyout", "key", "-out", "request"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"),
        )
        maker.run(
            *("x509", "-req", "-in", "request", "-CA", "authority", "-CAkey", "authority"),
            *("-sha256", "-days", str(lifetimes.server), "-set_serial", _serial()),
            *("-extfile", "settings", "-extensions", "server", "-out", "made"),
        )
        return maker.read("key") + maker.read("made")


def _serial() -> str:
    """Return a positive number of 16 random bytes, which RFC 5280 allows."""
    return f"0x{secrets.randbits(127) | 1:032x}"


class _Maker:
    """Runs openssl in a private directory with settings of its own."""

    def __init__(self, openssl: str, directory: str, common_name: str, names: str) -> None:
        self._openssl = openssl
        self._directory = directory
        self.write("settings", _SETTINGS.format(common_name=common_name, names=names))

    def write(self, name: str, text: str) -> None:
        path = os.path.join(self._directory, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(text)

    def read(self, name: str) -> str:
        with open(os.path.join(self._directory, name), encoding="ascii") as file:
            return file.read()

    def run(self, *arguments: str) -> None:
        # Not AnsibleModule.run_command, so that this works without a module.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            [self._openssl, *arguments],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        if finished.returncode != 0:
            said = finished.stderr.decode("utf-8", "replace").strip()
            raise LocalAuthorityError(f"openssl {arguments[0]} failed; it said: {said}")


def _canonical(names: t.Iterable[str]) -> set[str]:
    return {str(_address(name) or name.lower()) for name in names}


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
