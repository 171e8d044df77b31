# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a starting vLLM is doing, read from its log.

vLLM offers no interface for this: until its port opens, the log is all there is. The texts are
those of the sources of vLLM 0.12.0 and 0.32.0; where they differ, both patterns are in the table.
A text that a later release words differently costs a line of display, never a start.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, replace

STARTING = "starting"
DOWNLOADING = "downloading weights"
LOADING = "loading weights"
COMPILING = "compiling"
CAPTURING = "capturing graphs"
OPENING = "starting the server"
SERVING = "serving"

PHASES = (STARTING, DOWNLOADING, LOADING, COMPILING, CAPTURING, OPENING, SERVING)


@dataclass(frozen=True)
class Progress:
    """How far a start is: `done` of `total` steps (shards, graphs), GiB and seconds, if said."""

    phase: str = STARTING
    done: int | None = None
    total: int | None = None
    gib: float | None = None
    seconds: float | None = None


class Pattern(t.NamedTuple):
    """A text of the log, the phase that it belongs to, and the releases it was read from.

    The groups `done`, `total`, `gib` and `seconds` give the numbers of Progress.
    """

    phase: str
    regex: t.Pattern[str]
    releases: str


def _pattern(phase: str, regex: str, releases: str = "0.12.0, 0.32.0") -> Pattern:
    return Pattern(phase, re.compile(regex), releases)


# The first pattern that matches a line is taken.
PATTERNS: tuple[Pattern, ...] = (
    # vllm/v1/worker/gpu_model_runner.py, cpu_model_runner.py. Weights in a local directory are
    # not downloaded; those of a Hugging Face id are, silently (the bars are disabled there).
    _pattern(LOADING, r"Starting to load model /"),
    _pattern(DOWNLOADING, r"Starting to load model "),
    # vllm/model_executor/model_loader/weight_utils.py
    _pattern(LOADING, r"Time spent downloading weights for .*: (?P<seconds>[\d.]+) seconds"),
    _pattern(LOADING, r"Checkpoint size: (?P<gib>[\d.]+) GiB", "0.32.0"),
    _pattern(
        LOADING,
        r"[Ll]oading [\w ]*(?:shards|Streamer|loader)(?: \(eager\))?:\s+\d+% Completed"
        r" \| (?P<done>\d+)/(?P<total>\d+)",
    ),
    _pattern(LOADING, r"Loading weights took (?P<seconds>[\d.]+) seconds"),
    # vllm/v1/worker/gpu_model_runner.py; 0.32.0 rounds the GiB
    _pattern(
        LOADING, r"Model loading took (?P<gib>[\d.]+) GiB(?: memory)? and (?P<seconds>[\d.]+) s"
    ),
    # vllm/compilation/backends.py, monitor.py, decorators.py
    _pattern(COMPILING, r"Using cache directory: .* for vLLM's torch\.compile"),
    _pattern(COMPILING, r"Dynamo bytecode transform time: (?P<seconds>[\d.]+) s"),
    _pattern(COMPILING, r"Compiling a graph for .* takes (?P<seconds>[\d.]+) s"),
    _pattern(COMPILING, r"Directly load the compiled graph"),
    _pattern(COMPILING, r"Directly load AOT compilation"),
    _pattern(COMPILING, r"Starting torch\.compile", "0.32.0"),
    _pattern(COMPILING, r"torch\.compile (?:takes|took) (?P<seconds>[\d.]+) s"),
    # vllm/v1/worker/cpu_model_runner.py, gpu_worker.py
    _pattern(COMPILING, r"Warming up model for the compilation"),
    _pattern(COMPILING, r"Compile and warming up model for size"),
    # vllm/v1/worker/gpu_model_runner.py, gpu/cudagraph_utils.py: a bar of tqdm
    _pattern(
        CAPTURING,
        r"Capturing CUDA graphs(?: \([^)]*\))?:.*?\|\s*(?P<done>\d+)/(?P<total>\d+)",
    ),
    _pattern(CAPTURING, r"Capturing CUDA graphs"),
    _pattern(
        CAPTURING,
        r"Graph capturing finished in (?P<seconds>[\d.]+) secs, took (?P<gib>[\d.]+) GiB",
    ),
    # vllm/v1/engine/core.py: the engine is done, the web server is not yet
    _pattern(
        OPENING,
        r"init engine \(profile, create kv cache, warmup model\) took (?P<seconds>[\d.]+) s",
    ),
    # uvicorn, the web server in vLLM
    _pattern(SERVING, r"Application startup complete"),
)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def pieces_of(message: str) -> list[str]:
    """Return the lines of one log message: bars are redrawn with carriage returns in one line."""
    return [
        piece
        for piece in re.split(r"[\r\n]+", _COLOUR.sub("", message.replace("\x1b[A", "")))
        if piece.strip()
    ]


