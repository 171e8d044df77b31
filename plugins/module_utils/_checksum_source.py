# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Models in plain directories, each with a SHA256SUMS: on a web server, or in a bucket of S3.

The directory of a model is <endpoint>/<org>/<name>, which is its revision main; other revisions are
directories below it. SHA256SUMS is what `sha256sum` of coreutils writes.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import re
import urllib.parse

from ansible_collections.baremetal.vllm.plugins.module_utils._model_listing import (
    Model,
    Snapshot,
    checked_file,
    is_inside,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._s3_signature import Keys, presigned
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import (
    Answer,
    Client,
    SourceError,
)

SUMS = "SHA256SUMS"
ROOT_REVISION = "main"

_AT_ONCE = 8
_ASKED_LIFETIME = 900
"""Seconds for which signatures of the module's own questions hold: the skew that S3 allows."""
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)\Z")
_S3_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_S3_ADVICE = {
    "AccessDenied": "let the key read it, and list the bucket, since S3 denies what is missing too",
    "AuthorizationHeaderMalformed": "give the bucket's region as s3_region",
    "AuthorizationQueryParametersError": "give the bucket's region as s3_region",
    "InvalidAccessKeyId": "s3_access_key is unknown there; give one that exists",
    "NoSuchBucket": "the bucket does not exist; endpoint is https://host[:port]/bucket[/prefix]",
    "PermanentRedirect": "give the bucket's own address as endpoint",
    "RequestTimeTooSkewed": "the clock of this host is wrong; synchronise it",
    "SignatureDoesNotMatch": "s3_secret_key does not belong to s3_access_key; give its own",
}


