# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Every configuration file that a plan can become is read by the parser of the real vLLM.

Needs Docker and the lab's engine image (`make lab` builds it); one container without network.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _release
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import gpus, intents, models
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import as_json, plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Refusal

ROOT = Path(__file__).parents[2]
RELEASE = "0.32.0"
SECONDS = 300

SETTINGS = {
    "release": RELEASE,
    "image": "vllm/vllm-openai@sha256:" + "0" * 64,
    "listen_address": "127.0.0.1",
    "models": {model: {"commit": "c0", "directory": "/store/c0"} for model in models.models()},
}
# What people add, each on its own and beside a plan.
OPTIONS: tuple[Mapping[str, Any], ...] = (
    {},
    {"enforce-eager": True},
    {"enable-prefix-caching": False},
    {"kv-cache-dtype": "fp8"},
    {"kv-cache-memory-bytes": 2 << 30},
    {"compilation-config": {"cudagraph_mode": "FULL_DECODE_ONLY"}},
    {"cudagraph-capture-sizes": [1, 2, 4, 8]},
    {"speculative-config": {"method": "ngram", "num_speculative_tokens": 3}},
    {"moe-backend": "marlin", "attention-backend": "TRITON_ATTN"},
    {"default-chat-template-kwargs": {"reasoning_effort": "low"}},
    {"stream-interval": 4, "max-log-len": 100, "disable-access-log-for-endpoints": "/health"},
)


# GPUs whose plans take different turns.
OPTION_SETS = ("l4", "a100-80", "h100-80", "b200", "rtx5090", "gb10")
OPTION_MODELS = ("openai/gpt-oss-20b", "Qwen/Qwen3-8B")


def texts() -> Iterator[str]:
    """Every different configuration file: all plans, and options beside some of them."""
    plain = itertools.product(
        gpus.names(), (1, 2, 8), models.models(), intents.names(), OPTIONS[:1]
    )
    mixed = itertools.product(OPTION_SETS, (1, 4), OPTION_MODELS, intents.names(), OPTIONS)
    seen: set[str] = set()
    for name, count, model, intent, options in itertools.chain(plain, mixed):
        try:
            found = as_json(plan(gpus.gpu_set(name, count), model, intent, RELEASE, options))
        except Refusal:
            continue
        key = json.dumps([model, found["flags"]], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        instance = {"name": "engine", "model": model, "intent": intent, "options": dict(options)}
        built = _release.build(instance, SETTINGS, {**found, "in_use": ""})
        yield re.sub(r"this release is \w+", "this release is it", built["files"]["config.yaml"])


def image() -> str:
    """The engine image of the lab, or nothing where it is not there."""
    sys.path.insert(0, str(ROOT / "molecule" / "shared"))
    try:
        from engine_image import image as engine  # the lab's own folder
    finally:
        sys.path.pop(0)
    name: str = engine.name()
    if not shutil.which("docker"):
        return ""
    there = subprocess.run(
        ["docker", "image", "ls", "--quiet", name], capture_output=True, text=True, check=False
    )
    return name if there.stdout.strip() else ""


def test_vllm_reads_every_configuration_file_as_it_is_written(tmp_path: Path) -> None:
    engine = image()
    assert engine, "The lab's engine image is not in the local Docker; `make lab` builds it."
    distinct = sorted(set(texts()))
    for number, text in enumerate(distinct):
        (tmp_path / f"{number:04d}.yaml").write_text(text, encoding="utf-8")
    assert len(distinct) > 100
    command = ["docker", "run", "--rm", "--network", "none", "--label", "vllm.lab=shared"]
    command += ["--memory", "4g", "--cpus", "1", "--entrypoint", "python3"]
    command += ["--volume", f"{tmp_path}:/config:ro"]
    command += ["--volume", f"{ROOT / 'tests' / 'engine'}:/checks:ro"]
    command += [engine, "/checks/parse_config_files.py", "/config"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert json.loads(answer.stdout.splitlines()[-1]) == {"files": len(distinct), "problems": {}}
