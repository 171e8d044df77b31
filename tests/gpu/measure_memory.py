# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What vLLM says about a GPU's memory, for a list of flag sets, one start after the other.

    python3 tests/gpu/measure_memory.py RUNS.json RESULTS.json --logs LOGS

Run by the Python that has vLLM. RUNS.json is a list; only `id` and `model` must be given:

    [{"id": "20b-8-2048", "model": "/models/gpt-oss-20b", "graphs": true,
      "args": ["--max-num-seqs", "8", "--max-num-batched-tokens", "2048"],
      "env": {"VLLM_USE_FLASHINFER_SAMPLER": "0"}}]

Each run is `vllm serve` with dummy weights, ended as soon as the size of its KV cache is logged
(with `graphs`: as soon as the CUDA graphs are captured). Nothing is served. RESULTS.json is
written after every run, and runs whose id it already holds are skipped, so a stopped list goes on
where it ended; take an entry out to measure it again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

GIB = 1 << 30
COMMON = ("--load-format", "dummy", "--host", "127.0.0.1", "--port", "8000")
SURROUNDINGS = {
    "VLLM_LOGGING_LEVEL": "DEBUG",  # the breakdown of the profiling is a debug line
    "VLLM_WORKER_MULTIPROC_METHOD": "fork",  # the engine's process need not import vLLM again
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
}

WAITING_SERVER = """
import sys
import vllm.entrypoints.cli.serve, vllm.entrypoints.openai.api_server, vllm.v1.engine.core
from vllm.entrypoints.cli.main import main
sys.argv[0] = "vllm"
sys.stdin.readline()
main()
"""
"""Imports cost a quarter of a minute and no GPU memory: they happen during the run before."""

