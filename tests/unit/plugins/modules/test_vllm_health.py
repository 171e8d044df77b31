# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import time

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.modules import vllm_health
from ansible_collections.baremetal.vllm.tests.unit.authority_in_tmp import Authority
from ansible_collections.baremetal.vllm.tests.unit.fake_engine import (
    HANG,
    RESET,
    Raw,
    Reply,
    completion,
    error,
    free_port,
)

KEY = "0123456789abcdef-internal"
CHAT = "/v1/chat/completions"
RETURNED = set(yaml.safe_load(vllm_health.RETURN)) - {"msg"}


@pytest.fixture
def run(capsys):
    """Run the module; return what it prints as a dictionary, its raw text under C(_text)."""

    def run_module(**arguments):
        # Long enough for a busy machine; tests in which nothing answers set one of their own.
        arguments.setdefault("request_timeout", 10)
        arguments.setdefault("heartbeat_window", 0.3)
        with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
            vllm_health.main()
        text = capsys.readouterr().out
        result = json.loads(text)
        assert bool(ended.value.code) is bool(result.get("failed"))
        return {**result, "_text": text}

    return run_module


def assert_failed(result, state, *words):
    assert result["failed"] is True
    assert result["state"] == state, result["message"]
    assert result["msg"] == result["message"]
    for word in words:
        assert word in result["message"]


def seconds_told(result, words):
    """The seconds behind some words of the message; more than was allowed on a busy machine."""
    found = re.search(rf"{re.escape(words)} ([0-9.]+) seconds", result["message"])
    assert found, result["message"]
    return float(found[1])


# Levels


def test_a_token_is_asked_for_by_default(run, engine):
    result = run(url=engine.url)
    assert result["state"] == "ready"
    assert result["level_reached"] == "token"
    assert result["attempts"] == 1
    assert (result["version"], result["max_model_len"]) == ("0.32.0", 131072)
    assert result["model"] == "gpt-oss-20b"
    assert list(result["elapsed"]) == ["process", "models", "token", "total"]
    assert result["changed"] is False
    assert result["message"].startswith(f"{engine.url} reached the level token after 1 attempt in ")
    request = engine.requests[-1]
    assert (request.method, request.path) == ("POST", CHAT)
    assert (request.body["model"], request.body["max_tokens"]) == ("gpt-oss-20b", 1)


@pytest.mark.parametrize(
    ("level", "paths"),
    [
        ("process", ["/health"]),
        ("models", ["/health", "/v1/models", "/version"]),
        ("token", ["/health", "/v1/models", "/version", CHAT]),
        ("heartbeat", ["/health", "/v1/models", "/version", CHAT, "/metrics"]),
    ],
)
def test_levels_are_cumulative(run, engine, level, paths):
    result = run(url=engine.url, level=level)
    assert (result["state"], result["level_reached"]) == ("ready", level)
    assert engine.paths() == paths


def test_a_completion_can_be_asked_for_instead_of_a_chat(run, engine):
    engine.routes[CHAT] = error(400, "no chat template")
    assert run(url=engine.url, api="completion")["state"] == "ready"
    assert (engine.requests[-1].path, "prompt" in engine.requests[-1].body) == (
        "/v1/completions",
        True,
    )


def test_the_named_model_is_found_among_others(run, engine):
    engine.routes["/v1/models"] = Reply(
        {"data": [{"id": "a", "max_model_len": 1}, {"id": "b", "max_model_len": 2}]}
    )
    result = run(url=engine.url, model="b")
    assert (result["model"], result["max_model_len"]) == ("b", 2)
    assert engine.requests[-1].body["model"] == "b"


def test_an_edge_passes_without_version_and_health(run, engine):
    del engine.routes["/health"], engine.routes["/version"], engine.routes["/metrics"]
    engine.routes["/healthz"] = Reply("ok\n")
    result = run(url=engine.url, health_path="/healthz")
    assert (result["state"], result["version"]) == ("ready", None)


def test_a_unix_socket_is_asked(run, start_engine, tmp_path):
    engine = start_engine(socket_path=str(tmp_path / "vllm.sock"))
    assert run(url=engine.url)["state"] == "ready"
    assert engine.paths()[-1] == CHAT


def test_the_key_is_sent(run, start_engine):
    engine = start_engine(key=KEY)
    assert run(url=engine.url, api_key=KEY)["state"] == "ready"


