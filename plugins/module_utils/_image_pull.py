# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Pulling one image through the Docker Engine: credentials, progress, failures.

The stream of `POST /images/create` is described in the Docker Engine API (1.41 and later) as
`JSONMessage`; the texts of failures were read from Docker 20.10 and docker-registry 2.8.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import time
import typing as t
from dataclasses import dataclass, field
from urllib.parse import quote

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerAPIError,
    DockerUnavailable,
    quote_segment,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    DOCKER_HUB,
    PullError,
    Reference,
    carries_local_name,
    known_digest,
    local_name,
)

# The longest silence of the engine within a pull, in seconds: it writes progress every 100 ms,
# but is mute while it verifies a finished layer (about 10 GiB at disk speed) and while it dials.
LONGEST_SILENCE = 600


def credentials_of(config_file: str, registry: str) -> tuple[str, str] | None:
    """Return (user, password) of the Docker client's `auths` entry for `registry`, or None.

    Raises PullError when the file or the entry cannot be read; what they hold is never quoted.
    """
    try:
        with open(config_file, encoding="utf-8") as file:
            auths = json.load(file).get("auths") or {}
        entries = {_registry_of(key): entry for key, entry in auths.items()}
        entry = entries.get(registry) or {}
        if entry.get("auth"):
            decoded = base64.b64decode(entry["auth"], validate=True).decode("utf-8")
            user, colon, password = decoded.partition(":")
            if not colon:
                raise ValueError
            return user, password.rstrip("\0")
        if entry.get("username"):
            return str(entry["username"]), str(entry.get("password", ""))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, binascii.Error):
        raise PullError(
            f"The registry credentials in {config_file} cannot be read; "
            f"write the entry for {registry} anew with `docker login {registry}`."
        ) from None
    return None


def _registry_of(key: str) -> str:
    """Return the host of an `auths` key: it may be a host or a URL; Docker Hub has an old name."""
    host = re.sub(r"\Ahttps?://", "", key).partition("/")[0]
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host


def authorization(credentials: tuple[str, str] | None, registry: str) -> dict[str, str]:
    """Return the X-Registry-Auth header (base64url of JSON, with padding) for a request."""
    if credentials is None:
        return {}
    user, password = credentials
    content = json.dumps({"username": user, "password": password, "serveraddress": registry})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(content.encode()).decode()}


@dataclass
class _Layer:
    """One layer on its way; a total of 0 bytes means that the engine has not said it yet."""

    current: int = 0
    total: int = 0
    fetched: bool = False
    done: bool = False


@dataclass
class Progress:
    """What a pull has done so far, fed with the engine's messages one by one.

    The engine tells the size of a layer only when its download begins, so the total is final
    (`total_is_final`) only once every layer has begun.
    """

    layers: dict[str, _Layer] = field(default_factory=dict)
    reused: int = 0
    digest: str = ""

    def feed(self, message: dict[str, t.Any]) -> None:
        """Take in one message of the stream; those that are no progress change nothing."""
        status = str(message.get("status", ""))
        if status.startswith("Digest: "):
            self.digest = status[len("Digest: ") :]
        identity = message.get("id")
        if not identity or status.startswith("Pulling from"):
            return
        if status == "Already exists":
            self.reused += 1
            return
        layer = self.layers.setdefault(str(identity), _Layer())
        detail = message.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total", 0) > 0:
            layer.current, layer.total = int(detail.get("current", 0)), int(detail["total"])
        elif status in ("Verifying Checksum", "Download complete", "Extracting", "Pull complete"):
            layer.fetched, layer.current = True, layer.total
            layer.done = layer.done or status == "Pull complete"

    @property
    def phase(self) -> str:
        """`pulling` while bytes arrive, `extracting` when all are there."""
        fetched = self.layers and all(layer.fetched for layer in self.layers.values())
        return "extracting" if fetched else "pulling"

    @property
    def downloaded_bytes(self) -> int:
        """Compressed bytes received in this pull."""
        return sum(layer.current for layer in self.layers.values())

    def status(self, phase: str, elapsed: float) -> dict[str, t.Any]:
        """Return the content of the progress file."""
        layers = self.layers.values()
        return {
            "phase": phase,
            "layers_done": self.reused + sum(layer.done for layer in layers),
            "layers": self.reused + len(self.layers),
            "current_bytes": self.downloaded_bytes,
            "total_bytes": sum(layer.total for layer in layers),
            "total_is_final": all(layer.total or layer.fetched for layer in layers),
            "elapsed": round(elapsed, 1),
        }


