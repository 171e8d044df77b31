# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The container that downloads a model: how it is started, and the sentence when it fails.

The container is one of the vLLM image, so that the client is the one that vLLM would use and
nothing is installed on the host. Secrets go to its standard input alone.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import subprocess
import time
import typing as t
import urllib.parse
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_download
from ansible_collections.baremetal.vllm.plugins.module_utils._model_install import disk_full
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import (
    PROGRESS_NAME,
    Copy,
    checked_path,
)

LABEL = "baremetal.vllm.fetch"
_MOUNT = "/model"
_CA_MOUNT = "/authorities.pem"
_DOCKER_SECONDS = 60.0
"""How long Docker may take for anything but the download."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class FetchError(Exception):
    """A model cannot be fetched; the text is one sentence for the operator."""


@dataclass(frozen=True)
class Ended:
    """How a program ended; `late` says that it was told to."""

    status: int
    output: str = ""
    errors: str = ""
    late: bool = False


def run_program(
    arguments: t.Sequence[str],
    text: str = "",
    seconds: float = _DOCKER_SECONDS,
    tick: t.Callable[[], None] = lambda: None,
    stop: t.Sequence[str] = (),
) -> Ended:
    """Run a program with `text` on its standard input, and `tick` every second.

    After `seconds` the command `stop` is run, which shall end the program, and later it is killed.
    """
    pipe = subprocess.PIPE
    try:
        # run_command waits for the end, and here progress is read meanwhile.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(arguments), stdin=pipe, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError:
        raise FetchError(
            f"There is no program {arguments[0]} on this host; install the Docker Engine "
            "(playbooks/provision.yml) and run again."
        ) from None
    try:
        return _attend(process, text.encode(), seconds, tick, stop)
    except BaseException:
        _run_stop(stop)
        process.kill()
        raise


def _attend(
    process: subprocess.Popen[bytes],
    content: bytes | None,
    seconds: float,
    tick: t.Callable[[], None],
    stop: t.Sequence[str],
) -> Ended:
    deadline, late = time.monotonic() + seconds, False
    while True:
        try:
            wait = min(1.0, max(0.05, deadline - time.monotonic()))
            output, errors = process.communicate(content, timeout=wait)
            words = (output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))
            return Ended(process.returncode, *words, late=late)
        except subprocess.TimeoutExpired:
            content = None
        tick()
        if time.monotonic() >= deadline:
            if late or not stop:
                process.kill()
            _run_stop(() if late else stop)
            deadline, late = time.monotonic() + _DOCKER_SECONDS, True


def _run_stop(stop: t.Sequence[str]) -> None:
    if stop:
        with contextlib.suppress(subprocess.TimeoutExpired):
            limit = _DOCKER_SECONDS
            # run_command has no limit of time.
            subprocess.run(  # pylint: disable=ansible-bad-function
                list(stop), check=False, capture_output=True, timeout=limit
            )


Runner = t.Callable[..., Ended]


@dataclass(frozen=True)
class Request:
    """What shall be fetched, and how."""

    copy: Copy
    source: str
    revision: str
    image: str
    user: tuple[int, int]
    files: tuple[dict[str, t.Any], ...] = field(repr=False)  # addresses may be signed
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    ca_path: str = ""
    workers: int = 8
    timeout: int = 21600
    progress_file: str = ""
    check: str = "size"

    @classmethod
    def of(cls, parameters: t.Mapping[str, t.Any]) -> Request:
        """Read the module's parameters. Raises StoreError and FetchError for what is wrong."""
        listing = parameters["listing"]
        user = re.fullmatch(r"(\d+)(?::(\d+))?", parameters["container_user"])
        ca_path = parameters["ca_path"] or ""
        if user is None:
            raise FetchError(
                f"container_user: {parameters['container_user']!r} is no user; allowed are the "
                "numbers of a user and, if it is not 0, a group, such as 2000:0."
            )
        if parameters["timeout"] < 1 or parameters["workers"] < 1:
            raise FetchError("timeout and workers: allowed are whole numbers from 1.")
        if ca_path and not os.path.isfile(ca_path):
            raise FetchError(f"ca_path: there is no file {ca_path} on this host; put it there.")
        if not listing["files"]:
            raise FetchError(f"listing: it has no files of {listing['model']}; ask its source.")
        for file in listing["files"]:
            checked_path(file["path"])
        token = parameters["token"]
        return cls(
            copy=Copy.of(parameters["store"], listing["model"], listing["commit"]),
            source=listing["source"].rstrip("/"),
            revision=listing.get("revision") or "",
            files=tuple(listing["files"]),
            image=parameters["image"],
            user=(int(user.group(1)), int(user.group(2) or 0)),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            ca_path=ca_path,
            workers=parameters["workers"],
            timeout=parameters["timeout"],
            progress_file=parameters["progress_file"] or "",
            check=parameters["check"],
        )

    @property
    def container(self) -> str:
        return f"vllm-fetch-{self.copy.model.partition('/')[2]}-{self.copy.commit[:12]}"

    def arguments(self) -> list[str]:
        """Return the command that starts the container; nothing in it is secret."""
        mounts = [f"type=bind,source={self.copy.partial},target={_MOUNT}"]
        if self.ca_path:
            mounts.append(f"type=bind,source={self.ca_path},target={_CA_MOUNT},readonly")
        return [
            *("docker", "run", "--rm", "--interactive", "--name", self.container),
            *("--label", f"{LABEL}={self.copy.model}@{self.copy.commit}"),
            *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--network", "host", "--pull", "never", "--log-driver", "none"),
            *("--user", f"{self.user[0]}:{self.user[1]}", "--tmpfs", "/tmp"),  # noqa: S108 - the container's
            *(part for mount in mounts for part in ("--mount", mount)),
            # void: where the NVIDIA runtime is the default, the image asks for all GPUs.
            *("--env", "HOME=/tmp", "--env", "NVIDIA_VISIBLE_DEVICES=void"),
            *("--entrypoint", "python3", self.image, "-c", inspect.getsource(_model_download)),
        ]

    def job(self, paths: t.Collection[str]) -> str:
        """Return the text for the container's standard input."""
        place = urllib.parse.urlsplit(self.source)
        names = [name for upper in _PROXIES for name in (upper, upper.lower())]
        job = {
            "directory": _MOUNT,
            "files": [file for file in self.files if file["path"] in paths],
            "headers": self.headers,
            "origin": f"{place.scheme}://{place.netloc}",
            # A proxy's address may hold a password, and `docker inspect` shows variables.
            "environment": {name: os.environ[name] for name in names if os.environ.get(name)},
            "ca_path": _CA_MOUNT if self.ca_path else "",
            "workers": self.workers,
            "progress_path": f"{_MOUNT}/{PROGRESS_NAME}",
        }
        return json.dumps(job)