# Tokens


@pytest.mark.parametrize(
    "answer",
    [completion(1, None), completion(1, "Hi"), completion(None, None, "length")],
    ids=["Harmony markup, no text", "text", "no usage, cut at one token"],
)
def test_a_token_counts_whatever_its_text(run, engine, answer):
    engine.routes[CHAT] = answer
    assert run(url=engine.url)["state"] == "ready"


@pytest.mark.parametrize(
    "answer",
    [
        completion(0, ""),
        completion(0, "not counted"),
        completion(None, None, "stop"),
        Reply({"choices": []}),
        Reply({"usage": {"completion_tokens": "1"}}),
        Reply({"usage": []}),
        Reply({}),
    ],
)
def test_an_answer_200_without_a_token_is_no_success(run, engine, answer):
    engine.routes[CHAT] = answer
    result = run(url=engine.url)
    assert_failed(result, "error", "200 without a generated token", "level token")
    assert result["level_reached"] == "models"


# States


def test_refused_when_nothing_listens(run):
    url = f"http://127.0.0.1:{free_port()}"
    result = run(url=url)
    assert_failed(result, "refused", url, "level token", "GET /health: connection refused")
    assert set(result) >= RETURNED
    assert (result["level_reached"], result["version"], result["model"]) == (None, None, None)


def test_refused_when_the_socket_does_not_exist(run, tmp_path):
    assert_failed(run(url=f"unix://{tmp_path}/none.sock"), "refused", "no such file")


def test_starting_when_the_connection_is_reset(run, engine):
    engine.routes["/health"] = RESET
    assert_failed(run(url=engine.url), "starting", "accepted, then closed")


def test_starting_when_the_connection_is_closed(run, engine):
    engine.routes["/health"] = Raw(())
    assert_failed(run(url=engine.url), "starting", "accepted, then closed")


def test_engine_dead_when_health_says_503(run, engine):
    engine.routes["/health"] = Reply(status=503)
    assert_failed(run(url=engine.url), "engine_dead", "GET /health answered 503: (empty)")


@pytest.mark.parametrize("path", ["/health", "/v1/models", CHAT])
@pytest.mark.parametrize(
    "body", ["EngineDeadError", "EngineCore encountered an issue. See stack trace (above)"]
)
def test_engine_dead_when_an_answer_says_so(run, engine, path, body):
    engine.routes[path] = error(500, body)
    assert_failed(run(url=engine.url), "engine_dead", f"{path} answered 500")


def test_engine_dead_when_it_goes_away_during_the_token(run, engine):
    engine.routes[CHAT] = RESET
    assert_failed(run(url=engine.url), "engine_dead", f"POST {CHAT}: the connection was accepted")


def test_stalled_when_no_token_comes_though_health_is_good(run, engine):
    engine.routes[CHAT] = HANG
    result = run(url=engine.url, request_timeout=1.5)
    assert_failed(result, "stalled", "level token", f"POST {CHAT} gave no token in")
    assert seconds_told(result, "gave no token in") >= 1.5
    assert result["level_reached"] == "models"


def test_stalled_when_no_token_comes_and_the_engine_has_no_metrics(run, engine):
    engine.routes[CHAT] = HANG
    del engine.routes["/metrics"]
    assert_failed(run(url=engine.url, request_timeout=1.5), "stalled")


def test_stalled_when_health_itself_does_not_answer(run, engine):
    engine.routes["/health"] = HANG
    result = run(url=engine.url, request_timeout=1.5)
    assert_failed(result, "stalled", "GET /health: no whole answer in")
    assert seconds_told(result, "no whole answer in") >= 1.5


def test_overloaded_when_no_token_comes_but_others_are_served(run, engine):
    engine.routes[CHAT] = HANG
    engine.running["0"], engine.moving = 5, {"0"}
    # The same time bounds the reading of what was served meanwhile.
    result = run(url=engine.url, request_timeout=4)
    assert_failed(result, "overloaded", "while other requests were served")


@pytest.mark.parametrize("status", [429, 503])
def test_overloaded_when_admission_is_refused(run, engine, status):
    engine.routes[CHAT] = error(status, "queue is full")
    assert_failed(run(url=engine.url), "overloaded", f"answered {status}", "queue is full")


