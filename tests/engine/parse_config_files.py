# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Reads configuration files with vLLM's own parser; runs inside the engine image.

    python3 parse_config_files.py DIRECTORY

Every ``*.yaml`` goes through ``vllm serve --config``, up to where the engine would be built. Prints
one JSON object: file -> what is wrong with it; empty where every file was read as it is written.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser


def main(directory: str) -> int:
    parser = FlexibleArgumentParser(prog="vllm")
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(dest="subparser", required=True))
    files = sorted(Path(directory).glob("*.yaml"))
    problems = {file.name: problem for file in files if (problem := check(parser, command, file))}
    print(json.dumps({"files": len(files), "problems": problems}))
    return 0


def check(parser: argparse.ArgumentParser, command: ServeSubcommand, file: Path) -> str:
    """What is wrong with a file, or nothing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed = parser.parse_args(["serve", "--config", str(file)])
            command.validate(parsed)
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    except Exception as error:  # whatever the parser raises is what a person would see
        return f"{type(error).__name__}: {error}"
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    return "; ".join(
        filter(None, (differs(parsed, name, value) for name, value in written.items()))
    )


def differs(parsed: argparse.Namespace, name: str, value: Any) -> str:
    """A flag that the parser did not take as it is written, in words."""
    attribute = name.replace("-", "_")
    if value is True and not hasattr(parsed, attribute):
        attribute, value = attribute.removeprefix("no_"), False
    if not hasattr(parsed, attribute):
        return f"{name} is not read"
    read = getattr(parsed, attribute)
    if attribute == "served_model_name":
        value = [value]
    # JSON becomes an object of vLLM's own, whose construction is the check.
    if isinstance(value, Mapping) or (isinstance(value, str) and value.startswith("{")):
        return ""
    return "" if read == value else f"{name} is {value!r} and read as {read!r}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