# What the download says, and what that means; {said} is its own message.
_FAILURES = {
    "refused": (
        "{source} does not let this host have {file} of {copy} (status {status}); check the token, "
        "and that its owner has accepted the terms of {model} there: {said}."
    ),
    "not_found": (
        "{source} has no {file} of {copy} any more; check the model's name and its revision, and "
        "run again so that its files are listed anew: {said}."
    ),
    "unreachable": (
        "{source} cannot be reached from this host for {file} of {copy}; check its name, DNS, the "
        "route and the proxy, and run again, what has arrived is kept: {said}."
    ),
    "unavailable": (
        "{source} answered {status} for {file} of {copy} again and again; wait or use a mirror, "
        "and run again, what has arrived is kept: {said}."
    ),
    "untrusted": (
        "The certificate that came for {file} of {copy} is not trusted, of {source} or of where "
        "it sends downloads; give the file with its authority as ca_path: {said}."
    ),
    "mismatch": (
        "{source} sent {file} of {copy} with other content than it promised, twice "
        "({found} instead of {expected}), so nothing was installed; use another source, and tell "
        "whoever runs this one."
    ),
    "bundle": (
        "{file} of {copy} came damaged from the bundle, so nothing was installed; compare the "
        "bundle with `sha256sum --check SHA256SUMS`, copy the file anew, and run again."
    ),
    "disk": "{partial} cannot be written while {file} is fetched; look at its disk: {said}.",
    "no_client": (
        "Image {image} has no huggingface_hub, with which {copy} would be fetched; use an image "
        "of vLLM: {said}."
    ),
    "stopped": (
        "The download of {copy} was stopped from outside; run again, what has arrived is kept: "
        "{said}."
    ),
}
_OTHER_FAILURE = "{copy} could not be fetched, and the reason at {file} is a new one: {said}."


def failure_sentence(request: Request, result: t.Mapping[str, t.Any]) -> str:
    """Return the sentence for a download that says why it failed."""
    kind = str(result.get("kind"))
    if kind == "disk_full":
        return disk_full(request.copy, int(result.get("missing_bytes") or 0))
    return _FAILURES.get(kind, _OTHER_FAILURE).format(
        source=request.source,
        file=result.get("file") or "the files",
        copy=request.copy,
        model=request.copy.model,
        partial=request.copy.partial,
        image=request.image,
        status=result.get("status"),
        expected=_short(str(result.get("expected"))),
        found=_short(str(result.get("found"))),
        said=str(result.get("message")).rstrip("."),
    )


def _short(text: str) -> str:
    """Cut hashes to twelve digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1", text)


_DOCKER_FAILURES = (
    (
        r"cannot connect to the docker daemon|is the docker daemon running|permission denied",
        "{copy} cannot be fetched because Docker is not running on this host; start it with "
        "`systemctl start docker` and read its log: {said}.",
    ),
    (
        r"no such image|unable to find image|no such object",
        "{copy} cannot be fetched because image {image} is not on this host; pull it first: "
        "{said}.",
    ),
    (
        r"executable file not found|no such file or directory: unknown",
        "Image {image} has no python3, with which {copy} would be fetched; use an image of vLLM: "
        "{said}.",
    ),
)
_OTHER_DOCKER_FAILURE = (
    "The container that fetches {copy} ended with status {status} and no result; run again, what "
    "has arrived is kept, and read `journalctl -u docker` if it does so once more: {said}."
)


def docker_sentence(request: Request, ended: Ended) -> str:
    """Return the sentence for a container that gave no result."""
    lines = [line for line in ended.errors.splitlines() if line.strip()] or ["it said nothing"]
    telling = [line for line in lines if not line.startswith(("See ", "Run "))] or lines
    said = re.sub(r"\?[^\s'\"]+", "", telling[-1].strip())[:300].rstrip(".")
    fitting = (text for pattern, text in _DOCKER_FAILURES if re.search(pattern, said, re.I))
    sentence = next(fitting, _OTHER_DOCKER_FAILURE)
    return sentence.format(copy=request.copy, image=request.image, status=ended.status, said=said)
