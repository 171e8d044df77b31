# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""`python molecule/shared/engine_image COMMAND`: each returns at once when its work is done."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine_image import image, model, registry
from engine_image.commands import LabError, alone


def work(arguments: argparse.Namespace) -> str:
    if arguments.command == "build-image":
        return image.build()
    if arguments.command == "build-model":
        return str(model.build())
    return registry.push(arguments.registry)


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine_image", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build-image", help="build the image and print its name")
    commands.add_parser("build-model", help="fill the models volume and print the folder")
    for name, text in {
        "push": "build and push the image unless the registry has it, and print its digest",
        "digest": "print the digest in the registry; status 1 if it is not there",
    }.items():
        commands.add_parser(name, help=text).add_argument("--registry", default=registry.DEFAULT)
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        if arguments.command == "digest":
            result = registry.digest(arguments.registry)
        else:
            with alone(image.CACHE):
                result = work(arguments)
    except LabError as error:
        print(f"engine_image: {error}", file=sys.stderr)
        return 1
    if result is None:
        return 1
    print(result)
    print(f"{arguments.command}: {time.monotonic() - start:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
