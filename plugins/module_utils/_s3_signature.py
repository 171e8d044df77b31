# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""AWS Signature Version 4 in the query: addresses of objects in S3 that need no other credentials.

After "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the API
reference of Amazon S3, which every other S3 server follows too.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import urllib.parse
from dataclasses import dataclass, field

LONGEST_LIFETIME = 7 * 24 * 3600
"""Seconds for which the longest signature holds, after the same page."""

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Keys:
    """An access key of S3, and the region that its signatures name."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"


def presigned(
    method: str, url: str, keys: Keys, lifetime: int, now: datetime.datetime | None = None
) -> str:
    """Return an address with which anybody may send C(method) for C(lifetime) seconds from C(now).

    :param url: the object's address, its path percent-encoded, without a query and without the
        scheme's own port, since clients leave that out of the Host header that is signed.

    Raises ValueError for a lifetime that S3 refuses.
    """
    if not 1 <= lifetime <= LONGEST_LIFETIME:
        raise ValueError(f"{lifetime} seconds is no lifetime of a signature")
    parts = urllib.parse.urlsplit(url)
    moment = now or datetime.datetime.now(datetime.timezone.utc)
    stamp = moment.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{keys.region}/s3/aws4_request"
    query = _query(
        {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{keys.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(lifetime),
            "X-Amz-SignedHeaders": "host",
        }
    )
    request = "\n".join(
        (method, parts.path or "/", query, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD")
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join((_ALGORITHM, stamp, scope, digest))
    signature = hmac.new(_key(keys.secret_key, scope), text.encode(), hashlib.sha256).hexdigest()
    return f"{url}?{query}&X-Amz-Signature={signature}"


def _query(parameters: dict[str, str]) -> str:
    return "&".join(
        f"{name}={urllib.parse.quote(value, safe='')}" for name, value in sorted(parameters.items())
    )


def _key(secret_key: str, scope: str) -> bytes:
    """Return the key that signs for a day, a region and a service."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
