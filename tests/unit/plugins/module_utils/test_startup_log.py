# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a starting vLLM is doing, read from its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._startup_log import (
    CAPTURING,
    COMPILING,
    DOWNLOADING,
    LOADING,
    OPENING,
    SERVING,
    STARTING,
    Progress,
    figures_of,
    phase_of,
    phases_of,
    pieces_of,
)

# A real start of vLLM 0.32.0 on a CPU with a local model, shortened: no routes, no environment.
CPU_START = (Path(__file__).parent / "data" / "vllm-0.32.0-cpu-start.txt").read_text().splitlines()

WORKER = "(Worker_TP0 pid=99) INFO 11-21 05:06:50 "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("(APIServer pid=1) INFO [model.py:733] Resolved architecture: Gpt", Progress(STARTING)),
        (
            WORKER + "[gpu_model_runner.py:5040] Starting to load model openai/gpt-oss-20b...",
            Progress(DOWNLOADING),
        ),
        (
            WORKER + "[gpu_model_runner.py:5040] Starting to load model /srv/models/gpt-oss-20b...",
            Progress(LOADING),
        ),
        (
            WORKER + "[weight_utils.py:487] Time spent downloading weights for openai/gpt-oss-20b: "
            "62.125000 seconds",
            Progress(LOADING, seconds=62.125),
        ),
        (
            WORKER + "[weight_utils.py:1108] Filesystem type for checkpoints: EXT4. Checkpoint "
            "size: 12.82 GiB. Available RAM: 120.87 GiB.",
            Progress(LOADING, gib=12.82),
        ),
        (
            "Loading safetensors checkpoint shards:  33% Completed | 1/3 [00:01<00:03,  1.6s/it]",
            Progress(LOADING, done=1, total=3),
        ),
        (
            "Loading safetensors checkpoint shards (eager):   0% Completed | 0/3 [00:00<?, ?it/s]",
            Progress(LOADING, done=0, total=3),
        ),
        (
            "Multi-thread loading shards:  67% Completed | 2/3 [00:01<00:03,  1.6s/it]",
            Progress(LOADING, done=2, total=3),
        ),
        (
            WORKER + "[default_loader.py:309] Loading weights took 4.51 seconds",
            Progress(LOADING, seconds=4.51),
        ),
        pytest.param(
            WORKER + "[gpu_model_runner.py:3549] Model loading took 13.4012 GiB memory and "
            "5.234567 seconds",
            Progress(LOADING, gib=13.4012, seconds=5.234567),
            id="model loaded, 0.12.0",
        ),
        pytest.param(
            WORKER + "[gpu_model_runner.py:5149] Model loading took 13.4 GiB memory and "
            "5.234567 seconds",
            Progress(LOADING, gib=13.4, seconds=5.234567),
            id="model loaded, 0.32.0",
        ),
        (
            WORKER + "[backends.py:716] Dynamo bytecode transform time: 6.05 s",
            Progress(COMPILING, seconds=6.05),
        ),
        (
            WORKER + "[backends.py:289] Compiling a graph for dynamic shape takes 21.10 s",
            Progress(COMPILING, seconds=21.1),
        ),
        (
            WORKER + "[backends.py:398] Compiling a graph for compile range (1, 8192) takes 9.9 s",
            Progress(COMPILING, seconds=9.9),
        ),
        (
            WORKER + "[backends.py:655] Using cache directory: /c/torch_compile_cache/a/rank_0_0 "
            "for vLLM's torch.compile",
            Progress(COMPILING),
        ),
        (
            WORKER + "[monitor.py:34] torch.compile takes 27.15 s in total",
            Progress(COMPILING, seconds=27.15),
        ),
        (
            WORKER + "[monitor.py:60] torch.compile took 27.15 s in total",
            Progress(COMPILING, seconds=27.15),
        ),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  48%|####8     | 40/83 "
            "[00:02<00:02, 17.51it/s]",
            Progress(CAPTURING, done=40, total=83),
        ),
        (
            WORKER + "[gpu_model_runner.py:4467] Graph capturing finished in 6 secs, took 0.87 GiB",
            Progress(CAPTURING, gib=0.87, seconds=6.0),
        ),
        (
            "(EngineCore pid=19) INFO 11-21 05:06:55 [core.py:402] init engine (profile, create kv "
            "cache, warmup model) took 4.34 s (compilation: 2.10 s)",
            Progress(OPENING, seconds=4.34),
        ),
        ("INFO:     Application startup complete.", Progress(SERVING)),
    ],
)
def test_a_line_tells_phase_and_numbers(line, expected):
    assert phase_of([line]) == expected


def test_nothing_logged_yet_is_a_start():
    assert phase_of([]) == Progress(STARTING)


def test_names_of_phases_in_other_texts_do_not_count():
    # The real start of an engine without compilation speaks of torch.compile and of CUDA graphs.
    spoken = [line for line in CPU_START if "orch.compile" in line or "cuda graph" in line]
    assert len(spoken) == 3
    assert phase_of(spoken) == Progress(STARTING)


def test_a_real_start_goes_through_its_phases():
    seen = []
    for count in range(len(CPU_START) + 1):
        phase = phase_of(CPU_START[:count]).phase
        if phase not in seen:
            seen.append(phase)
    assert seen == [STARTING, LOADING, OPENING, SERVING]


