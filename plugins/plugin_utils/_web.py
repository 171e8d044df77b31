# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""One question of the controller to a service on the network.

It goes through the proxy of the environment, follows redirects, and is asked again where the
service is only busy. A status is an answer and no exception: what 404 means, the caller knows.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from ansible.module_utils.urls import Request, make_context

# Seconds of silence that are borne.
SILENCE = 20.0
# Seconds before the second and the third attempt.
PAUSES = (1.0, 2.0)
# Bytes; a manifest has at most 4 MiB (OCI distribution specification), a model's description less.
LARGEST_ANSWER = 16 * 2**20

_BUSY = frozenset({500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5


class WebError(Exception):
    """No answer; the text says why in a few words, to be put into a sentence."""


class UnreachableError(WebError):
    """The service cannot be reached, or does not speak HTTP."""


class UntrustedError(WebError):
    """The certificate of the service does not hold."""


class CertificatesError(WebError):
    """The file of certificates cannot be used; the text is a sentence."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


def trust(ca_path: str = "", verify: bool = True) -> ssl.SSLContext:
    """Whom https believes: the system's authorities and those in ``ca_path``.

    :param ca_path: a PEM file or a directory of them as OpenSSL hashes them; empty for none.
    :raises CertificatesError: there is no certificate in it.
    """
    context: ssl.SSLContext = make_context(validate_certs=verify)
    if ca_path:
        path = Path(ca_path).expanduser()
        try:
            if path.is_dir():
                context.load_verify_locations(capath=str(path))
            else:
                context.load_verify_locations(cafile=str(path))
        except OSError as error:
            reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise CertificatesError(
                f"ca_path: {path} cannot be used on this machine ({reason}); give a PEM file or a"
                " directory of them."
            ) from None
    return context


def ask(
    method: str,
    url: str,
    context: ssl.SSLContext,
    headers: Mapping[str, str] | None = None,
    patient: bool = True,
) -> Answer:
    """The answer to GET or HEAD, whatever its status.

    :param patient: whether to ask up to three times where the service is busy or not there.
    :raises UnreachableError, UntrustedError: there is no answer.
    """
    sent = dict(headers or {})
    for _hop in range(_MOST_REDIRECTS + 1):
        answer = (_patiently if patient else _once)(method, url, context, sent)
        location = answer.headers.get("Location", "")
        if answer.status not in _REDIRECTS or not location:
            return answer
        target = urljoin(url, location)
        if urlsplit(target)[:2] != urlsplit(url)[:2]:
            if urlsplit(target).scheme != "https" and urlsplit(url).scheme == "https":
                raise UnreachableError("it redirects to an address without TLS")
            # Meant for the server that was asked, and for no other.
            sent.pop("Authorization", None)
        url = target
    raise UnreachableError("it redirects in circles")


def _patiently(
    method: str, url: str, context: ssl.SSLContext, headers: Mapping[str, str]
) -> Answer:
    for pause in PAUSES:
        with contextlib.suppress(UnreachableError):
            answer = _once(method, url, context, headers)
            if answer.status not in _BUSY:
                return answer
        time.sleep(pause)
    return _once(method, url, context, headers)


def _once(method: str, url: str, context: ssl.SSLContext, headers: Mapping[str, str]) -> Answer:
    try:
        try:
            response = Request().open(
                method,
                url,
                headers=dict(headers),
                timeout=SILENCE,
                follow_redirects="none",
                use_netrc=False,  # credentials are those that the caller gives
                http_agent="baremetal.vllm",
                context=context,
            )
        except urllib.error.HTTPError as error:
            response = error
        with response:
            body = response.read(LARGEST_ANSWER + 1)
            if len(body) > LARGEST_ANSWER:
                raise UnreachableError(f"its answer has more than {LARGEST_ANSWER >> 20} MiB")
            return Answer(response.status, response.headers, body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _translated(error) from None


def _translated(error: Exception) -> WebError:
    """The reason in words; never what was sent, which http.client quotes where it is malformed."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return UntrustedError(reason.verify_message)
    if isinstance(reason, ssl.SSLError):
        return UnreachableError(f"TLS failed, {reason.reason or 'for no reason given'}")
    if isinstance(reason, socket.gaierror):
        return UnreachableError("its name has no address")
    if isinstance(reason, TimeoutError):
        return UnreachableError(f"no answer within {SILENCE:.0f} seconds")
    if isinstance(reason, http.client.IncompleteRead):
        return UnreachableError("the connection was closed in the middle of the answer")
    if isinstance(reason, OSError):
        return UnreachableError((reason.strerror or str(reason)).lower())
    if isinstance(reason, http.client.HTTPException):
        return UnreachableError("the answer is not HTTP")
    return UnreachableError("the address or a secret has characters that do not belong there")