def parse_sums(text: str, where: str) -> dict[str, str]:
    """Return hash by path of a SHA256SUMS; raise SourceError for what is none.

    `sha256sum` writes a star before names that it read as binary, `find` writes ./ before them, and
    the shell creates the file before it is filled, so that it may have itself as an entry.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.match(line)
        path = match.group(2) if match else ""
        while path.startswith("./"):
            path = path[2:]
        if not match or not is_inside(path):
            raise SourceError(
                f"{where}, line {number}, is not what `sha256sum` writes of a file in that"
                f" directory ({line[:120]!r}); allowed is 64 hex digits, two blanks and a relative"
                " path without .. in it."
            )
        digest = match.group(1).lower()
        if sums.setdefault(path, digest) != digest:
            raise SourceError(f"{where} has two hashes for {path}; write it anew.")
    sums.pop(SUMS, None)
    if not sums:
        raise SourceError(f"{where} lists no files; write it with `sha256sum`.")
    return sums


class WebSource:
    """A directory on a web server."""

    def __init__(self, client: Client, endpoint: str, has_token: bool = False) -> None:
        self._client = client
        self._endpoint = endpoint
        self._has_token = has_token

    def snapshot(self, model: Model) -> Snapshot:
        """Return what the directory has of a model; raise SourceError."""
        folder, content = self._sums(model)
        where = f"{folder}/{SUMS}"
        try:
            sums = parse_sums(content.decode("utf-8"), where)
        except UnicodeDecodeError:
            raise SourceError(f"{where} is no text; write it with `sha256sum`.") from None
        urls = {path: f"{folder}/{urllib.parse.quote(path)}" for path in sums}
        sizes = dict(zip(urls, self._sizes(where, list(urls.values()))))
        files = tuple(
            checked_file(model, path, sizes[path], digest, None, self._listed(urls[path]))
            for path, digest in sums.items()
        )
        # A directory that is named by a commit holds that commit, whoever counted it.
        return Snapshot(model.revision if model.is_pinned else _commit(content), files)

    def _sums(self, model: Model) -> tuple[str, bytes]:
        """Return a model's directory and the content of its SHA256SUMS."""
        root = f"{self._endpoint}/{model.identifier}"
        below = f"{root}/{urllib.parse.quote(model.revision)}"
        if model.revision == ROOT_REVISION:
            folders = [root, below]
        elif model.is_pinned:
            # A commit is seldom a directory of its own; the model's own, if it is that content.
            folders = [below, root]
        else:
            folders = [below]
        refused: SourceError | None = None
        for folder in folders:
            url = f"{folder}/{SUMS}"
            answer = self._client.get(self._address("GET", url))
            if answer.status == 200:
                return folder, self._expected(model, folder, answer.body)
            if answer.status != 404 or b"NoSuchBucket" in answer.body:
                refused = refused or self._refusal(url, answer)
        tried = " nor ".join(f"{folder}/{SUMS}" for folder in folders)
        raise refused or SourceError(
            f"{model.identifier} is not there at revision {model.revision}: there is no {tried};"
            " check the name and the revision, or write the file with `sha256sum` in the model's"
            " directory."
        )

    def _expected(self, model: Model, folder: str, content: bytes) -> bytes:
        """Return the content, after a check that it is that of the commit that was asked for."""
        named_by_commit = folder.endswith(f"/{model.revision}")
        if model.is_pinned and not named_by_commit and _commit(content) != model.revision:
            raise SourceError(
                f"{folder} holds {_commit(content)} by now, and {model.revision} is asked for; give"
                " another revision, or put that one back."
            )
        return content

    def _sizes(self, where: str, urls: list[str]) -> list[int]:
        """Return the size of each file in bytes, asked several at once."""
        pool = concurrent.futures.ThreadPoolExecutor(max_workers=_AT_ONCE)
        try:
            return list(pool.map(lambda url: self._size(where, url), urls))
        finally:
            # After a failure nobody waits for what has not begun.
            pool.shutdown(wait=True, cancel_futures=True)

    def _size(self, where: str, url: str) -> int:
        answer = self._client.head(self._address("HEAD", url))
        if answer.status == 404:
            raise SourceError(
                f"{where} lists {url}, which is not there; upload it, or write {SUMS} anew."
            )
        if answer.status != 200:
            raise self._refusal(url, answer)
        length = answer.header("Content-Length")
        if not length.isdigit():
            raise SourceError(
                f"{url} has no Content-Length when asked with HEAD, so its size is unknown; let the"
                " server send it."
            )
        return int(length)

    def _address(self, method: str, url: str) -> str:
        """Return what is asked for a file right now: here the plain address."""
        return url

    def _listed(self, url: str) -> str:
        """Return what the listing has of a file, for others to fetch: here the plain address."""
        return url

    def _refusal(self, url: str, answer: Answer) -> SourceError:
        """Return the sentence for an answer other than 200 and 404."""
        if answer.status in (401, 403):
            advice = (
                "it does not accept the token; give one that may read it"
                if self._has_token
                else "it needs a token, or its server may not read the file; give token"
            )
            return SourceError(f"{url} cannot be read, the answer is {answer.status}: {advice}.")
        return SourceError(
            f"{url} cannot be read, the answer is {answer.status}; check that endpoint is a"
            " directory on a web server that answers GET and HEAD."
        )


class S3Source(WebSource):
    """A bucket of S3, in path style; without keys one that everybody may read."""

    def __init__(self, client: Client, endpoint: str, keys: Keys | None, lifetime: int) -> None:
        """C(lifetime) is that of the addresses in the listing, in seconds."""
        super().__init__(client, endpoint)
        if not urllib.parse.urlsplit(endpoint).path:
            raise SourceError(
                f"endpoint: {endpoint} names no bucket; allowed is https://host[:port]/bucket"
                "[/prefix]."
            )
        self._keys = keys
        self._lifetime = lifetime

    def _address(self, method: str, url: str) -> str:
        return presigned(method, url, self._keys, _ASKED_LIFETIME) if self._keys else url

    def _listed(self, url: str) -> str:
        return presigned("GET", url, self._keys, self._lifetime) if self._keys else url

    def _refusal(self, url: str, answer: Answer) -> SourceError:
        found = _S3_CODE.search(answer.body)
        code = found.group(1).decode() if found else ""
        said = f"{answer.status} {code}".strip()
        advice = _S3_ADVICE.get(code, "check endpoint, s3_region and what the key may read")
        if answer.status in (401, 403) and self._keys is None:
            advice = "without a key S3 denies what is missing too; check the name, or give a key"
        return SourceError(f"{url} cannot be read, the answer is {said}: {advice}.")


def _commit(content: bytes) -> str:
    """Return what names the content of a directory for ever."""
    return hashlib.sha256(content).hexdigest()[:40]
