# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a registry says of an image: which content a tag names now, and its manifests.

The API is that of the OCI distribution specification 1.1; tokens are those of the distribution
project (https://distribution.github.io/distribution/spec/auth/token/), which Docker Hub and most
others speak. Asked by HEAD, which Docker Hub does not count towards its rate limit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Collection, Iterable
from urllib.parse import urlencode, urlsplit

from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    DOCKER_HUB,
    PullError,
    Reference,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._web import (
    Answer,
    CertificatesError,
    UnreachableError,
    UntrustedError,
    ask,
    trust,
)

Credentials = tuple[str, str]

# An index first: it names the image of every architecture, and is what `docker pull` records.
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEAD_REFUSED = frozenset({400, 405, 501})
_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HUB_ADDRESS = "registry-1.docker.io"
# Docker too asks these without TLS, if they speak none.
_LOCAL = frozenset({"localhost", "127.0.0.1"})
_CHALLENGE = re.compile(r"(Bearer|Basic)\b((?:\s*,?\s*\w+=(?:\"[^\"]*\"|[^\s,\"]+))*)", re.I)
_PARAMETER = re.compile(r"(\w+)=(?:\"([^\"]*)\"|([^\s,\"]+))")


class RegistryError(Exception):
    """What is asked for cannot be had; the text is one sentence for the operator."""


def digest_of(
    reference: str,
    credentials: Credentials | None = None,
    ca_path: str = "",
    insecure: Collection[str] = (),
) -> str:
    """The digest (``sha256:...``) of what an image reference names at this moment.

    :param reference: ``registry/repository:tag``; that of a reference with a digest is its own.
    :param credentials: user and password at the registry, or None.
    :param ca_path: PEM file of authorities to believe beside those of the system; empty for none.
    :param insecure: registries (``host`` or ``host:port``, as in Docker's daemon.json) whose
        certificate is not verified and which are asked without TLS if they speak none.
    :raises RegistryError: always one sentence.
    """
    try:
        parsed = Reference.parse(reference)
    except PullError as error:
        raise RegistryError(str(error)) from None
    return parsed.digest or RegistryImage(parsed, credentials, ca_path, insecure).digest()


def api_address(reference: Reference) -> tuple[str, str]:
    """Host of the registry's API, and the repository's name there.

    Docker Hub answers at another host than its name, and its official images are in ``library``.
    """
    registry = reference.registry
    name = reference.repository.removeprefix(f"{registry}/")
    if registry not in _HUB_NAMES:
        return registry, name
    return _HUB_ADDRESS, name if "/" in name else f"library/{name}"


class RegistryImage:
    """One image at its registry, with the authorization that was given for it.

    :raises RegistryError: from every method, and when it is made; always one sentence.
    """

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None = None,
        ca_path: str = "",
        insecure: Collection[str] = (),
    ) -> None:
        self._reference = reference
        self._credentials = credentials
        self._authorization: dict[str, str] = {}
        self._authorizing = threading.Lock()
        self._host, self._name = api_address(reference)
        listed = reference.registry in insecure
        try:
            self.context = trust(ca_path, verify=not listed)
        except CertificatesError as error:
            raise RegistryError(str(error)) from None
        plain_allowed = listed or urlsplit(f"//{self._host}").hostname in _LOCAL
        scheme = "http" if plain_allowed and not self._speaks_tls() else "https"
        self._base = f"{scheme}://{self._host}/v2/{self._name}"

    def digest(self) -> str:
        """What the reference's tag names now."""
        path = f"manifests/{self._reference.tag}"
        answer = self._ask("HEAD", path)
        silent = answer.status == 200 and not answer.headers.get("Docker-Content-Digest")
        if answer.status in _HEAD_REFUSED or silent:
            answer = self._ask("GET", path)
        if answer.status == 404:
            # The answer to HEAD has no body to say which of the two is missing.
            raise self._not_found(self._ask("GET", "tags/list?n=1").status)
        if answer.status != 200:
            raise self.refused(answer.status)
        return self._named(answer)

    def manifest(self, digest: str) -> bytes:
        """The manifest or the index of that digest, held against it."""
        answer = self._ask("GET", f"manifests/{digest}")
        if answer.status == 404:
            raise self.absent()
        if answer.status != 200:
            raise self.refused(answer.status)
        if f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != digest:
            raise self.damaged(digest)
        return answer.body

    def blob(self, digest: str) -> str:
        """The address of a layer or of a configuration."""
        return f"{self._base}/blobs/{digest}"

    def authorization(self, fresh: bool) -> dict[str, str]:
        """Headers for :meth:`blob`, from any thread.

        :param fresh: whether to ask for new ones, because the registry does not take the old ones.
        """
        with self._authorizing:
            if fresh:
                self._authorization = {}
                # What it wants to be told it says with a refusal.
                self._ask("HEAD", f"manifests/{self._reference.digest or self._reference.tag}")
            return dict(self._authorization)

    def _named(self, answer: Answer) -> str:
        """The digest that an answer names, held against its content where that came too."""
        named = answer.headers.get("Docker-Content-Digest", "").strip()
        content = f"sha256:{hashlib.sha256(answer.body).hexdigest()}" if answer.body else ""
        if named and content and named != content:
            raise self.error(
                "names another digest than its content has for image {image}; a proxy on the way"
                f" may have changed it, ask the registry itself: {named} is said, {content} came."
            )
        digest = content or named
        if not _DIGEST.fullmatch(digest):
            raise self.error(
                "names no sha256 digest for image {image}; write the digest into the reference by"
                " hand (`docker buildx imagetools inspect` prints it)."
            )
        return digest

    # -- requests --------------------------------------------------------------------------------

    def _speaks_tls(self) -> bool:
        try:
            ask("GET", f"https://{self._host}/v2/", self.context, patient=False)
        except UnreachableError:
            return False
        except UntrustedError as error:
            raise self._untrusted(error) from None
        return True

    def _ask(self, method: str, path: str) -> Answer:
        """Ask the repository; a registry that wants to know who asks is told, once."""
        url = f"{self._base}/{path}"
        answer = self._send(method, url, {"Accept": _ACCEPT, **self._authorization})
        if answer.status == 401 and not self._authorization:
            self._authorization = self._authorize(answer.headers.get_all("WWW-Authenticate") or [])
            if self._authorization:
                answer = self._send(method, url, {"Accept": _ACCEPT, **self._authorization})
        return answer

    def _authorize(self, challenges: Iterable[str]) -> dict[str, str]:
        """The header that a challenge asks for; empty where we have nothing to answer it with."""
        found = {
            scheme.lower(): {name.lower(): quoted or bare for name, quoted, bare in parameters}
            for scheme, parameters in (
                (match[1], _PARAMETER.findall(match[2]))
                for challenge in challenges
                for match in _CHALLENGE.finditer(challenge)
            )
        }
        if found.get("bearer", {}).get("realm"):
            return {"Authorization": f"Bearer {self._token(found['bearer'])}"}
        return self._basic() if "basic" in found else {}

    def _basic(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        encoded = base64.b64encode(":".join(self._credentials).encode()).decode()
        return {"Authorization": f"Basic {encoded}"}

    def _token(self, challenge: dict[str, str]) -> str:
        realm = challenge["realm"]
        parts = urlsplit(realm)
        # The password goes there.
        if parts.scheme != "https" and not self._base.startswith("http:"):
            raise self.error(
                "wants credentials for image {image} sent without TLS; have its administrator"
                f" correct the realm of its token service, {realm}."
            )
        asked = {"scope": f"repository:{self._name}:pull"}
        asked |= {name: challenge[name] for name in ("service", "scope") if challenge.get(name)}
        joint = "&" if parts.query else "?"
        answer = self._send("GET", f"{realm}{joint}{urlencode(asked)}", self._basic())
        if answer.status != 200:
            raise self.refused(answer.status)
        try:
            said = json.loads(answer.body)
            token = said.get("token") or said["access_token"]
        except (ValueError, AttributeError, KeyError):
            raise self.error(
                "has a token service that gives no token for image {image}; ask its administrator,"
                f" or the status page of the registry: {realm} answered something else."
            ) from None
        return str(token)

    def _send(self, method: str, url: str, headers: dict[str, str]) -> Answer:
        try:
            return ask(method, url, self.context, headers)
        except UntrustedError as error:
            raise self._untrusted(error) from None
        except UnreachableError as error:
            raise self.error(
                "cannot be reached from this machine for image {image}; check its name, DNS, the"
                f" route and https_proxy: {urlsplit(url).netloc}: {error}."
            ) from None

    # -- sentences -------------------------------------------------------------------------------

    def error(self, predicate: str) -> RegistryError:
        """A sentence about the registry; ``{image}`` in it becomes the image."""
        sentence = predicate.replace("{image}", self._reference.short)
        return RegistryError(f"Registry {self._reference.registry} {sentence}")

    def _untrusted(self, error: UntrustedError) -> RegistryError:
        return self.error(
            "cannot be trusted for image {image}; name the file with its authority's certificate in"
            " ca_path (model_store_ca for playbooks/pin.yml, bundle_ca for playbooks/bundle.yml):"
            f" {error}."
        )

    def absent(self) -> RegistryError:
        return self.error(
            "has no image {image}; compare its digest with what was pushed (`docker buildx"
            " imagetools inspect` prints it), and correct vllm_image."
        )

    def damaged(self, digest: str) -> RegistryError:
        return self.error(
            f"sent other content than {digest} promises for image {{image}}, and it was refused;"
            " a proxy on the way may have changed it, ask the registry itself, or push the image"
            " anew."
        )

    def _not_found(self, status_of_tags: int) -> RegistryError:
        if status_of_tags == 404:
            return self.error(
                f"has no repository {self._name}; compare the name with what was pushed, and"
                " correct vllm_image."
            )
        return self.error(
            f"has no tag {self._reference.tag} of {self._name}; compare it with what was pushed,"
            " and correct vllm_image."
        )

    def refused(self, status: int) -> RegistryError:
        """The sentence for a status that is no answer."""
        registry = self._reference.registry
        if status == 429:
            return self.error(
                "refuses image {image} because of its rate limit; log in here with"
                f" `docker login {registry}`, use a mirror, or wait."
            )
        if status in (401, 403):
            who = f"as {self._credentials[0]}" if self._credentials else "without credentials"
            return self.error(
                f"does not let us see image {{image}} {who}; check the repository's name, and log"
                f" in on this machine with `docker login {registry}`."
            )
        return self.error(
            f"answered {status} for image {{image}}; try again, and ask its administrator where it"
            " stays so."
        )
