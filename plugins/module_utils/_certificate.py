# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the certificate of a server is worth, told by the TLS library that Python brings.

A minimal Debian has neither the program openssl nor python3-cryptography, and nginx brings neither.
The module C(ssl) is there wherever Ansible runs. It does not parse certificates for their own sake,
but it can do what they are for: a server and a client in this process shake hands over memory. The
server takes the two files as nginx would, so a key that does not fit, a passphrase or a key that is
too weak is refused with the words of the library. The client trusts that one certificate and is
told by it whose it is and how long it holds.

The private key stays in this process, and is in no answer.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import ssl
import time
import typing as t

JSONObject = t.Dict[str, t.Any]  # noqa: UP006 - evaluated at run time on Python 3.9

# openssl/x509_vfy.h; Python names the first since 3.10 and the second not at all.
PARTIAL_CHAIN = 0x80000
_NO_CHECK_TIME = 0x200000

_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)
_SIZE_LIMIT = 1024 * 1024  # bytes

_REASONS = {
    "KEY_VALUES_MISMATCH": "is not of that certificate",
    "KEY_TYPE_MISMATCH": "is not of that certificate",
    "NO_CERTIFICATE_ASSIGNED": "is not of that certificate",
}


class CertificateError(Exception):
    """What is wrong with the files, as the end of a sentence that begins with a path."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")


class PassphraseError(Exception):
    """The key is encrypted, and nobody is there to type the passphrase when nginx starts."""


def certificate_state(certificate: str, key: str) -> JSONObject:
    """Return what the two files hold. What is wrong with them is in `problem`, else it is empty.

    :param certificate: PEM file that begins with the server's certificate.
    :param key: PEM file with its private key; it may be the same file.
    """
    state: JSONObject = {
        "exists": os.path.exists(certificate) and os.path.exists(key),
        "certificate": certificate,
        "key": key,
        "resolved": [os.path.realpath(path) for path in (certificate, key)],
        "problem": "",
        "fingerprint": "",
        "chain_fingerprint": "",
        "names": [],
        "subject": "",
        "issuer": "",
        "not_before": None,
        "not_after": None,
        "now": int(time.time()),
    }
    try:
        chain = certificates(certificate)
        state.update(described(certificate, chain, server_context(certificate, key)))
    except CertificateError as error:
        state["problem"] = str(error)
    return state


def first_certificate(path: str) -> str:
    """Return the first certificate of a file. Raises CertificateError where there is none."""
    return certificates(path)[0]


def certificates(path: str) -> list[str]:
    """Return the certificates of a file in order. Raises CertificateError where there is none."""
    try:
        with open(path, "rb") as file:
            text = file.read(_SIZE_LIMIT).decode("ascii", "replace")
    except OSError as error:
        raise CertificateError(path, _unreadable(error)) from error
    found = _PEM.findall(text)
    if not found:
        raise CertificateError(path, "holds no certificate in PEM")
    return found


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return a server's settings with the two files. Raises CertificateError."""
    try:
        with open(key, "rb") as file:
            file.read(1)
    except OSError as error:
        raise CertificateError(key, _unreadable(error)) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except PassphraseError as error:
        raise CertificateError(
            key, "is encrypted, and nginx starts without a passphrase"
        ) from error
    except ssl.SSLError as error:
        reason = error.reason or ""
        if reason in _REASONS:
            raise CertificateError(key, _REASONS[reason]) from error
        raise CertificateError(*_blamed(certificate, key, reason)) from error
    except OSError as error:
        raise CertificateError(certificate, _unreadable(error)) from error
    return context


def _blamed(certificate: str, key: str, reason: str) -> tuple[str, str]:
    """Tell a certificate that nobody can read from a key; the library's error is the same."""
    words = reason.lower().replace("_", " ")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=first_certificate(certificate)
        )
    except ssl.SSLError:
        return certificate, "holds a certificate that cannot be read"
    if reason in ("", "PEM_LIB", "NO_START_LINE"):
        return key, "holds no private key in PEM, or the chain in front of it is damaged"
    return certificate, f"is refused by the TLS library: {words}"


def _no_passphrase() -> str:
    raise PassphraseError


def _unreadable(error: OSError) -> str:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "is not there"
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


def described(path: str, chain: t.Sequence[str], server: ssl.SSLContext) -> JSONObject:
    """Return whose the first certificate is and how long it holds. Raises CertificateError."""
    found = presented(path, server, trusting(chain[0], check_time=False))
    return {
        "fingerprint": fingerprint(chain[0]),
        "chain_fingerprint": fingerprint(*chain),
        "names": [_name(kind, name) for kind, name in found.get("subjectAltName", ())],
        "subject": _common_name(found.get("subject", ())),
        "issuer": _common_name(found.get("issuer", ())),
        "not_before": int(ssl.cert_time_to_seconds(found["notBefore"])),
        "not_after": int(ssl.cert_time_to_seconds(found["notAfter"])),
    }


def fingerprint(*chain: str) -> str:
    """Return the SHA-256 of certificates in a row.

    Of one it is what `openssl x509 -fingerprint -sha256` has.
    """
    return hashlib.sha256(b"".join(map(ssl.PEM_cert_to_DER_cert, chain))).hexdigest()


def trusting(authority: str, check_time: bool = True) -> ssl.SSLContext:
    """Return the settings of a client that trusts one certificate, an authority or a server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority)
    flags = PARTIAL_CHAIN if check_time else PARTIAL_CHAIN | _NO_CHECK_TIME
    context.verify_flags |= ssl.VerifyFlags(flags)
    return context


def presented(path: str, server: ssl.SSLContext, client: ssl.SSLContext) -> JSONObject:
    """Let both shake hands over memory; return the certificate that the client was shown.

    Raises CertificateError, about `path`, when the client does not accept it.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [one, other]
    try:
        for _round in range(10):  # TLS 1.3 takes two
            waiting = [side for side in waiting if not _shaken(side)]
            if not waiting:
                break
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(path, f"is not accepted: {error.verify_message}") from error
    except ssl.SSLError as error:
        words = (error.reason or str(error)).lower().replace("_", " ")
        raise CertificateError(path, f"cannot serve TLS: {words}") from error
    return t.cast(JSONObject, one.getpeercert() or {})


def _shaken(side: ssl.SSLObject) -> bool:
    """Go on with the handshake of one side; return whether it is done."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _name(kind: str, name: str) -> str:
    """Return a name as people write it: the library spells addresses of IPv6 out."""
    try:
        return str(ipaddress.ip_address(name)) if kind == "IP Address" else name
    except ValueError:
        return name


def _common_name(name: t.Iterable[t.Iterable[tuple[str, str]]]) -> str:
    """Return the common name, else the last part, of a name as Python's ssl has it."""
    parts = [part for group in name for part in group]
    common = [value for key, value in parts if key == "commonName"]
    return (common or [value for _key, value in parts] or [""])[-1]
