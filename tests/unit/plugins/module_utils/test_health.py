# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import time

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._health import (
    Health,
    Pulse,
    Wanted,
    pulses,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._http import Client, parse_url
from ansible_collections.baremetal.vllm.tests.unit.fake_engine import RESET, Reply, free_port


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 3))
        self.now += seconds


def health(url: str, fake: FakeTime | None = None, **wanted) -> Health:
    seams = {"clock": fake.clock, "sleep": fake.sleep} if fake else {}
    return Health(Client(parse_url(url)), Wanted(**wanted), **seams)


def test_pauses_double_up_to_the_interval_and_end_at_the_timeout() -> None:
    fake = FakeTime()
    report = health(f"http://127.0.0.1:{free_port()}", fake, timeout=5, interval=1).wait()
    assert fake.pauses == [0.1, 0.2, 0.4, 0.8, 1, 1, 1, 0.5]
    assert report.attempts == 9
    assert report.elapsed == {"total": 5.0}


def test_an_interval_below_the_first_pause_holds() -> None:
    fake = FakeTime()
    health(f"http://127.0.0.1:{free_port()}", fake, timeout=0.15, interval=0.05).wait()
    assert fake.pauses == [0.05, 0.05, 0.05]


def test_every_level_has_its_own_seconds(engine) -> None:
    engine.routes["/health"] = Reply(delay=0.1)
    engine.routes["/v1/models"] = Reply({"data": [{"id": "m"}]}, delay=0.2)
    elapsed = health(engine.url).wait().elapsed
    assert list(elapsed) == ["process", "models", "token", "total"]
    assert elapsed["process"] >= 0.1
    assert elapsed["models"] >= 0.2
    assert sum(elapsed.values()) == pytest.approx(2 * elapsed["total"], abs=0.005)


def test_a_level_that_is_lost_again_is_not_reported_as_reached(engine) -> None:
    engine.routes["/health"] = [Reply(), RESET]
    engine.routes["/v1/models"] = Reply(status=503)
    report = health(engine.url, timeout=0.3, request_timeout=1).wait()
    assert (report.state, report.level_reached, list(report.elapsed)) == (
        "starting",
        None,
        ["total"],
    )


def test_a_nearly_spent_timeout_still_leaves_a_second_for_the_answer(engine) -> None:
    engine.routes["/v1/chat/completions"] = [
        Reply(status=503),
        Reply({"usage": {"completion_tokens": 1}}, delay=0.3),
    ]
    assert health(engine.url, timeout=0.2, request_timeout=5).wait().state == "ready"


def test_the_timeout_bounds_a_server_that_hangs_everywhere(engine) -> None:
    engine.routes["/health"] = "hang"
    started = time.monotonic()
    report = health(engine.url, timeout=0.5, request_timeout=30).wait()
    assert report.state == "stalled"
    assert time.monotonic() - started < 15


METRICS = """
# HELP vllm:iteration_tokens_total Histogram of number of tokens per engine_step.
vllm:num_requests_running{engine="0",model_name="a} b"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a} b"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 3.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} 5.0
vllm:iteration_tokens_total_count{engine="0"} 12.0
vllm:iteration_tokens_total_sum{engine="0"} 1.2e+03
vllm:iteration_tokens_total_created{engine="0"} 1.7e+09
vllm:num_requests_running{engine="1"} 0.0
vllm:iteration_tokens_total_count{engine="1"} 4.0
vllm:iteration_tokens_total_sum{engine="1"} NaN
"""


def test_each_engine_has_its_pulse() -> None:
    assert pulses(METRICS) == {
        "0": Pulse(requests=5.0, iterations=12.0, tokens=1200.0),
        "1": Pulse(requests=0.0, iterations=4.0, tokens=0.0),
    }


@pytest.mark.parametrize(
    "text", ["", "vllm:num_requests_running 1.0", "vllm:iteration_tokens_total_count x", "<html>"]
)
def test_no_pulse_without_the_metric(text: str) -> None:
    assert pulses(text) == {}