def advance(progress: Progress, line: str) -> Progress:
    """Return `progress` after `line`.

    A start only goes forward: what several workers, or a draft model that is loaded later, say
    of an earlier phase changes nothing.
    """
    for pattern in PATTERNS:
        match = pattern.regex.search(line)
        if match is None:
            continue
        if PHASES.index(pattern.phase) < PHASES.index(progress.phase):
            return progress
        if pattern.phase != progress.phase:
            progress = Progress(pattern.phase)
        groups = {name: text for name, text in match.groupdict().items() if text is not None}
        numbers: dict[str, t.Any] = {
            name: int(text) if name in ("done", "total") else float(text)
            for name, text in groups.items()
        }
        return replace(progress, **numbers)
    return progress


def phase_of(lines: t.Iterable[str]) -> Progress:
    """Return how far the start is whose log so far is `lines`, oldest first."""
    progress = Progress()
    for line in lines:
        for piece in pieces_of(line):
            progress = advance(progress, piece)
    return progress


# What vLLM says of its memory, with the releases that each text was read from. The CPU engine has
# no profiling and tells only what it was given (vllm/v1/worker/cpu_worker.py).
_FIGURES: tuple[tuple[t.Pattern[str], str], ...] = (
    (re.compile(r"Model loading took (?P<weights_gib>[\d.]+) GiB"), "0.10.2 to 0.33.0"),
    (re.compile(r"Available KV cache memory: (?P<kv_gib>-?[\d.]+) GiB"), "0.10.2 to 0.33.0"),
    (
        re.compile(r"Explicitly set \((?P<kv_gib>[\d.]+)/[\d.]+\) GiB for KV cache"),
        "0.26.0 to 0.33.0, CPU",
    ),
    (re.compile(r"KV cache size: (?P<kv_tokens>[\d,]+) tokens"), "0.10.2 to 0.33.0"),
    (
        re.compile(
            r"Maximum concurrency for (?P<max_model_len>[\d,]+) tokens per request:"
            r" (?P<max_concurrency>[\d.]+)x"
        ),
        "0.10.2 to 0.33.0; one line with the size from 0.28.0",
    ),
)
_COUNTS = ("kv_tokens", "max_model_len")

# Whether torch.compile ran or found its cache, vllm/compilation/backends.py and decorators.py. The
# end of the texts: "for dynamic shape takes 9.90 s" up to 0.12.0, "for compile range (1, 8192)
# takes 9.90 s" from 0.13.0; "Directly load AOT compilation" came with 0.11.1. From 0.32.0 on the
# name of the compiled part may come before them, in brackets.
_COMPILED = re.compile(r"Compiling a graph for (?:dynamic shape|shape|compile range)\b")
_LOADED = re.compile(r"Directly load (?:the compiled graph\(s\) for|AOT compilation from path)\b")


def figures_of(lines: t.Iterable[str]) -> dict[str, float | int]:
    """Return what a log tells of memory: `weights_gib`, `kv_gib`, `kv_tokens`, `max_model_len`,
    `max_concurrency`, and `compiled`; what it does not tell has no key.

    Every tensor parallel worker tells its own: of the KV cache the least counts, since vLLM gives
    all of them that many blocks, and of the weights the most. `compiled` is true where one of them
    compiled a graph, and false where all graphs came from the cache.
    """
    figures: dict[str, float | int] = {}
    for line in lines:
        if _COMPILED.search(line):
            figures["compiled"] = True
        elif _LOADED.search(line):
            figures.setdefault("compiled", False)
        for pattern, _releases in _FIGURES:
            match = pattern.search(line)
            for name, text in match.groupdict().items() if match else ():
                plain = text.replace(",", "")
                value = int(plain) if name in _COUNTS else float(plain)
                choose = max if name == "weights_gib" else min
                figures[name] = choose(value, figures.get(name, value))
    return figures


class PhaseTime(t.NamedTuple):
    """A phase and how long it took (or has taken so far), in seconds."""

    phase: str
    seconds: float


def phases_of(
    entries: t.Iterable[tuple[float, str]], started: float, now: float
) -> tuple[Progress, list[PhaseTime]]:
    """Return how far a start is, and its phases with their durations.

    `entries` are log messages with their times, `started` is when the start began and `now` the
    present, all in seconds of one clock. `serving` ends the start and has no duration.
    """
    progress = Progress()
    begun = [(progress.phase, started)]
    for moment, message in entries:
        for piece in pieces_of(message):
            progress = advance(progress, piece)
        if progress.phase != begun[-1][0]:
            begun.append((progress.phase, moment))
    ends = [moment for _phase, moment in begun[1:]] + [now]
    times = [
        PhaseTime(phase, round(max(0.0, end - start), 1))
        for (phase, start), end in zip(begun, ends)
        if phase != SERVING
    ]
    return progress, times
