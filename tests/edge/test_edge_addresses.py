# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The role itself moves a running nginx from one address to all at the same port, and back.

It runs with a systemctl that stands in, in the mount namespace of that nginx.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import engines
import pytest
from edge_server import CHAT, chat
from http_client import Connection, request, tokens_of
from rendering import ALICE, MODEL, free_ports

ROOT = Path(__file__).resolve().parents[2]
ONE, EVERY = "127.0.0.1", "0.0.0.0"
ELSEWHERE = "127.0.0.2"
"""Answers only where nginx listens on every address."""
KILLED = -signal.SIGKILL

# Standard input ends with the tests, however they end.
ENTER = """set -eu
for directory in /etc/nginx /etc/systemd/system /run /var/lib/nginx /var/log/nginx; do
    mkdir -p "$directory"
    mount --bind "$0$directory" "$directory"
done
echo entered
cat > "$0/end"
test ! -s /run/nginx.pid || /usr/sbin/nginx -s stop
"""

# Knows nginx.service, and ends the run that asked for a reload where a test wants that.
SYSTEMCTL = """#!/bin/sh
running() { test -s /run/nginx.pid && kill -0 "$(cat /run/nginx.pid)" 2>/dev/null; }
active() { if running; then echo active; else echo inactive; fi; }
case "$1" in
show)
    shift
    for unit; do
        case "$unit" in
        nginx.service) printf 'Names=%s\\nId=%s\\nLoadState=loaded\\nActiveState=%s\\n' \\
            "$unit" "$unit" "$(active)"; printf 'UnitFileState=enabled\\nCanReload=yes\\n\\n' ;;
        -*) ;;
        *) printf 'Names=%s\\nId=%s\\nLoadState=not-found\\n\\n' "$unit" "$unit" ;;
        esac
    done ;;
is-enabled) echo enabled ;;
is-active) active; running ;;
start) running || /usr/sbin/nginx ;;
reload)
    /usr/sbin/nginx -s reload
    if test -e /run/kill; then kill -9 "$(cat /run/kill)"; rm /run/kill; sleep 5; fi ;;
--version) echo 'systemd 252' ;;
esac
"""

PLAY = """
- hosts: gpu_hosts
  gather_facts: false
  tasks:
    - name: Know the defaults of the role
      ansible.builtin.import_role:
        name: baremetal.vllm.edge
        tasks_from: publish.yml
    - name: Read the host as preflight does
      baremetal.vllm.host_state:
        packages: [certbot, nginx, libnginx-mod-http-js, openssl]
        services: [nginx-vllm-acme.service, nginx.service]
        paths: [/etc/nginx/nginx.conf.distribution, /etc/nginx/vllm/challenges.conf,
                /etc/letsencrypt/renewal-hooks/deploy/nginx-vllm]
        read: [/etc/nginx/vllm/in_force]
        ports: ["{{ edge_port }}"]
      register: __preflight_host_state
    - name: Bring the edge
      ansible.builtin.include_role:
        name: baremetal.vllm.edge
"""