FIGURES: Mapping[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "total_gib": (r"worker init memory snapshot: .*?total_memory=([\d.]+)GiB", min),
    "free_gib": (r"Initial free memory: ([\d.]+) GiB", min),
    "util": (r"Requested memory: ([\d.]+) \(util\)", max),
    "requested_gib": (r"Requested memory: .*\(util\), ([\d.]+) GiB", min),
    "weights_gib": (r"Model loading took ([\d.]+) GiB", max),
    "activation_gib": (r"torch peak memory increase: ([\d.]+)GiB", max),
    "non_torch_gib": (r"non-torch forward increase memory: (-?[\d.]+)GiB", max),
    "cudagraph_estimate_gib": (r"Estimated CUDA graph memory: (-?[\d.]+) GiB", max),
    "cudagraph_gib": (r"Graph capturing finished in \d+ secs, took (-?[\d.]+) GiB", max),
    "avail_gib": (r"Available KV cache memory: (-?[\d.]+) GiB", min),
    "tokens": (r"GPU KV cache size: ([\d,]+) tokens", min),
    "concurrency": (r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x", min),
}
"""Result field: how vLLM (0.26.0) logs it, and which one counts when several workers do."""

WORDS: Mapping[str, str] = {
    "runner": r"Using (V2) Model Runner",
    "attention": r"Using (?:AttentionBackendEnum\.)?([A-Z_]+)(?: attention)? backend\b",
    "flash_attention": r"Using FlashAttention version (\d)",
    "moe": r"Using '?(\w+)'? (?:Mxfp4|Unquantized) MoE backend",
    "sampler": r"Using (FlashInfer) for top-p",
    "graphs": r"Profiling CUDA graph memory: ([^\n]+)",
    "compiled": r"(Compiling a graph) for compile range",
}
DEFAULT_WORDS = {"runner": "V1", "sampler": "native"}
"""What no line means."""


class Run(TypedDict, total=False):
    """One start of vLLM; see the top of this file."""

    id: str
    model: str
    args: list[str]
    env: dict[str, str]
    graphs: bool


def read_log(text: str) -> dict[str, Any]:
    """Figures and words of one start's log; a line that is not there gives None."""
    result: dict[str, Any] = {}
    for name, (pattern, combine) in FIGURES.items():
        found = [float(value.replace(",", "")) for value in re.findall(pattern, text)]
        result[name] = combine(found) if found else None
    if result["tokens"] is not None:
        result["tokens"] = int(result["tokens"])
    for name, pattern in WORDS.items():
        match = re.search(pattern, text)
        result[name] = match[1].strip() if match else DEFAULT_WORDS.get(name)
    result["compiled"] = result["compiled"] is not None
    match = re.search(FIGURES["avail_gib"][0], text)
    if match and len(match[1].partition(".")[2]) > 6:  # only where vLLM was made to print it so
        result["avail_bytes"] = round(result["avail_gib"] * GIB)
    return result


def error_line(text: str) -> str:
    """The line that says best why a start failed."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w*Error\b", line)]
    causes = [line for line in lines if "See root cause" not in line]
    return (causes or lines or [text.strip().rpartition("\n")[2]])[-1][-400:]


def gpus() -> list[dict[str, Any]]:
    """Name, driver and memory in use (MiB) of each GPU in CUDA_VISIBLE_DEVICES, or of all."""
    query = ["--query-gpu=name,driver_version,memory.used", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    output = subprocess.run(
        ["nvidia-smi", *query, *(["--id", visible] if visible else [])],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows = [line.split(", ") for line in output.strip().splitlines()]
    return [{"gpu": name, "driver": driver, "used_mib": int(used)} for name, driver, used in rows]


class Server:
    """`vllm serve`, held back after its imports until :meth:`go`."""

    def __init__(self, run: Run, logs: Path) -> None:
        self.run = run
        self._log = logs / f"{run['id']}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", WAITING_SERVER, *self.command()[1:]],
                env={**os.environ, **SURROUNDINGS, **run.get("env", {})},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def command(self) -> list[str]:
        return ["vllm", "serve", self.run["model"], *COMMON, *self.run.get("args", [])]

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died before; its log says why
            self._process.stdin.write(b"\n")
            self._process.stdin.close()

    def wait(self, seconds: float) -> str:
        """Until all that is wanted is logged. Why it is not, or an empty string."""
        last = "cudagraph_gib" if self.run.get("graphs") else "concurrency"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = self._process.poll() is not None
            text = self.log()
            if re.search(FIGURES[last][0], text):
                return ""
            if ended:
                return error_line(text)
            time.sleep(0.3)
        return f"not ready after {seconds:.0f} s"

    def kill(self) -> None:
        """End the server and all its children, which share its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def wait_for_memory(used_mib: Sequence[int], seconds: float = 60) -> None:
    """Until the GPUs hold no more than before. Raises TimeoutError: somebody else uses them."""
    end = time.monotonic() + seconds
    while any(gpu["used_mib"] > used + 64 for gpu, used in zip(gpus(), used_mib, strict=True)):
        if time.monotonic() > end:
            raise TimeoutError(f"GPU memory is still in use {seconds:.0f} s after a run")
        time.sleep(0.3)


def measure(server: Server, limit: float) -> dict[str, Any]:
    """One run from `go` to the last line wanted, and what its log says."""
    started = time.monotonic()
    server.go()
    error = server.wait(limit)
    seconds = round(time.monotonic() - started, 1)
    # Without graphs the KV cache may or may not be there yet: no figure.
    used = max(gpu["used_mib"] for gpu in gpus()) if server.run.get("graphs") else None
    server.kill()
    result = {
        "id": server.run["id"],
        "model": Path(server.run["model"]).name,
        "flags": server.run.get("args", []),
        "env": server.run.get("env", {}),
        **read_log(server.log()),
        "used_at_end_mib": used,
        "seconds": seconds,
    }
    return {**result, "error": error} if error else result


def measured(
    runs: Sequence[Run], logs: Path, limit: float, stop_after: float
) -> Iterator[dict[str, Any]]:
    """Results of the runs one by one; none is begun later than `stop_after` seconds."""
    began = time.monotonic()
    before = [gpu["used_mib"] for gpu in gpus()]
    upcoming: Server | None = None
    try:
        for number, run in enumerate(runs):
            if time.monotonic() - began > stop_after:
                return
            current = upcoming or Server(run, logs)
            upcoming = None
            try:
                if number + 1 < len(runs):
                    upcoming = Server(runs[number + 1], logs)
                yield measure(current, limit)
            finally:
                current.kill()
            wait_for_memory(before)
    finally:
        if upcoming:
            upcoming.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, help="JSON list of runs")
    parser.add_argument("results", type=Path, help="JSON list of results, added to")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of vLLM's logs")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one run")
    parser.add_argument("--stop-after", type=float, default=1e9, help="begin no run after (s)")
    arguments = parser.parse_args()
    arguments.logs.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    if arguments.results.exists():
        results = json.loads(arguments.results.read_text())
    done = {result["id"] for result in results}
    runs = [run for run in json.loads(arguments.runs.read_text()) if run["id"] not in done]
    machine = {
        **{key: value for key, value in gpus()[0].items() if key != "used_mib"},
        "torch": importlib.metadata.version("torch"),
        "release": importlib.metadata.version("vllm"),
    }
    for result in measured(runs, arguments.logs, arguments.limit, arguments.stop_after):
        results.append({**machine, **result})
        arguments.results.write_text(json.dumps(results, indent=2) + "\n")
        shown = ("id", "activation_gib", "avail_gib", "tokens", "seconds", "error")
        print({key: results[-1].get(key) for key in shown}, flush=True)


if __name__ == "__main__":
    main()