def test_wrong_model_when_it_is_not_listed(run, engine):
    result = run(url=engine.url, model="gpt-oss-120b", timeout=5)
    assert_failed(result, "wrong_model", "lists gpt-oss-20b, not gpt-oss-120b")
    assert (result["attempts"], result["level_reached"]) == (1, "process")


def test_wrong_model_when_the_backend_does_not_have_it(run, engine):
    engine.routes[CHAT] = error(404, "The model `x` does not exist.", "NotFoundError")
    assert_failed(run(url=engine.url), "wrong_model", "answered 404")


@pytest.mark.parametrize("key", [None, "wrong-" + KEY])
def test_unauthorised_without_the_right_key(run, start_engine, key):
    engine = start_engine(key=KEY)
    result = run(url=engine.url, api_key=key, timeout=5)
    assert_failed(result, "unauthorised", "GET /v1/models answered 401")
    assert (result["attempts"], result["level_reached"]) == (1, "process")


@pytest.mark.parametrize(
    ("path", "behaviour", "state", "words"),
    [
        ("/health", Reply("nginx", 404), "error", "GET /health answered 404: nginx"),
        ("/health", Reply(status=301), "error", "answered 301"),
        ("/health", Raw((b"SSH-2.0-OpenSSH_9.2\r\n",)), "error", "the answer is not HTTP"),
        ("/v1/models", Reply("<html>"), "error", "answered 200, but not JSON: <html>"),
        ("/v1/models", Reply("[" * 100000), "error", "not JSON"),
        ("/v1/models", Reply("[]"), "error", "not JSON"),
        ("/v1/models", Reply({}, 404), "error", "answered 404"),
        (CHAT, Reply("", 405), "error", "answered 405"),
        (CHAT, error(400, "no chat template"), "error", "no chat template"),
        (CHAT, Reply("garbage"), "error", "not JSON: garbage"),
        ("/metrics", Reply({}, 404), "error", "GET /metrics answered 404"),
        ("/metrics", Reply("process_cpu 1\n"), "error", "no vllm:iteration_tokens_total"),
    ],
)
def test_what_waiting_cannot_mend_fails_at_once(run, engine, path, behaviour, state, words):
    engine.routes[path] = behaviour
    result = run(url=engine.url, level="heartbeat", timeout=5)
    assert_failed(result, state, words)
    assert result["attempts"] == 1


@pytest.mark.parametrize(
    ("path", "behaviour", "state"),
    [
        ("/health", RESET, "starting"),
        ("/health", Reply(status=502), "starting"),
        ("/health", Reply(status=503), "engine_dead"),
        ("/health", Reply("", 500), "error"),
        ("/health", HANG, "stalled"),
        ("/v1/models", Reply(status=503), "starting"),
        ("/v1/models", Reply({"data": []}), "error"),
        ("/v1/models", Reply({"data": ["x", {}]}), "error"),
        (CHAT, Reply(status=429), "overloaded"),
        (CHAT, Reply(status=504), "stalled"),
        (CHAT, completion(0), "error"),
        (CHAT, HANG, "stalled"),
    ],
)
def test_what_may_mend_itself_is_waited_for(run, engine, path, behaviour, state):
    good = engine.routes[path]
    engine.routes[path] = [behaviour, good]
    # The good answers need this too: too short, and a busy machine costs more attempts.
    request_timeout = 1 if behaviour == HANG else 10
    result = run(url=engine.url, request_timeout=request_timeout, timeout=30)
    assert (result["state"], result["attempts"]) == ("ready", 2)
    engine.routes[path] = behaviour
    assert_failed(run(url=engine.url, request_timeout=request_timeout), state)


def test_a_refused_port_is_waited_for_until_the_engine_listens(run, start_engine):
    port = free_port()
    later = threading.Timer(0.4, start_engine, kwargs={"port": port})
    later.start()
    result = run(url=f"http://127.0.0.1:{port}", timeout=30)
    later.join()
    assert result["state"] == "ready"
    assert result["attempts"] >= 3
    assert 0.4 <= result["elapsed"]["process"] <= result["elapsed"]["total"] < 15


# Heartbeat


def test_an_idle_engine_passes_at_once(run, engine):
    assert run(url=engine.url, level="heartbeat", heartbeat_window=60)["state"] == "ready"
    assert engine.paths().count("/metrics") == 1


