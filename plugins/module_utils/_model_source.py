# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Asking the source of a fleet's models what it has of them: commit, files, sizes and hashes."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils._checksum_source import (
    ROOT_REVISION,
    S3Source,
    WebSource,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_hubs import (
    HuggingFaceSource,
    ModelScopeSource,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_listing import (
    Model,
    Snapshot,
    listing,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._s3_signature import (
    LONGEST_LIFETIME,
    Keys,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import (
    Client,
    SourceError,
    normal_endpoint,
)

ENDPOINTS = {"huggingface": "https://huggingface.co", "modelscope": "https://modelscope.cn"}
"""What is asked where no endpoint is given."""

REVISIONS = {
    "huggingface": "main",
    "modelscope": "master",
    "http": ROOT_REVISION,
    "s3": ROOT_REVISION,
}
"""The revision of a model that is given without one, by provider."""


class Source(t.Protocol):
    """What knows the files of a model; raises SourceError."""

    def snapshot(self, model: Model) -> Snapshot: ...


@dataclass(frozen=True)
class Settings:
    """Where models come from, for a whole fleet; times in seconds."""

    provider: str
    endpoint: str = ""
    token: str = field(default="", repr=False)
    ca_path: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = field(default="", repr=False)
    s3_region: str = "us-east-1"
    s3_url_lifetime: int = 24 * 3600
    timeout: float = 30.0


def list_models(
    models: t.Iterable[str],
    exclude: t.Sequence[str],
    settings: Settings,
    sleep: t.Callable[[float], None] = time.sleep,
) -> list[dict[str, t.Any]]:
    """Return the listing of each model, in their order.

    :param models: each `org/name` or `org/name@revision`.
    :param exclude: patterns of C(fnmatch) for whole paths that serving does not need.
    :param sleep: waits between attempts, given seconds.

    Raises SourceError, one sentence, for the first that cannot be had.
    """
    wanted = [(asked, Model.parse(asked, REVISIONS[settings.provider])) for asked in models]
    endpoint = _endpoint(settings)
    source = _source(settings, endpoint, sleep)
    listings = [
        {"asked": asked, **listing(model, endpoint, source.snapshot(model), exclude)}
        for asked, model in wanted
    ]
    _check_secrets(listings, settings)
    return listings


def _endpoint(settings: Settings) -> str:
    endpoint = settings.endpoint or ENDPOINTS.get(settings.provider, "")
    if not endpoint:
        what = "the bucket" if settings.provider == "s3" else "the directory on the web server"
        raise SourceError(
            f"endpoint: provider {settings.provider} needs one; give the address of {what}."
        )
    return normal_endpoint(endpoint)


def _source(settings: Settings, endpoint: str, sleep: t.Callable[[float], None]) -> Source:
    if not settings.timeout > 0:
        raise SourceError(
            f"timeout: {settings.timeout} is no time to wait for an answer; allowed are whole"
            " seconds from 1."
        )
    # http.client would name the token in its own error.
    if settings.token and not (settings.token.isascii() and settings.token.isprintable()):
        raise SourceError("token: it has characters that fit in no header; give it as it was made.")
    credentials = _credentials(settings)
    client = Client(endpoint, credentials, settings.ca_path, settings.timeout, sleep)
    if settings.provider == "huggingface":
        return HuggingFaceSource(client, endpoint, bool(settings.token))
    if settings.provider == "modelscope":
        return ModelScopeSource(client, endpoint, bool(settings.token))
    if settings.provider == "s3":
        return S3Source(client, endpoint, _keys(settings), settings.s3_url_lifetime)
    return WebSource(client, endpoint, bool(settings.token))


def _credentials(settings: Settings) -> dict[str, str]:
    """Return the headers that prove who asks; those of S3 are in its addresses."""
    if not settings.token or settings.provider == "s3":
        return {}
    headers = {"Authorization": f"Bearer {settings.token}"}
    if settings.provider == "modelscope":
        # Its own client sends both: older parts of the API read the cookie alone.
        headers["Cookie"] = f"m_session_id={settings.token}"
    return headers


def _keys(settings: Settings) -> Keys | None:
    if bool(settings.s3_access_key) != bool(settings.s3_secret_key):
        raise SourceError(
            "s3_access_key and s3_secret_key: one of them is empty; give both, or neither for a"
            " bucket that everybody may read."
        )
    if not 1 <= settings.s3_url_lifetime <= LONGEST_LIFETIME:
        raise SourceError(
            f"s3_url_lifetime: {settings.s3_url_lifetime} is none that S3 accepts; allowed are 1 to"
            f" {LONGEST_LIFETIME} seconds."
        )
    if not settings.s3_access_key:
        return None
    return Keys(settings.s3_access_key, settings.s3_secret_key, settings.s3_region)


def _check_secrets(listings: t.Iterable[t.Mapping[str, t.Any]], settings: Settings) -> None:
    """Refuse a secret that is a part of an address: Ansible would black it out, and break it."""
    urls = [file["url"] for each in listings for file in each["files"]]
    for option in ("token", "s3_secret_key"):
        secret = getattr(settings, option)
        if secret and any(secret in url for url in urls):
            raise SourceError(
                f"{option}: its value is a part of the files' addresses, where Ansible would black"
                " it out; use another one."
            )