class ProgressFile:
    """The status of a pull in a JSON file, replaced as a whole at most once a second."""

    INTERVAL = 1.0  # seconds

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._written = float("-inf")

    def write(self, status: t.Mapping[str, t.Any], final: bool = False) -> None:
        """Write `status`, unless the last one is younger than a second and this is not the last.

        Raises PullError when the file cannot be written.
        """
        now = time.monotonic()
        if not self._path or (not final and now - self._written < self.INTERVAL):
            return
        self._written = now
        fresh = f"{self._path}.{os.getpid()}"
        try:
            with open(fresh, "w", encoding="utf-8") as file:
                json.dump(status, file)
            os.replace(fresh, self._path)
        except OSError as error:
            raise PullError(
                f"progress_file: {self._path} cannot be written ({error.strerror}); "
                "its directory must exist and have room."
            ) from error


@dataclass(frozen=True)
class Image:
    """An image that the engine has.

    `local` is the name that it shall carry here, empty where its digest is not known, and `named`
    says whether it does.
    """

    id: str
    digest: str
    size_bytes: int
    local: str = ""
    named: bool = False


# What the engine says, and what that means. The first pattern that matches is taken.
# {image}, {registry} and {said} are filled in.
_FAILURES: tuple[tuple[str, str], ...] = (
    (
        r"no space left on device|disk quota exceeded",
        "The disk of Docker's data is full while image {image} is pulled; free space there "
        "(`docker system df` shows what takes it) and run again: {said}.",
    ),
    (
        r"toomanyrequests|429 Too Many Requests",
        "Registry {registry} refuses image {image} because of its rate limit; log in there with "
        "`docker login {registry}`, use a mirror, or wait: {said}.",
    ),
    (
        r"server gave HTTP response to HTTPS client|x509:|tls: ",
        "Registry {registry} cannot be trusted for image {image}; install its CA certificate in "
        "/etc/docker/certs.d/{registry}/ca.crt or, for a registry without TLS, list it under "
        "insecure-registries of /etc/docker/daemon.json: {said}.",
    ),
    (
        r"unauthorized|no basic auth credentials|authentication required|denied|forbidden"
        r"|incorrect username or password",
        "Registry {registry} does not let us pull image {image}; check the repository's name and "
        "log in as root on the host with `docker login {registry}`: {said}.",
    ),
    (
        r"verification failed",
        "Registry {registry} sent other content than the digest of image {image} promises, and it "
        "was refused; push the image anew, or correct the digest: {said}.",
    ),
    (
        r"manifest unknown|name unknown|not found|no matching manifest|repository name not known",
        "Registry {registry} has no image {image}; compare its digest or tag with what was pushed "
        "(`docker buildx imagetools inspect` prints it) and correct the reference: {said}.",
    ),
    (
        r"connection refused|no such host|i/o timeout|timed? ?out|no route to host|unreachable"
        r"|connection reset|deadline exceeded|temporary failure in name resolution"
        r"|request canceled|\bEOF\b|server misbehaving|50[234] ",
        "Registry {registry} cannot be reached from this host for image {image}; check its name, "
        "DNS, the route and Docker's proxy settings: {said}.",
    ),
)
_OTHER_FAILURE = (
    "Docker cannot pull image {image}; read what it says, and its log with "
    "`journalctl -u docker`: {said}."
)


def failure_sentence(reference: Reference, said: str) -> str:
    """Return the sentence for what the engine said about a failed pull."""
    said = " ".join(said.split()).rstrip(".")
    fitting = (text for pattern, text in _FAILURES if re.search(pattern, said, re.IGNORECASE))
    sentence = next(fitting, _OTHER_FAILURE)
    return sentence.format(image=reference.short, registry=reference.registry, said=said)


