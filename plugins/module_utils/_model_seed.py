# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The container in which a host serves its models to others: how it begins, and how it ends."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import select
import subprocess
import typing as t
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_seed_server

CONTAINER = "vllm-seed"
_STORE = "/models"
_PORT = 8790
"""Inside of the container."""
_START_SECONDS = 60.0
_CONNECTIONS = 1024
"""Each has a thread of its own, and a host has as many connections as it fetches files at once."""


class SeedError(Exception):
    """Models cannot be served; the text is one sentence for the operator."""


@dataclass(frozen=True)
class Seed:
    """What is served, and where: `seconds` is how long at most."""

    store: str
    image: str
    user: str
    address: str
    port: int
    seconds: int
    key: str = field(repr=False)

    def arguments(self) -> list[str]:
        """Return the command that starts the container; nothing in it is secret."""
        return [
            *("docker", "run", "--rm", "--interactive", "--name", CONTAINER),
            *("--label", "baremetal.vllm.seed=true"),
            *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--pull", "never", "--log-driver", "none", "--pids-limit", str(_CONNECTIONS)),
            *("--user", self.user, "--publish", f"{self.address}:{self.port}:{_PORT}"),
            *("--mount", f"type=bind,source={self.store},target={_STORE},readonly"),
            # It is process 1, to which other signals mean nothing; a reboot shall not wait for it.
            *("--stop-signal", "SIGKILL"),
            # void: where the NVIDIA runtime is the default, the image asks for all GPUs.
            *("--env", "NVIDIA_VISIBLE_DEVICES=void"),
            *("--entrypoint", "python3", self.image),
            *("-I", "-c", inspect.getsource(_model_seed_server)),
        ]

    def job(self) -> str:
        """Return the text for the container's standard input."""
        job = {"store": _STORE, "port": _PORT, "key": self.key, "seconds": self.seconds}
        return json.dumps(job)


def start(seed: Seed, wait_seconds: float = _START_SECONDS) -> dict[str, int]:
    """Serve in the background until `stop`, or until the time is over; return `files` and `bytes`.

    What an earlier run has left serving ends. Raises SeedError.
    """
    stop()
    with _docker(seed.arguments(), stdin=subprocess.PIPE) as client:
        streams = (client.stdin, client.stdout, client.stderr)
        stdin, stdout, stderr = (t.cast("t.IO[bytes]", stream) for stream in streams)
        try:
            with contextlib.suppress(BrokenPipeError):  # why it has ended, its errors say
                stdin.write(seed.job().encode())
                stdin.close()
            heard = select.select([stdout], [], [], wait_seconds)[0]
            line = stdout.readline() if heard else b""
        finally:
            # The client alone: its container goes on without it.
            client.kill()
        errors = stderr.read().decode("utf-8", "replace")
    try:
        served = json.loads(line)
        return {"files": int(served["files"]), "bytes": int(served["bytes"])}
    except (ValueError, KeyError, TypeError):
        with contextlib.suppress(SeedError):
            stop()
        raise SeedError(_sentence(seed, errors)) from None


def stop() -> bool:
    """End the container; return whether there was one. Raises SeedError."""
    with _docker(["docker", "rm", "--force", CONTAINER], stdin=subprocess.DEVNULL) as client:
        output, errors = client.communicate()
    said = errors.decode("utf-8", "replace")
    # It removes itself at its end, which may be now. Docker before 23 calls its absence an error.
    gone = re.search(r"No such container|already in progress", said)
    if client.returncode and not gone:
        raise SeedError(
            f"The container {CONTAINER}, which serves models to other hosts, cannot be removed; "
            f"remove it with `docker rm --force {CONTAINER}`: {_last_line(said)}."
        )
    return not gone and output.decode("utf-8", "replace").strip() == CONTAINER


def _docker(command: list[str], stdin: int) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        # run_command waits for the end, and this goes on when the module has ended.
        return subprocess.Popen(  # pylint: disable=ansible-bad-function
            command, stdin=stdin, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError:
        raise SeedError(
            "There is no program docker on this host; install the Docker Engine "
            "(playbooks/provision.yml) and run again."
        ) from None


_FAILURES = (
    (
        r"port is already allocated|address already in use",
        "Port {port} of {address} is taken on this host, so it cannot serve its models to others; "
        "set model_store_seed_port to one that is free: {said}.",
    ),
    (
        r"cannot assign requested address",
        "{address} is no address of this host, so it cannot serve its models there; set its "
        "vllm_address to one that other hosts reach: {said}.",
    ),
    (
        r"cannot connect to the docker daemon|is the docker daemon running",
        "This host cannot serve its models to others because Docker is not running on it; start it "
        "with `systemctl start docker` and read its log: {said}.",
    ),
    (
        r"no such image|unable to find image|no such object",
        "This host cannot serve its models to others because image {image} is not on it; pull it "
        "first: {said}.",
    ),
    (
        r"executable file not found|no such file or directory: unknown",
        "Image {image} has no python3, with which models are served to other hosts; use an image "
        "of vLLM: {said}.",
    ),
)
_OTHER_FAILURE = (
    "The container that serves models to other hosts did not begin to; run again, and read "
    "`journalctl -u docker` if it fails once more: {said}."
)


def _sentence(seed: Seed, errors: str) -> str:
    said = _last_line(errors)
    fitting = (text for pattern, text in _FAILURES if re.search(pattern, said, re.I))
    sentence = next(fitting, _OTHER_FAILURE)
    return sentence.format(said=said, port=seed.port, address=seed.address, image=seed.image)


def _last_line(errors: str) -> str:
    """Return what Docker said last that tells something."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("See ", "Run "))]
    return (telling or ["it said nothing"])[-1][:300].rstrip(".")
