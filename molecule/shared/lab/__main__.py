# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Commands of the lab: `python molecule/shared/lab --help`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

if not __package__:
    # Started by its directory: Python put that on the path, the package's name needs its parent.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab import doctor, engine, settings
from lab.error import LabError


def _say(line: str) -> None:
    print(line, flush=True)


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", text) or text == settings.SHARED:
        raise argparse.ArgumentTypeError(
            f"{text!r}: lower-case letters, digits and dashes, and not {settings.SHARED!r}"
        )
    return text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lab", description="Lab hosts for the demo and the tests."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser("doctor", help="say what this machine lacks, change nothing")
    look.add_argument("--index", action="store_true", help="also try the Python package index")
    commands.add_parser("engine", help="make a Docker Engine answer")
    commands.add_parser("build", help="build the images that are missing, start the registry")
    commands.add_parser("registry", help="start the registry and print its address")
    commands.add_parser("hub", help="start the hub of models and print its address and commits")
    commands.add_parser("vendor", help="start the vendors' repositories and print what they hold")
    start = commands.add_parser("up", help="create or start the hosts of a lab")
    start.add_argument("name", type=_name)
    start.add_argument("--hosts", default="", help=f"of {','.join(settings.HOSTS)}; see README")
    for command, text in (
        ("down", "remove the hosts of a lab and their volumes"),
        ("usage", "print memory and disk of a lab; exit 1 when over its limits"),
        ("address", "print the address of a host"),
    ):
        commands.add_parser(command, help=text).add_argument("name", type=_name)
    commands.choices["address"].add_argument("host", choices=list(settings.HOSTS))
    commands.add_parser("clean", help="remove all that any lab ever made on this machine")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "doctor":
        found = list(doctor.problems(arguments.index))
        for sentence in found:
            print(sentence, file=sys.stderr)
        return 1 if found else 0
    if arguments.command == "engine":
        _say(engine.ensure())
        return 0
    if arguments.command == "clean" and not engine.answers():
        _say("No Docker answers, so there is nothing to remove.")
        return 0
    client = engine.client()
    import docker.errors  # type: ignore[import-untyped,import-not-found,unused-ignore]

    try:
        return _run_with_docker(client, arguments)
    except docker.errors.APIError as error:
        raise LabError(f"Docker refused: {error.explanation or error}") from error


def _run_with_docker(client: Any, arguments: argparse.Namespace) -> int:
    from lab import cleaning, hosts, hub, images, registry, usage, vendor

    if arguments.command == "build":
        images.build(client, _say)
        _say(f"registry: {registry.ensure(client)}")
        images.remove_outdated(client)
    elif arguments.command == "registry":
        _say(registry.ensure(client))
    elif arguments.command == "hub":
        _say(json.dumps(hub.ensure(client)))
    elif arguments.command == "vendor":
        _say(json.dumps(vendor.ensure(client)))
    elif arguments.command == "up":
        chosen = hosts.choose(arguments.hosts)
        registry.ensure(client)
        hub.ensure(client)
        if any(settings.HOSTS[host].gpus for host in chosen):
            vendor.ensure(client)
            images.remove_outdated(client)
        hosts.up(client, arguments.name, chosen, _say)
    elif arguments.command == "down":
        hosts.down(client, arguments.name, _say)
    elif arguments.command == "address":
        _say(hosts.address(client, arguments.name, arguments.host))
    elif arguments.command == "clean":
        cleaning.clean(client, _say)
    else:
        memory, disk = usage.memory(client, arguments.name), usage.disk(client, arguments.name)
        _say(usage.line(memory, disk))
        return 0 if usage.within(memory, disk) else 1
    return 0


def main() -> int:
    """Run one command; a LabError becomes its sentence and exit status 1."""
    try:
        return _run(_arguments())
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
