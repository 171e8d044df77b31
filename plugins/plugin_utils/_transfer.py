# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Bytes of a server into a file, for the controller: what ``http_get`` of huggingface_hub is in the
containers of the hosts.

``_model_download.Download`` calls it, and does the rest: several files at once, going on after a
cut, verifying. Proxies of the environment are followed. Credentials go to the server that was
asked and never to one that it redirects to.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.parse
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Protocol

from ansible.module_utils.urls import Request

from ansible_collections.baremetal.vllm.plugins.module_utils._model_download import CHUNK, Failure
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import shown

# Seconds without a byte after which a connection counts as lost.
SILENCE = 30.0

_MOVED = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
# What a server may be told that was not asked itself: which bytes, and in which form.
_FOR_EVERYBODY = ("accept", "accept-encoding", "range")


class Target(Protocol):
    """The file that is written, for instance ``_model_download.PartFile``."""

    def write(self, chunk: bytes, /) -> int: ...

    def seek(self, offset: int, /) -> int: ...

    def truncate(self) -> int: ...


class TransferError(Exception):
    """No bytes came; the text says why in a few words."""


class StatusError(TransferError):
    """The server refuses. ``response.status_code`` is where Download looks for the status."""

    def __init__(self, status: int, reason: str, url: str) -> None:
        super().__init__(f"{status} {reason} of {shown(url)}".replace("  ", " "))
        self.response = SimpleNamespace(status_code=status)


class Transfer:
    """Fetches files, several at once where it is called by several threads.

    :param context: whom https believes, for instance ``_source_client.trust()``.
    :param authorize: returns headers for the server that is asked; called with True after a 401,
        once in each request, to get fresh ones: tokens of a registry live for minutes.
    :param arrived: is told the number of bytes of every piece.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        authorize: Callable[[bool], dict[str, str]] | None = None,
        arrived: Callable[[int], None] | None = None,
    ) -> None:
        self._context = context
        self._authorize = authorize
        self._arrived = arrived

    def http_get(
        self,
        url: str,
        temp_file: Target,
        *,
        resume_size: float = 0.0,
        headers: Mapping[str, str] | None = None,
        **_ignored: Any,
    ) -> None:
        """Write to ``temp_file`` what is behind ``url``, from byte ``resume_size`` on.

        A server that ignores ranges sends everything, and then the file is begun anew.

        :param headers: for the server of ``url`` alone, all but those that say what is wanted.
        :raises StatusError: the server answers, and has not what is wanted.
        :raises TransferError: there is no answer, or it breaks off with an error.
        :raises Failure: it redirects to where nobody must follow. What ``temp_file`` raises passes.
        """
        sent = dict(headers or {})
        if resume_size > 0:
            sent["Range"] = f"bytes={int(resume_size)}-"
        fresh = False
        while True:
            allowed = self._authorize(fresh) if self._authorize else {}
            with self._follow(url, {**sent, **allowed}) as response:
                status = int(response.status)
                if status == 401 and self._authorize and not fresh:
                    fresh = True
                    continue
                if status not in (200, 206):
                    raise StatusError(status, str(response.reason or ""), url)
                if resume_size > 0 and status == 200:
                    temp_file.seek(0)
                    temp_file.truncate()
                self._copy(response, temp_file)
                return

    def _follow(self, url: str, headers: Mapping[str, str]) -> Any:
        """The answer to GET, of whatever server it is had in the end."""
        at = url
        for _hop in range(_MOST_REDIRECTS + 1):
            known = _origin(at) == _origin(url)
            sent = {
                name: value
                for name, value in headers.items()
                if known or name.lower() in _FOR_EVERYBODY
            }
            response = self._open(at, sent)
            location = response.headers.get("Location") or ""
            if int(response.status) not in _MOVED or not location:
                return response
            response.close()
            target = urllib.parse.urljoin(at, location)
            downgraded = at.startswith("https:") and not target.startswith("https:")
            if downgraded or not target.startswith(("http:", "https:")):
                # No Transient: the server would say the same again.
                text = f"{shown(at)} redirects to {shown(target)}, which is no https address"
                raise Failure("refused", text, status=int(response.status))
            at = target
        text = f"{shown(url)} redirects more than {_MOST_REDIRECTS} times"
        raise Failure("refused", text, status=int(response.status))

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:
        try:
            return Request().open(
                "GET",
                url,
                headers=dict(headers),
                timeout=SILENCE,
                context=self._context,
                http_agent="baremetal.vllm",
                follow_redirects="none",
                use_netrc=False,  # credentials are those that the caller gives
                decompress=False,
            )
        except urllib.error.HTTPError as refusal:
            return refusal
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise TransferError(_words(error)) from None

    def _copy(self, response: Any, temp_file: Target) -> None:
        while True:
            try:
                chunk = response.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise TransferError(_words(error)) from None
            if not chunk:
                return
            temp_file.write(chunk)
            if self._arrived:
                self._arrived(len(chunk))


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _words(error: Exception) -> str:
    """What an error says. Not of those that quote what was sent: a header may be a secret."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return "the address or a header has characters that do not belong there"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    # Download tells by the text of OpenSSL that a certificate is not trusted.
    return str(reason) or type(reason).__name__
