# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waiting for a vLLM unit: what the host answers, what the operator sees, when it is given up."""

from __future__ import annotations

import json
from unittest import mock

import pytest

from ansible_collections.baremetal.vllm.plugins.action import vllm_ready as action

KEY = "0123456789abcdef-internal"
HEALTH = {"url": "http://127.0.0.1:8000", "api_key": KEY, "model": "gpt-oss-20b", "level": "token"}


def health(state, level_reached=None, seconds=3.0, **values):
    """An answer of vllm_health, which took `seconds`."""
    return {
        "failed": state != "ready",
        "msg": f"not ready: {state}",
        "state": state,
        "level_reached": level_reached,
        "attempts": 4,
        "elapsed": {"total": seconds},
        "version": None,
        "max_model_len": None,
        "model": None,
        "message": f"http://127.0.0.1:8000 did not reach the level token (state {state}).",
        "invocation": {"module_args": {"api_key": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"}},
        **values,
    }


REFUSED = health("refused")
READY = health(
    "ready",
    "token",
    elapsed={"process": 0.01, "models": 0.01, "token": 0.3, "total": 0.4},
    version="0.32.0",
    max_model_len=8192,
    message="http://127.0.0.1:8000 reached the level token.",
)


def progress(phase="starting", elapsed=1.0, phases=(), log=(), unit=None, **numbers):
    """An answer of vllm_progress."""
    return {
        "phase": phase,
        "done": None,
        "total": None,
        "gib": None,
        "seconds": None,
        "elapsed": elapsed,
        "phases": list(phases),
        "log": list(log),
        "unit_state": {
            "load_state": "loaded",
            "active_state": "active",
            "sub_state": "running",
            "result": "success",
            "restarts": 0,
            "exit_status": 0,
            **(unit or {}),
        },
        **numbers,
    }


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds


class Wait:
    """The action with a scripted host: answers in turn for each module, the last one repeats."""

    def __init__(self, monkeypatch):
        self.clock = Clock()
        self.lines = []
        self.calls = []
        monkeypatch.setattr(action, "time", self.clock)
        self.warnings = []
        display = mock.Mock(display=self.lines.append, warning=self.warnings.append)
        monkeypatch.setattr(action, "Display", lambda: display)

    def run(self, healths, progresses=(), check_mode=False, **arguments):
        arguments = {
            "unit": "vllm@gpt-oss-20b.service",
            "name": "gpt-oss-20b",
            "health": HEALTH,
            **arguments,
        }
        task = mock.Mock(args=arguments, check_mode=check_mode, async_val=0)
        connection = mock.Mock()
        connection._shell.tmpdir = None
        plugin = action.ActionModule(task, connection, mock.Mock(), None, mock.Mock(), None)
        answers = {
            "baremetal.vllm.vllm_health": list(healths),
            "baremetal.vllm.vllm_progress": list(progresses),
        }

        def execute(module_name, module_args, task_vars):
            self.calls.append((module_name.rpartition(".")[2], module_args))
            script = answers[module_name]
            answer = script.pop(0) if len(script) > 1 else script[0]
            self.clock.now += answer["elapsed"]["total"] if "state" in answer else 0.5
            return answer

        plugin._execute_module = execute
        return plugin.run(task_vars={"inventory_hostname": "gpu1"})

    def called(self, name):
        return [arguments for called, arguments in self.calls if called == name]


@pytest.fixture
def wait(monkeypatch):
    return Wait(monkeypatch)


# Ready


def test_a_unit_that_is_ready_costs_one_call(wait):
    result = wait.run([READY])
    assert not result.get("failed")
    assert not result["changed"]
    assert result["state"] == "ready"
    assert result["phases"] == []
    assert [name for name, _arguments in wait.calls] == ["vllm_health"]
    assert wait.lines == [
        "gpu1 | gpt-oss-20b ready: vLLM 0.32.0, max_model_len 8192, a token in 0.3 s"
    ]


def test_the_last_line_says_how_long_the_first_token_took(wait):
    phases = [{"phase": "starting", "seconds": 9.1}, {"phase": "loading weights", "seconds": 6.4}]
    result = wait.run(
        [REFUSED, READY],
        [progress("loading weights"), progress("serving", elapsed=52.3, phases=phases)],
    )
    assert wait.lines[-1] == (
        "gpu1 | gpt-oss-20b ready: vLLM 0.32.0, max_model_len 8192, first token after 52 s"
    )
    assert result["phases"] == phases
    assert (result["version"], result["max_model_len"]) == ("0.32.0", 8192)
    assert result["attempts"] == 8


def test_a_lower_level_promises_no_token(wait):
    listed = health("ready", "models", elapsed={"total": 0.2}, version="0.32.0")
    wait.run([REFUSED, listed], [progress(), progress("serving", elapsed=40.0)])
    assert wait.lines[-1] == "gpu1 | gpt-oss-20b ready: vLLM 0.32.0, ready after 40 s"


def test_the_first_token_gets_more_time_once_the_model_is_listed(wait):
    listed = health("stalled", "models")
    wait.run([REFUSED, listed, READY], [progress()])
    assert [call["timeout"] for call in wait.called("vllm_health")] == [3.0, 3.0, 60.0]


def test_the_parameters_of_health_are_passed_on(wait):
    wait.run([READY])
    assert wait.called("vllm_health") == [{**HEALTH, "timeout": 3.0}]


# The display


def test_every_phase_has_its_line(wait):
    wait.run(
        [REFUSED] * 6 + [READY],
        [
            progress("starting", elapsed=3.0),
            progress("downloading weights", elapsed=6.0),
            progress("loading weights", elapsed=12.0, done=1, total=3, gib=13.4),
            progress("compiling", elapsed=30.0),
            progress("capturing graphs", elapsed=40.0, done=40, total=83),
            progress("starting the server", elapsed=45.0),
            progress("serving", elapsed=50.0),
        ],
    )
    assert wait.lines[:-1] == [
        "gpu1 | gpt-oss-20b starting: 3 s",
        "gpu1 | gpt-oss-20b downloading weights: 6 s",
        "gpu1 | gpt-oss-20b loading weights: 1 of 3 files, 13.40 GiB, 12 s",
        "gpu1 | gpt-oss-20b compiling: 30 s",
        "gpu1 | gpt-oss-20b capturing graphs: 40 of 83 graphs, 40 s",
        "gpu1 | gpt-oss-20b starting the server: 45 s",
    ]


def test_numbers_that_move_are_shown_every_few_seconds(wait):
    quick = health("refused", seconds=0.5)
    loading = [progress("loading weights", done=n, total=60) for n in range(60)]
    wait.run([quick] * 60 + [READY], loading)
    seconds = wait.clock.now - 1000.0
    assert 0.5 * seconds / 5 < len(wait.lines) <= seconds / 5 + 2


def test_a_phase_that_says_nothing_gives_a_sign_of_life_every_half_minute(wait):
    wait.run([REFUSED], [progress("downloading weights")], timeout=100)
    assert len(wait.lines) == 4


def test_a_restart_is_shown(wait):
    wait.run(
        [REFUSED, REFUSED, READY],
        [progress(unit={"restarts": 2}), progress(unit={"restarts": 3})],
    )
    assert wait.lines[1] == "gpu1 | gpt-oss-20b starting: restarted once, 1 s"


def test_an_end_is_shown_with_its_exit_status(wait):
    ended = {"active_state": "activating", "sub_state": "auto-restart", "exit_status": 137}
    wait.run([REFUSED, REFUSED, READY], [progress(), progress(unit=ended)])
    assert wait.lines[1] == "gpu1 | gpt-oss-20b ended with exit status 137, starts again: 1 s"


# Given up at once


@pytest.mark.parametrize("state", ["unauthorised", "wrong_model"])
def test_an_answer_that_waiting_cannot_change_is_final(wait, state):
    result = wait.run([health(state, "process", seconds=0.1)])
    assert result["failed"]
    assert result["state"] == state
    assert result["msg"] == result["message"]
    assert len(wait.calls) == 1


def test_an_error_on_which_health_gives_up_early_is_final(wait):
    result = wait.run([health("error", seconds=0.1)])
    assert result["failed"]
    assert len(wait.calls) == 1


def test_an_error_for_which_health_waited_is_not_final(wait):
    assert not wait.run([health("error"), READY], [progress()]).get("failed")


def test_wrong_parameters_of_health_fail_with_its_sentence(wait):
    result = wait.run([{"failed": True, "msg": "url is no url.", "elapsed": {}}])
    assert result["failed"]
    assert result["msg"] == "health: url is no url."


def test_a_failed_unit_fails_with_its_last_lines(wait):
    lines = [f"line {n}" for n in range(15)]
    broken = {"active_state": "failed", "result": "start-limit-hit", "exit_status": 1}
    result = wait.run([REFUSED], [progress(log=lines, unit=broken)])
    assert result["failed"]
    assert (
        "vllm@gpt-oss-20b.service has failed (result start-limit-hit, exit status 1)"
        in (result["msg"])
    )
    assert result["log"] == lines
    assert wait.called("vllm_progress")[0]["log_lines"] == 15


def test_three_restarts_are_enough(wait):
    looks = [progress(unit={"restarts": n}) for n in (4, 5, 6, 7)]
    looks[1]["unit_state"].update(result="exit-code", exit_status=3)
    result = wait.run([REFUSED], looks)
    assert result["failed"]
    assert "ended 3 times while it should start (result exit-code, exit status 3)" in result["msg"]
    assert len(wait.called("vllm_progress")) == 4


def test_restarts_of_the_past_do_not_count(wait):
    result = wait.run([REFUSED, READY], [progress(unit={"restarts": 9})])
    assert not result.get("failed")


def test_a_unit_that_does_not_exist_is_said(wait):
    result = wait.run([REFUSED], [progress(unit={"load_state": "not-found"})])
    assert result["failed"]
    assert "There is no unit vllm@gpt-oss-20b.service" in result["msg"]


def test_a_unit_that_is_not_running_is_said_at_the_second_look(wait):
    result = wait.run([REFUSED], [progress(unit={"active_state": "inactive"})])
    assert result["failed"]
    assert "is not running" in result["msg"]
    assert len(wait.called("vllm_progress")) == 2


def test_a_host_without_systemd_fails_with_its_sentence(wait):
    result = wait.run([REFUSED], [{"failed": True, "msg": "systemd does not show unit x."}])
    assert result["failed"]
    assert result["msg"] == "systemd does not show unit x."


# Given up in the end


def test_a_wait_has_an_end_and_says_where_the_start_was(wait):
    result = wait.run([REFUSED], [progress("compiling", elapsed=58.0, log=["x"])], timeout=60)
    assert result["failed"]
    assert "gpt-oss-20b was not ready within 60 seconds; 58 seconds" in result["msg"]
    assert "it was compiling" in result["msg"]
    assert REFUSED["message"] in result["msg"]
    assert result["log"] == ["x"]
    assert 60 <= wait.clock.now - 1000 < 64


def test_the_last_look_fits_into_what_is_left(wait):
    wait.run([REFUSED], [progress()], timeout=8)
    timeouts = [call["timeout"] for call in wait.called("vllm_health")]
    assert timeouts[0] == 3.0
    assert 0 <= timeouts[-1] < 3.0


# The prediction

PREDICTION = {"memory_gib": {"kv": 111.94}, "kv_tokens": 4341729, "max_concurrency": 33.12}
FIGURES = {"kv_gib": 111.94, "kv_tokens": 4341729, "max_concurrency": 33.12}
AS_PREDICTED = (
    "gpt-oss-20b on gpu1: KV cache 111.9 GiB predicted, 111.9 GiB reported (+0.0 %);"
    " 4,341,729 tokens, 33.12x as predicted"
)


def test_the_prediction_is_held_against_the_log(wait):
    result = wait.run([REFUSED, READY], [progress(figures=FIGURES)], prediction=PREDICTION)
    assert result["comparison"] == AS_PREDICTED
    assert wait.lines[-1] == AS_PREDICTED


def test_of_an_engine_that_is_up_already_the_log_is_read_for_it(wait):
    result = wait.run([READY], [progress(figures=FIGURES)], prediction=PREDICTION)
    assert result["comparison"] == AS_PREDICTED
    assert wait.lines[0].endswith("a token in 0.3 s")


def test_a_restart_with_compiled_graphs_is_as_predicted(wait):
    prediction = PREDICTION | {"memory_gib": {"kv": 111.94, "kv_restart": 116.5}}
    figures = FIGURES | {"kv_gib": 116.5, "kv_tokens": 4518593, "compiled": False}
    result = wait.run([REFUSED, READY], [progress(figures=figures)], prediction=prediction)
    assert "116.5 GiB predicted for a restart, 116.5 GiB reported" in result["comparison"]
    assert wait.warnings == []


def test_a_wrong_prediction_is_a_warning_and_no_failure(wait):
    little = {**FIGURES, "kv_gib": 90.0, "kv_tokens": 3490000, "max_concurrency": 26.63}
    result = wait.run([REFUSED, READY], [progress(figures=little)], prediction=PREDICTION)
    assert not result.get("failed")
    assert len(wait.warnings) == 1
    assert wait.warnings[0].startswith(result["comparison"])


# Secrets and check mode


def test_the_api_key_is_in_no_line_and_no_result(wait):
    broken = {"active_state": "failed"}
    log = [f"non-default args: {{'api_key': ['{KEY}']}}"]
    result = wait.run(
        [health("refused", message=f"answered: Bearer {KEY}")],
        [progress(f"starting {KEY}"), progress(log=log, unit=broken)],
    )
    assert result["failed"]
    assert result["log"]
    assert KEY not in json.dumps(result)
    assert KEY not in "".join(wait.lines)
    assert "invocation" not in result


def test_check_mode_waits_for_nothing(wait):
    result = wait.run([READY], check_mode=True)
    assert result["skipped"]
    assert wait.calls == []