def test_a_busy_engine_passes_as_soon_as_it_moves(run, engine):
    engine.running["0"], engine.moving = 3, {"0"}
    result = run(url=engine.url, level="heartbeat", heartbeat_window=60)
    assert (result["state"], result["level_reached"]) == ("ready", "heartbeat")
    assert engine.paths().count("/metrics") == 2


def test_an_engine_that_becomes_idle_passes(run, engine):
    engine.running["0"] = 3
    threading.Timer(0.15, engine.running.__setitem__, ("0", 0)).start()
    assert run(url=engine.url, level="heartbeat", heartbeat_window=5)["state"] == "ready"


def test_stalled_when_requests_run_without_a_heartbeat(run, engine):
    engine.running["0"] = 3
    result = run(url=engine.url, level="heartbeat")
    assert_failed(result, "stalled", "of engine 0 did not move in", "level heartbeat")
    assert seconds_told(result, "did not move in") >= 0.3
    assert result["level_reached"] == "token"


def test_one_hung_engine_of_several_is_found(run, engine):
    engine.running, engine.iterations, engine.moving = {"0": 3, "1": 3}, {"0": 1, "1": 1}, {"0"}
    assert_failed(run(url=engine.url, level="heartbeat"), "stalled", "of engine 1 did not move")


def test_the_timeout_bounds_the_window(run, engine):
    engine.running["0"] = 3
    started = time.monotonic()
    result = run(url=engine.url, level="heartbeat", heartbeat_window=60, timeout=0.5)
    assert_failed(result, "stalled")
    assert time.monotonic() - started < 20


# TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=engine"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)),
        ],
        check=True,
        capture_output=True,
    )
    return key, pem


