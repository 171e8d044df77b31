# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Questions to a source of models: retries, redirects, and failures in an operator's words.

Proxies of the environment are followed, `~/.netrc` is not. Credentials go to the source alone:
C(urllib) would hand them on to whatever it is redirected to.
"""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from ansible.module_utils.urls import Request

ATTEMPTS = 4
LONGEST_PAUSE = 30.0
"""Seconds that a server's Retry-After is heeded."""

ANSWER_LIMIT = 32 * 1024 * 1024
"""Bytes read of an answer; the listing of a thousand files has about 0.4 MiB."""

_FIRST_PAUSE = 1.0
_BUSY = frozenset({429, 500, 502, 503, 504})
_MOVED = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REACH = "allow the connection, name a proxy in https_proxy, or give an endpoint within reach"


class SourceError(Exception):
    """A model cannot be had from its source; the text is one sentence for the operator."""


class _LostError(Exception):
    """No whole answer came, which another attempt may mend; the text is a few words."""


@dataclass(frozen=True)
class Answer:
    """What a source said; C(headers) takes names in any case."""

    status: int
    headers: t.Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return str(self.headers.get(name) or "")


def normal_endpoint(endpoint: str) -> str:
    """Return an address without a slash at its end and without its scheme's own port.

    The port matters for S3, where the Host header is signed and clients leave it out. Raises
    SourceError for what is no address, or has a part that none may have.
    """
    allowed = "allowed is http(s)://host[:port][/path]"
    try:
        parts = urllib.parse.urlsplit(endpoint)
        port = parts.port
    except ValueError:
        raise SourceError(f"endpoint: {shown(endpoint)!r} is no address; {allowed}.") from None
    if parts.username is not None or parts.password is not None:
        raise SourceError(f"endpoint: it carries a user or password; {allowed}, and token.")
    if parts.query or parts.fragment:
        raise SourceError(f"endpoint: {shown(endpoint)!r} has a ? or # in it; {allowed}.")
    unfit = not endpoint.isprintable() or " " in endpoint
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or unfit:
        raise SourceError(f"endpoint: {shown(endpoint)!r} is no address; {allowed}.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    path = urllib.parse.quote(urllib.parse.unquote(parts.path)).rstrip("/")
    return f"{parts.scheme}://{host}{path}"


def shown(url: str) -> str:
    """Return an address as it may be printed: a query may hold a signature."""
    return url.partition("?")[0]


def trust(ca_path: str = "") -> ssl.SSLContext:
    """Return what the system trusts, and the authorities in a PEM file beside it; SourceError."""
    context = ssl.create_default_context()
    try:
        if ca_path:
            context.load_verify_locations(cafile=ca_path)
    except OSError as error:  # ssl.SSLError is one
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise SourceError(
            f"ca_path: {ca_path} cannot be used on this host ({reason}); give a PEM file with the"
            " certificates of the authorities to trust."
        ) from None
    return context


class Client:
    """Asks one source."""

    def __init__(
        self,
        endpoint: str,
        credentials: t.Mapping[str, str] | None = None,
        ca_path: str = "",
        timeout: float = 30.0,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        """C(credentials) are headers for the endpoint's own server and nobody else."""
        self._origin = _origin(endpoint)
        self._credentials = dict(credentials or {})
        self._ca_path = ca_path
        self._trust = trust(ca_path)
        self._timeout = timeout
        self._sleep = sleep

    def get(self, url: str) -> Answer:
        """Return the answer, whatever its status; raise SourceError when there is none."""
        return self._ask("GET", url)

    def head(self, url: str) -> Answer:
        """Return the answer without its body; raise SourceError when there is none."""
        return self._ask("HEAD", url)

    def _ask(self, method: str, url: str) -> Answer:
        problem, advice, pause = "", "", 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(pause)
            pause = _FIRST_PAUSE * 2**attempt
            try:
                answer = self._follow(method, url)
            except _LostError as error:
                problem = f"cannot be reached from this host{_proxy_of(url)}: {error}"
                advice = _REACH
                continue
            if answer.status not in _BUSY:
                return answer
            problem, advice = f"answers {answer.status}", "try again later"
            pause = _retry_after(answer) or pause
        raise SourceError(f"{shown(url)} {problem} ({ATTEMPTS} attempts); {advice}.")

    def _follow(self, method: str, url: str) -> Answer:
        at = url
        for _hop in range(_MOST_REDIRECTS + 1):
            answer = self._once(method, at)
            location = answer.header("Location")
            if answer.status not in _MOVED or not location:
                return answer
            target = urllib.parse.urljoin(at, location)
            # The listing says which content is right, so nobody on the way may write it.
            downgraded = at.startswith("https:") and not target.startswith("https:")
            if downgraded or not target.startswith(("http:", "https:")):
                raise SourceError(
                    f"{shown(at)} redirects from https to {shown(target)}, which anybody on the"
                    " way could change; give an endpoint that stays with https."
                )
            at = target
        raise SourceError(
            f"{shown(url)} redirects more than {_MOST_REDIRECTS} times; give the address that it"
            " leads to as endpoint."
        )

    def _once(self, method: str, url: str) -> Answer:
        try:
            return self._exchange(method, url)
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise self._translated(url, error) from None

    def _exchange(self, method: str, url: str) -> Answer:
        try:
            response = Request().open(
                method,
                url,
                headers=self._credentials if _origin(url) == self._origin else {},
                timeout=self._timeout,
                context=self._trust,
                http_agent="baremetal.vllm",
                follow_redirects="none",
                use_netrc=False,
                decompress=False,
            )
        except urllib.error.HTTPError as refusal:
            response = refusal
        with response:
            body = response.read(ANSWER_LIMIT + 1)
            answer = Answer(int(response.code), response.headers, body)
        if len(body) > ANSWER_LIMIT:
            raise SourceError(
                f"{shown(url)} answers with more than {ANSWER_LIMIT // 1024**2} MiB, which is no"
                " listing of a model; check endpoint."
            )
        length = answer.header("Content-Length")
        # A read with a limit does not complain of an answer that ends too early.
        if method != "HEAD" and length.isdigit() and len(body) < int(length):
            raise http.client.IncompleteRead(body)
        return answer

    def _translated(self, url: str, error: Exception) -> Exception:
        """Return the exception that says it: final, or one for another attempt."""
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        host = urllib.parse.urlsplit(url).netloc
        if isinstance(reason, ssl.SSLCertVerificationError):
            known = f", which {self._ca_path} is not" if self._ca_path else ""
            return SourceError(
                f"The certificate of {host} is not trusted by this host"
                f" ({reason.verify_message.rstrip('.')}); give a PEM file with the authority that"
                f" signed it as ca_path{known}."
            )
        closed = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        if isinstance(reason, ssl.SSLError) and not isinstance(reason, (*closed, socket.timeout)):
            return SourceError(
                f"{host} does not speak TLS as it should ({reason.reason or 'no reason given'});"
                " check scheme and port of endpoint."
            )
        return _LostError(self._words(reason))

    def _words(self, reason: object) -> str:
        if isinstance(reason, socket.gaierror):
            return "its name has no address here"
        if isinstance(reason, socket.timeout):
            return f"no answer in {self._timeout:g} seconds"
        if isinstance(reason, http.client.IncompleteRead):
            return "the answer broke off"
        if isinstance(reason, ConnectionError) and not isinstance(reason, ConnectionRefusedError):
            return "the connection was closed without an answer"
        if isinstance(reason, http.client.HTTPException):
            return "the answer is not HTTP"
        return str(getattr(reason, "strerror", None) or reason).lower()


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


def _proxy_of(url: str) -> str:
    """Return a few words on the proxy that is asked for an address, without its login."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f" through the proxy {proxy.rpartition('@')[2].rpartition('//')[2]}"


def _retry_after(answer: Answer) -> float:
    """Return the pause in seconds that a server asks for, a number or a date; 0 for none."""
    text = answer.header("Retry-After").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            until = email.utils.parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError):
            return 0.0
        seconds = until.timestamp() - time.time()
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else 0.0