def test_a_real_start_tells_files_and_size_while_it_loads():
    loaded = next(i for i, line in enumerate(CPU_START) if "Loading weights took" in line)
    progress = phase_of(CPU_START[: loaded + 1])
    assert progress == Progress(LOADING, done=1, total=1, gib=0.05, seconds=0.13)


def test_a_bar_drawn_in_one_line_counts_with_its_last_state():
    drawn = (
        "Capturing CUDA graphs: 0%|   | 0/83 [00:00<?]\rCapturing CUDA graphs: 2%|  | 2/83 [00:01]"
    )
    assert phase_of([drawn]) == Progress(CAPTURING, done=2, total=83)


def test_colours_are_not_text():
    assert pieces_of("\x1b[0;36m(Worker pid=1)\x1b[0;0m Loading weights took 1.00 seconds") == [
        "(Worker pid=1) Loading weights took 1.00 seconds"
    ]


def test_a_start_never_goes_back():
    lines = [
        WORKER + "Dynamo bytecode transform time: 6.05 s",
        "(Worker_TP1 pid=100) INFO Loading weights took 9.00 seconds",
    ]
    assert phase_of(lines) == Progress(COMPILING, seconds=6.05)


def test_phases_have_the_times_of_the_log():
    entries = [
        (109.0, "Starting to load model openai/gpt-oss-20b..."),
        (150.5, "Loading safetensors checkpoint shards:   0% Completed | 0/3 [00:00<?, ?it/s]"),
        (156.5, "Dynamo bytecode transform time: 6.05 s"),
        (160.0, "INFO:     Application startup complete."),
    ]
    progress, phases = phases_of(entries, started=100.0, now=500.0)
    assert progress.phase == SERVING
    assert phases == [(STARTING, 9.0), (DOWNLOADING, 41.5), (LOADING, 6.0), (COMPILING, 3.5)]


def test_the_phase_that_goes_on_lasts_until_now():
    _progress, phases = phases_of([(109.0, "Starting to load model /m...")], 100.0, 121.25)
    assert phases == [(STARTING, 9.0), (LOADING, 12.2)]


@pytest.mark.parametrize(
    ("lines", "compiled"),
    [
        (["Compiling a graph for dynamic shape takes 21.10 s"], True),  # 0.12.0
        (["Compiling a graph for compile range (1, 8192) takes 9.90 s"], True),  # 0.26.0
        (["[backbone] Compiling a graph for compile range (1, 8192) takes 9.90 s"], True),  # 0.32.0
        (
            ["Directly load the compiled graph(s) for dynamic shape from the cache, took 1.042 s"],
            False,  # 0.12.0
        ),
        (
            ["Directly load the compiled graph(s) for compile range (1, 8192) from the cache"],
            False,  # 0.26.0, 0.32.0, 0.33.0
        ),
        (["Directly load AOT compilation from path /c/torch_aot_compile/ab/rank_0_0/model"], False),
        (["Dynamo bytecode transform time: 6.05 s", "torch.compile took 27.15 s in total"], None),
        (
            [
                "Directly load AOT compilation from path /c/torch_aot_compile/ab/rank_0_0/model",
                "Compiling a graph for compile range (1, 8192) takes 9.90 s",
                "Directly load AOT compilation from path /c/torch_aot_compile/ab/rank_1_0/model",
            ],
            True,
        ),
    ],
    ids=["0.12", "0.26", "0.32", "cache 0.12", "cache 0.26", "cache AOT", "not said", "a worker"],
)
def test_the_log_tells_whether_the_model_was_compiled(lines, compiled) -> None:
    """Texts of vllm/compilation/backends.py and decorators.py."""
    assert figures_of([WORKER + line for line in lines]).get("compiled") is compiled


def test_figures_of_a_cpu_engine_are_those_of_its_log() -> None:
    assert figures_of(CPU_START) == {
        "kv_gib": 1.0,
        "kv_tokens": 3273603,
        "max_model_len": 8192,
        "max_concurrency": 399.61,
    }


@pytest.mark.parametrize(
    "lines",
    [
        [
            "INFO gpu_worker.py:298] Available KV cache memory: 4.17 GiB",
            "INFO kv_cache_utils.py:864] GPU KV cache size: 182,336 tokens",
            "INFO kv_cache_utils.py:868] Maximum concurrency for 128,000 tokens per request: 2.68x",
        ],
        [
            "INFO gpu_worker.py:760] Available KV cache memory: 4.17 GiB",
            "INFO kv_cache_utils.py:2328] GPU KV cache size: 182,336 tokens, Maximum concurrency"
            " for 128,000 tokens per request: 2.68x",
        ],
    ],
    ids=["0.12.0", "0.32.0"],
)
def test_figures_of_a_gpu(lines: list[str]) -> None:
    assert figures_of(lines) == {
        "kv_gib": 4.17,
        "kv_tokens": 182336,
        "max_model_len": 128000,
        "max_concurrency": 2.68,
    }


def test_of_several_workers_the_one_with_least_room_counts() -> None:
    lines = [
        "(Worker_TP0) Model loading took 31.2 GiB memory and 9.1 seconds",
        "(Worker_TP1) Model loading took 31.4 GiB memory and 9.3 seconds",
        "(Worker_TP0) Available KV cache memory: 40.12 GiB",
        "(Worker_TP1) Available KV cache memory: 39.98 GiB",
    ]
    assert figures_of(lines) == {"weights_gib": 31.4, "kv_gib": 39.98}