def server_of(pem, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context


@pytest.fixture
def tls_engine(start_engine, certificate):
    key, pem = certificate
    return start_engine(tls=server_of(pem, key))


def test_https_is_asked_with_the_given_authority(run, tls_engine, certificate):
    assert run(url=tls_engine.url, ca_path=str(certificate[1]))["state"] == "ready"
    assert tls_engine.paths()[-1] == CHAT


def test_https_is_asked_without_verification_if_wanted(run, tls_engine):
    assert run(url=tls_engine.url, validate_certs=False)["state"] == "ready"


def test_a_certificate_of_nobody_is_refused_at_once(run, tls_engine):
    result = run(url=tls_engine.url, timeout=5)
    assert_failed(result, "error", "the certificate is not accepted: self")
    assert (result["attempts"], tls_engine.requests) == (1, [])


def test_a_certificate_for_another_name_is_refused(run, tls_engine, certificate):
    url = tls_engine.url.replace("127.0.0.1", "localhost")
    result = run(url=url, ca_path=str(certificate[1]), timeout=5)
    assert_failed(result, "error", "not accepted", "localhost")


def test_a_server_is_asked_under_the_name_of_its_certificate(run, start_engine, tmp_path):
    authority = Authority(tmp_path)
    engine = start_engine(tls=server_of(*authority.sign("edge", "DNS:llm.example.com")))
    asked = {"url": engine.url, "ca_path": str(authority.certificate)}
    assert run(**asked, server_name="llm.example.com")["state"] == "ready"
    assert_failed(run(**asked, timeout=5), "error", "not accepted", "127.0.0.1")
    assert_failed(run(**asked, server_name="a.example.com", timeout=5), "error", "a.example.com")


def test_the_certificate_of_the_server_itself_may_be_trusted(run, start_engine, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.sign("edge", "IP:127.0.0.1")
    other, _key = authority.sign("other", "IP:127.0.0.1")
    engine = start_engine(tls=server_of(certificate, key))
    assert run(url=engine.url, ca_path=str(certificate))["state"] == "ready"
    assert_failed(run(url=engine.url, ca_path=str(other), timeout=5), "error", "not accepted")


def test_an_expired_certificate_is_refused(run, start_engine, tmp_path):
    certificate, key = Authority(tmp_path).sign("edge", "IP:127.0.0.1", from_days=-9, to_days=-1)
    engine = start_engine(tls=server_of(certificate, key))
    result = run(url=engine.url, ca_path=str(certificate), timeout=5)
    assert_failed(result, "error", "certificate has expired")


def test_https_to_a_plain_server_is_refused_at_once(run, engine):
    result = run(url=engine.url.replace("http:", "https:"), timeout=5)
    assert_failed(result, "error", "TLS failed")
    assert result["attempts"] == 1


def test_the_limit_holds_over_tls(run, tls_engine):
    tls_engine.routes["/health"] = Raw((b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100), 0.05)
    started = time.monotonic()
    result = run(url=tls_engine.url, validate_certs=False, request_timeout=0.3)
    assert_failed(result, "stalled")
    assert time.monotonic() - started < 3


# Check mode


def test_check_mode_makes_one_attempt_and_does_not_fail(run, engine):
    engine.routes["/health"] = Reply(status=503)
    result = run(url=engine.url, timeout=60, _ansible_check_mode=True)
    assert "failed" not in result
    assert (result["state"], result["attempts"], result["changed"]) == ("engine_dead", 1, False)
    assert engine.paths() == ["/health"]
    assert set(result) >= RETURNED


def test_check_mode_knows_that_the_certificate_is_still_to_come(run, tls_engine):
    result = run(url=tls_engine.url, ca_path="/nonexistent.pem", _ansible_check_mode=True)
    assert (result["state"], result["attempts"]) == ("error", 1)
    assert not result.get("failed")


def test_check_mode_tells_a_ready_engine(run, engine):
    assert run(url=engine.url, _ansible_check_mode=True)["state"] == "ready"


# What is said


def test_every_result_has_what_is_documented(run, engine):
    assert set(run(url=engine.url)) - {"_text", "changed", "invocation"} == RETURNED


def test_the_last_answer_is_told_in_200_characters_of_one_line(run, engine):
    engine.routes["/v1/models"] = Reply("a\n\tb \x1b[31m" + "x" * 1000, 404)
    message = run(url=engine.url)["message"]
    assert "answered 404: a b ?[31m" + "x" * 191 + " (state error)" in message


@pytest.mark.parametrize("padding", [0, 190], ids=["whole", "cut in the middle"])
def test_the_key_is_never_repeated(run, start_engine, padding):
    engine = start_engine()
    engine.routes["/v1/models"] = Reply("x" * padding + f" key {KEY} is unknown", 401)
    result = run(url=engine.url, api_key=KEY)
    assert_failed(result, "unauthorised")
    assert engine.requests[-1].key == f"Bearer {KEY}"
    assert KEY[:4] not in result["_text"]


# Parameters


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"timeout": -1}, "timeout is -1.0; it must be a number of seconds, 0 or more"),
        ({"timeout": "nan"}, "timeout is nan"),
        ({"interval": 0}, "interval is 0.0; it must be a number of seconds, more than 0"),
        ({"request_timeout": 0}, "request_timeout is 0.0"),
        ({"heartbeat_window": "inf"}, "heartbeat_window is inf"),
        ({"health_path": "health"}, "health_path 'health' is not a path"),
        ({"health_path": "/a b"}, "health_path '/a b' is not a path"),
        ({"server_name": "a/b"}, "server_name 'a/b' is neither a DNS name nor an IP address"),
        ({"url": "http://a:8000/v1"}, "without /v1"),
        ({"level": "tokens"}, "value of level must be one of"),
        ({"url": "https://a", "ca_path": "/nonexistent.pem"}, "ca_path '/nonexistent.pem' cannot"),
        ({"api_key": "a b"}, "api_key must be printable ASCII"),
    ],
)
def test_unusable_parameters_are_refused_before_anything_is_asked(run, engine, arguments, words):
    result = run(**{"url": engine.url, **arguments})
    assert result["failed"] is True
    assert words in result["msg"]
    assert engine.requests == []


def test_a_file_without_certificates_is_refused(run, tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    result = run(url="https://a", ca_path=str(tmp_path / "ca.pem"))
    assert "ca_path" in result["msg"]
    assert "give a PEM file" in result["msg"]


def test_empty_key_and_model_mean_none(run, engine):
    assert run(url=engine.url, api_key="", model="")["state"] == "ready"
    assert engine.requests[-1].key is None


def test_documentation_and_arguments_agree():
    options = yaml.safe_load(vllm_health.DOCUMENTATION)["options"]
    assert set(options) == set(vllm_health.ARGUMENTS)
    for name, spec in vllm_health.ARGUMENTS.items():
        for field in ("type", "default", "choices", "required"):
            assert options[name].get(field) == spec.get(field), (name, field)