class Host:
    """A host with an edge on one port, and an engine behind it."""

    def __init__(self, directory: Path, loop: engines.Loop) -> None:
        ports = free_ports()
        self.port = next(ports)
        self.engine = engines.Engine(loop, MODEL, next(ports))
        self._directory = directory
        (directory / "etc/systemd/system").mkdir(parents=True)
        for path in ("run/systemd/system", "var/lib/nginx", "var/log/nginx", "bin"):
            (directory / path).mkdir(parents=True)
        shutil.copytree("/etc/nginx", directory / "etc/nginx", symlinks=True)
        systemctl = directory / "bin/systemctl"
        systemctl.write_text(SYSTEMCTL)
        systemctl.chmod(0o755)
        (directory / "play.yml").write_text(PLAY)
        endpoint = {"name": MODEL, "served_name": MODEL, "address": ONE, "adapters": []}
        own = {
            **{"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"},
            **{"edge_port": self.port, "edge_api_keys": {"alice": ALICE}, "edge_plain_http": True},
            "__vllm_plan": {"endpoints": [endpoint | {"port": self.engine.port}]},
        }
        inventory = {"gpu_hosts": {"hosts": {"edge": own}}}
        (directory / "hosts.yml").write_text(json.dumps(inventory))
        self.engine.start()
        self._namespace = subprocess.Popen(
            ["unshare", "--mount", "--", "sh", "-c", ENTER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._namespace.stdout is not None
        assert self._namespace.stdout.readline() == b"entered\n"

    def stop(self) -> None:
        self._namespace.communicate(timeout=engines.PATIENCE)
        self.engine.stop()

    def run(self, address: str, *arguments: str, killed: bool = False) -> tuple[int, str]:
        """Run the role; return its status and what it printed.

        :param killed: end it when it has asked for its first reload.
        """
        directory = self._directory
        command = [
            *("nsenter", f"--target={self._namespace.pid}", "--mount", "--"),
            *(str(Path(sys.executable).with_name("ansible-playbook")), "-i"),
            *(str(directory / "hosts.yml"), str(directory / "play.yml")),
            *("-e", f"edge_listen_address={address}", *arguments),
        ]
        environment = os.environ | {
            "PATH": f"{directory / 'bin'}:/usr/sbin:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_HOME": str(directory),
            "ANSIBLE_NOCOLOR": "1",
        }
        with (directory / "output").open("w+") as output:
            # nsenter becomes what it runs.
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
            if killed:
                (directory / "run/kill").write_text(str(process.pid))
            process.wait(timeout=240)
            output.seek(0)
            return process.returncode, output.read()

    def master(self) -> int:
        return int((self._directory / "run/nginx.pid").read_text())

    def runs(self) -> str:
        """Which configuration nginx says that it runs."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self._directory / "run/nginx-vllm-status.sock"))
            sock.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return sock.makefile().read().rpartition("\n\n")[2]

    def listens(self, address: str) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((address, self.port)) == 0


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """It serves on one address, before each test and after."""
    loop = engines.Loop()
    # Not pytest's: the paths of Unix sockets must be short.
    with tempfile.TemporaryDirectory(prefix="edge-") as path:
        served = Host(Path(path), loop)
        try:
            code, output = served.run(ONE)
            assert code == 0, output
            yield served
        finally:
            served.stop()
            loop.close()


def changed(output: str) -> int:
    return int(output.rpartition("changed=")[2].split()[0])


def assert_moved(host: Host, address: str) -> None:
    assert host.listens(ONE)
    assert host.listens(ELSEWHERE) == (address == EVERY)


def test_one_address_becomes_all_and_one_again_under_a_stream(host: Host) -> None:
    master = host.master()
    host.engine.behaviour = engines.on_demand
    body = request("POST", CHAT, chat(stream=True), key=ALICE)
    with Connection(host.port) as connection, connection.stream(body) as response:
        tokens = tokens_of(iter(response.readline, b""))
        for address, other in ((EVERY, ONE), (ONE, EVERY)):
            assert_moved(host, other)
            host.engine.emit("more")
            assert next(tokens) == "more"

            code, output = host.run(address, "--check")
            assert code == 0, output
            assert "nginx would let go of" in " ".join(output.split())
            assert_moved(host, other)

            code, output = host.run(address)
            assert code == 0, output
            assert_moved(host, address)

            code, output = host.run(address)
            assert (code, changed(output)) == (0, 0), output
        host.engine.emit("last", None)
        assert list(tokens) == ["last"]
    assert host.master() == master


def test_a_run_killed_between_the_two_reloads_is_completed_by_the_next(host: Host) -> None:
    assert_moved(host, ONE)
    code, output = host.run(EVERY, killed=True)
    assert code == KILLED, output
    wait_until(lambda: not host.listens(ONE))
    assert "ok none" in host.runs()
    code, output = host.run(EVERY)
    assert code == 0, output
    assert_moved(host, EVERY)


def wait_until(condition: Callable[[], bool]) -> None:
    for _turn in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true")
