# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The distribution's nginx on loopback, with a configuration that the role rendered.

nginx runs in a mount namespace of its own, where the directories that it knows are those of the
rendering: not one path of the configuration is changed, and nothing of the machine's is touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engines import PATIENCE, Engine, Loop, Request
from http_client import Answer, Connection, request
from rendering import ALICE, MODEL, Rendering

CHAT = "/v1/chat/completions"

OWN_DIRECTORIES = ("/etc/nginx", "/run", "/var/lib", "/var/log/nginx")

# Standard input ends with the tests, however they end. nginx may open as many files as the machine
# allows, and runs as its unit runs it: only then can a second one take over.
ENTER = f"""set -eu
for directory in {" ".join(OWN_DIRECTORIES)}; do
    mount --bind "$0$directory" "$directory"
done
ulimit -n "$(ulimit -Hn)"
sed -n 's/^ExecStartPre=//p' "$1" | sh -eu
/usr/sbin/nginx -g 'daemon on; master_process on;'
cat
/usr/sbin/nginx -s stop || kill "$(cat /run/nginx.pid)"
"""


class Edge:
    """nginx with its engines, from ``start`` to ``stop``."""

    def __init__(self, rendering: Rendering, loop: Loop, tls: ssl.SSLContext | None = None) -> None:
        self.rendering = rendering
        self.port = rendering.port
        self.tls = tls
        self._tree = rendering.tree.with_name(f"{rendering.tree.name}-run")
        self._output = self._tree / "output"
        self._process: subprocess.Popen[bytes] | None = None
        self._expected = 0
        self.engines = [
            Engine(loop, model, port)
            for model, port in zip(rendering.variant.engines, rendering.engine_ports, strict=True)
        ]

    # Its life.

    def start(self) -> None:
        """
        :raises RuntimeError: nginx does not serve; the message says why.
        """
        for directory in (*OWN_DIRECTORIES, "/var/lib/nginx"):
            (self._tree / directory[1:]).mkdir(parents=True, exist_ok=True)
        for files in ("/etc/nginx", self.rendering.tree / "etc/nginx"):
            shutil.copytree(files, self._tree / "etc/nginx", dirs_exist_ok=True)
        for engine in self.engines:
            engine.start()
        unit = self.rendering.tree / "etc/systemd/system/nginx.service.d/vllm.conf"
        command = ["unshare", "--mount", "--", "sh", "-c", ENTER, str(self._tree), str(unit)]
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A keyboard interrupt is for the tests, which then end nginx.
                start_new_session=True,
            )
        self._process = process
        self.wait_until(
            lambda: process.poll() is not None or (self._runs() and self._listens()), "nginx starts"
        )
        if process.poll() is not None:
            self.stop()
            said = self._output.read_text()
            if "unshare:" in said or "mount:" in said:
                raise RuntimeError(
                    "nginx needs a mount namespace of its own, and that needs root with "
                    f"CAP_SYS_ADMIN (unshare --mount): {said}"
                )
            raise RuntimeError(f"nginx did not start with {self.rendering.name!r}: {said}")

    def stop(self) -> None:
        """End it and its engines; no stream is waited for."""
        if self._process is not None:
            # Its standard input ends.
            self._process.communicate(timeout=PATIENCE)
            self.wait_until(lambda: not self._runs(), "nginx ends")
        self._process = None
        for engine in self.engines:
            engine.stop()

    def kill(self) -> None:
        """End it as a power cut does."""
        # The master first: it replaces workers that die.
        pids = [self.master(), *self.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.wait_until(lambda: not any(map(_is_alive, pids)), "nginx is dead")
        self.stop()

    def master(self) -> int:
        return int((self._tree / "run/nginx.pid").read_text())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.master(), number)

    def forget(self) -> None:
        """Make it as it was at the start, for the next test."""
        self.expect_errors()
        for engine in self.engines:
            engine.reset()
            engine.start()

    def reload(self, rendering: Rendering | None = None) -> None:
        """Take over a configuration as the role does, and wait until new workers serve."""
        if rendering is not None:
            shutil.copytree(
                rendering.tree / "etc/nginx", self._tree / "etc/nginx", dirs_exist_ok=True
            )
        before = self.workers()
        self.signal(signal.SIGHUP)
        text = (self._tree / "etc/nginx/nginx.conf").read_text()
        [count] = re.findall(r"^worker_processes (\d+);", text, re.MULTILINE)
        self.wait_until(
            lambda: len(self.workers() - before) == int(count), "nginx starts new workers"
        )
        revision = (self._tree / "etc/nginx/vllm/healthz.conf").read_text()
        self.wait_until(
            lambda: self.ask("GET", "/healthz").body.decode().strip() in revision,
            "nginx runs the new configuration",
        )
        # Until then a former worker may take a new client.
        self.wait_until(lambda: all(map(_takes_nobody, before)), "former workers take nobody")

    def take_over(self) -> None:
        """Start nginx's program anew beside the running one, which ends with its last stream."""
        old = self.master()
        self.signal(signal.SIGUSR2)
        former = self._tree / "run/nginx.pid.oldbin"
        self.wait_until(
            lambda: former.exists() and self._runs() and self.master() != old,
            "a second nginx starts",
        )
        self.wait_until(lambda: bool(self.workers()), "the second nginx has workers")
        os.kill(old, signal.SIGQUIT)

    def workers(self) -> set[int]:
        pid = self.master()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return {int(child) for child in children.split()}

    def _runs(self) -> bool:
        try:
            return _is_alive(self.master())
        except (FileNotFoundError, ValueError):
            return False

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    # What is asked of it.

    def connect(self) -> Connection:
        return Connection(self.port, self.tls)

    def send(self, content: bytes) -> Answer:
        """The answer to bytes that need be no proper request."""
        with self.connect() as connection:
            return connection.ask(content)

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        key: str | None = ALICE,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to a request of Alice, or of another key's client."""
        with self.connect() as connection:
            connection.send(request(method, target, body, key=key, headers=headers))
            return connection.receive(method)

    def chat(self, key: str | None = ALICE, **more: Any) -> Answer:
        return self.ask("POST", CHAT, chat(**more), key=key)

    # What it and the engines have seen.

    def seen(self) -> list[Request]:
        """What any engine was asked."""
        return [one for engine in self.engines for one in engine.requests]

    def expect_errors(self) -> None:
        """What is in the log by now is as it should be."""
        self._expected = len(self.error_log())

    def unexpected_errors(self) -> list[str]:
        levels = ("[emerg]", "[alert]", "[crit]")
        lines = self.error_log()[self._expected :].splitlines()
        return [line for line in lines if any(level in line for level in levels)]

    def error_log(self) -> str:
        path = self._tree / "var/log/nginx/error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def access_log(self) -> Iterator[dict[str, Any]]:
        for line in (self._tree / "var/log/nginx/access.log").read_text().splitlines():
            yield json.loads(line)

    def logged(self, request_id: str | None) -> dict[str, Any]:
        """The entry of one request; it is written after the answer."""
        assert request_id, "the answer has no X-Request-Id"

        def entries() -> list[dict[str, Any]]:
            return [one for one in self.access_log() if one["request_id"] == request_id]

        self.wait_until(lambda: bool(entries()), f"request {request_id} is logged")
        assert len(entries()) == 1
        return entries()[0]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """
        :raises RuntimeError: it did not come true.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not within {PATIENCE:.0f} s\n{self.error_log()}")
            time.sleep(0.01)

    def path(self, path: str) -> Path:
        """Where a path of nginx is on this side of its namespace."""
        return self._tree / path.lstrip("/")


def chat(model: str = MODEL, **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _takes_nobody(worker: int) -> bool:
    """Whether a worker has ended or has only its streams left, which its title says."""
    try:
        return b"shutting down" in Path(f"/proc/{worker}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
