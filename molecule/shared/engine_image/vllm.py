#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The `vllm` command of the image (pip's own would name the interpreter of the building host)."""

import sys

from vllm.entrypoints.cli.main import main

if __name__ == "__main__":  # vLLM spawns its processes, which import this file again
    sys.exit(main())