class ImagePuller:
    """Brings one image to the engine behind `api`, and tells which one it is."""

    def __init__(self, api: DockerAPI, reference: Reference) -> None:
        self._api = api
        self._reference = reference
        self.progress = Progress()

    def present(self) -> Image | None:
        """Return the image if the engine has it, without asking the registry.

        By digest it is also found under its local name, the only one that a loaded image has.
        Raises PullError for what the engine refuses, and DockerUnavailable when nobody answers.
        """
        reference = self._reference
        names = [reference.name, *([reference.local] if reference.digest else [])]
        for name in names:
            found = self._inspect(name)
            if found is None:
                continue
            wanted, repository = reference.digest, reference.repository
            digest = wanted or known_digest(repository, found, self.progress.digest)
            named = carries_local_name(repository, digest, found)
            digests = [str(each).rpartition("@")[2] for each in found.get("RepoDigests") or []]
            if wanted and wanted not in digests and not named:
                continue
            return Image(
                id=str(found["Id"]),
                digest=f"{repository}@{digest}" if digest else "",
                size_bytes=int(found.get("Size", 0)),
                local=local_name(repository, digest),
                named=named,
            )
        return None

    def _inspect(self, name: str) -> dict[str, t.Any] | None:
        try:
            found: dict[str, t.Any] = self._api.get(f"/images/{quote_segment(name)}/json")
        except DockerAPIError as error:
            if error.status == 404:
                return None
            raise PullError(failure_sentence(self._reference, error.message)) from error
        return found

    def name_locally(self, image: Image) -> None:
        """Give an image its local name. Raises PullError and DockerUnavailable."""
        repository, _colon, tag = image.local.rpartition(":")
        path = f"/images/{quote_segment(image.id)}/tag?repo={quote(repository, safe='')}&tag={tag}"
        try:
            list(self._api.stream("POST", path))
        except DockerAPIError as error:
            raise PullError(
                f"Docker has image {self._reference.short} and does not name it {image.local}; "
                f"read its log with `journalctl -u docker`: {error.message}."
            ) from error

    def refuse_moved_tag(self, credentials: tuple[str, str] | None) -> None:
        """Raise PullError where the tag of the reference names another image than its digest.

        A registry that cannot tell is passed over: it is the digest that is pulled, and the pull
        says what is wrong.
        """
        reference = self._reference
        if not (reference.tag and reference.digest):
            return
        tagged = quote_segment(f"{reference.repository}:{reference.tag}")
        headers = authorization(credentials, reference.registry)
        try:
            answer: dict[str, t.Any] = next(
                self._api.stream("GET", f"/distribution/{tagged}/json", headers), {}
            )
        except DockerAPIError:
            return
        now = str((answer.get("Descriptor") or {}).get("digest", ""))
        if now and now != reference.digest:
            raise PullError(
                f"Tag {reference.tag} of {reference.repository} names {now[:19]}… now, and "
                f"{reference.digest[:19]}… is pinned; find out what changed, then run "
                "playbooks/pin.yml and have the new pin reviewed."
            )

    def pull(
        self,
        credentials: tuple[str, str] | None,
        timeout: float,
        progress_file: ProgressFile,
    ) -> Image:
        """Pull the image and return it, verified, within `timeout` seconds.

        Raises PullError, after having written the phase `failed`, and DockerUnavailable.
        """
        start = time.monotonic()
        phase = "failed"
        progress_file.write(self.progress.status("pulling", 0.0))
        try:
            self._read_stream(credentials, start, timeout, progress_file)
            image = self.present()
            if image is None:
                raise PullError(
                    f"Docker pulled {self._reference.text}, but the image it has now does not "
                    "carry that digest; correct the digest, or push the image anew."
                )
            phase = "done"
            return image
        finally:
            elapsed = time.monotonic() - start
            with contextlib.suppress(PullError):  # must not hide why the pull failed
                progress_file.write(self.progress.status(phase, elapsed), final=True)

    def _read_stream(
        self,
        credentials: tuple[str, str] | None,
        start: float,
        timeout: float,
        progress_file: ProgressFile,
    ) -> None:
        reference = self._reference
        path = (
            f"/images/create?fromImage={quote(reference.repository, safe='')}"
            f"&tag={quote(reference.digest or reference.tag, safe='')}"
        )
        headers = authorization(credentials, reference.registry)
        silence = min(timeout, LONGEST_SILENCE)
        messages = self._api.stream("POST", path, headers, silence)
        try:
            for message in messages:
                if not isinstance(message, dict):
                    continue
                if message.get("error"):
                    raise PullError(failure_sentence(reference, str(message["error"])))
                self.progress.feed(message)
                elapsed = time.monotonic() - start
                progress_file.write(self.progress.status(self.progress.phase, elapsed))
                if elapsed > timeout:
                    raise self._too_late(timeout)
        except DockerAPIError as error:
            raise PullError(failure_sentence(reference, error.message)) from error
        except DockerUnavailable:
            if time.monotonic() - start >= silence:
                raise self._too_late(silence) from None
            raise
        finally:
            messages.close()

    def _too_late(self, seconds: float) -> PullError:
        status = self.progress.status("failed", seconds)
        gib = status["current_bytes"] / 2**30
        return PullError(
            f"Image {self._reference.short} was not pulled within {seconds:.0f} seconds "
            f"({gib:.2f} GiB arrived, {status['layers_done']} of {status['layers']} layers done); "
            "raise timeout, or look at the network between this host and "
            f"{self._reference.registry}."
        )
