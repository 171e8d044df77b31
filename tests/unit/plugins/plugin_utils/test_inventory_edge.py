# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Variables of an edge: what is allowed, and one sentence for each mistake."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory import edge_models
from ansible_collections.baremetal.vllm.tests.unit.plugins.plugin_utils.inventory_hosts import (
    ALONE,
    BASE,
    FLEET,
    KEY,
    ONE,
    instance,
    problems,
)

OTHER_KEY, THIRD_KEY = "fedcba9876543210" * 2, "0f" * 32
SECRET_KEY = "5ec7e7" * 8
# All its digits are decimal, so that YAML makes a number of it.
NUMBER_KEY = "52718281" * 8
REACHED = {"edge_listen_address": "0.0.0.0", "edge_api_keys": {"a": KEY}}
FILES = {
    "edge_tls": "files",
    "edge_tls_certificate": "/etc/ssl/certs/edge.pem",
    "edge_tls_key": "/etc/ssl/private/edge.pem",
}
ACME = REACHED | {
    "edge_tls": "acme",
    "edge_port": 443,
    "edge_server_names": ["llm.example.net"],
    "edge_acme_email": "ops@example.net",
}
SELF_SIGNED = {"edge_tls": "self_signed", "edge_server_names": ["edge1", "192.0.2.7"]}


def limits(**given: Any) -> dict[str, Any]:
    return {"edge_api_keys": {"team-a": KEY}, "edge_client_limits": {"team-a": given}}


@pytest.mark.parametrize(
    "changes",
    [
        {"edge_listen_address": "::1"},
        REACHED | {"edge_plain_http": True},
        REACHED | {"edge_listen_address": "::"} | FILES,
        REACHED | SELF_SIGNED,
        FILES,
        SELF_SIGNED,
        SELF_SIGNED | {"edge_server_names": ["2001:db8::1", "1.example"]},
        FILES | {"edge_tls_key": "/etc/letsencrypt/live/llm.example.net/privkey.pem"},
        ACME,
        ACME | {"edge_acme_ca": "/etc/ssl/ca.pem", "edge_acme_directory": "https://ca.example/d"},
        {"edge_port": 80},
        {"edge_api_keys": {"team-a": [KEY, OTHER_KEY], "team_b.2": THIRD_KEY}},
        limits(rate=5, burst=0, concurrency=65535),
        limits(),
        {"edge_client_rate": 5, "edge_client_concurrency": 0, "edge_address_connections": 0},
        {"edge_session_header": "X-Session-Id"},
        {"edge_paths": ["models", "chat/completions", "messages", "embeddings"]},
    ],
)
def test_what_is_allowed(changes: dict[str, Any]) -> None:
    assert problems(changes) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # single values
        ({"edge_plain_http": "maybe"}, "edge_plain_http is 'maybe'; it must be true or false."),
        ({"edge_port": 65536}, "edge_port is 65536; allowed are 1 to 65535."),
        ({"edge_acme_port": 0}, "edge_acme_port is 0; allowed are 1 to 65535."),
        ({"edge_client_rate": -1}, "edge_client_rate is -1; allowed are 0 to 1000000."),
        ({"edge_client_burst": -1}, "edge_client_burst is -1; allowed are 0 to 1000000."),
        (
            {"edge_client_concurrency": 65536},
            "edge_client_concurrency is 65536; allowed are 0 to 65535.",
        ),
        (
            {"edge_address_connections": -1},
            "edge_address_connections is -1; allowed are 0 to 65535.",
        ),
        (
            {"edge_worker_connections": 65536},
            "edge_worker_connections is 65536; allowed are 16 to 65535.",
        ),
        ({"edge_client_rate": "5r/s"}, "edge_client_rate is '5r/s'; it must be a whole number."),
        (
            {"edge_client_max_body_size": "8 MB"},
            "edge_client_max_body_size is '8 MB'; it must be a size as nginx writes it",
        ),
        (
            {"edge_client_max_body_size": "1g"},
            "edge_client_max_body_size is '1g'; it must be a size as nginx writes it",
        ),
        (
            {"edge_listen_address": "localhost"},
            "edge_listen_address is 'localhost'; it must be an IP address.",
        ),
        ({"edge_listen_address": ""}, "edge_listen_address is ''; it must be an IP address."),
        ({"edge_paths": ["/models"]}, "edge_paths[0] is '/models'; allowed are chat/completions"),
        (
            {"edge_paths": ["models", "messages", "embeddings"]},
            "edge_paths lacks chat/completions, which every run proves the edge by; add it.",
        ),
        (
            {"edge_paths": []},
            "edge_paths lacks chat/completions and models, which every run proves the edge by; add"
            " them.",
        ),
        (
            {"edge_tls": "letsencrypt"},
            "edge_tls is 'letsencrypt'; allowed are none, files, acme, self_signed.",
        ),
        (
            {"edge_session_header": "x_session_id"},
            "edge_session_header is 'x_session_id'; it must be the name of a header of letters,"
            " digits and dashes, such as X-Session-Id, or empty.",
        ),
        ({"edge_session_header": "X-A: b"}, "edge_session_header is 'X-A: b'; it must be the name"),
        (
            {"edge_acme_email": "ops"},
            "edge_acme_email is 'ops'; it must be one mail address, such as ops@example.net, or",
        ),
        ({"edge_acme_email": "a@b.example c@d.example"}, "it must be one mail address"),
        (
            {"edge_acme_directory": "http://ca.example/directory"},
            "edge_acme_directory is 'http://ca.example/directory'; it must be an address that"
            " starts with https:// and carries no password.",
        ),
        ({"edge_acme_directory": ""}, "edge_acme_directory is ''; it must be an address"),
        ({"edge_acme_ca": "ca.pem"}, "edge_acme_ca is 'ca.pem'; it must be an absolute path on"),
        # names
        (
            SELF_SIGNED | {"edge_server_names": ["*.example.net"]},
            "edge_server_names has '*.example.net'; it must be a DNS name without wildcard, such as"
            " llm.example.net, or an IP address.",
        ),
        (SELF_SIGNED | {"edge_server_names": ["a_b"]}, "edge_server_names has 'a_b'; it must be"),
        (SELF_SIGNED | {"edge_server_names": ["-a"]}, "edge_server_names has '-a'; it must be"),
        (SELF_SIGNED | {"edge_server_names": ["a."]}, "edge_server_names has 'a.'; it must be"),
        (SELF_SIGNED | {"edge_server_names": ["1.2.3"]}, "edge_server_names has '1.2.3'; it must"),
        (SELF_SIGNED | {"edge_server_names": ["[::1]"]}, "edge_server_names has '[::1]'; it must"),
        (SELF_SIGNED | {"edge_server_names": [""]}, "edge_server_names has ''; it must be a DNS"),
        (
            SELF_SIGNED | {"edge_server_names": ["a" * 64]},
            "...; it must be a DNS name without wildcard",
        ),
        (
            SELF_SIGNED | {"edge_server_names": ["A.example", "a.example"]},
            "edge_server_names has 'a.example' twice; name it once.",
        ),
        (
            SELF_SIGNED | {"edge_server_names": "a.example"},
            "edge_server_names is a string; it must be a list.",
        ),
        # keys
        (
            {"edge_api_keys": {"a b": KEY}},
            "edge_api_keys.a b must be a name of letters, digits, dots, dashes and underscores",
        ),
        ({"edge_api_keys": {"z" * 65: KEY}}, "underscores, 64 at most."),
        (
            {"edge_api_keys": {"Include": KEY}},
            "edge_api_keys.Include is a word of nginx's own; give the client another name.",
        ),
        (
            {"edge_api_keys": {"team": KEY, "Team": OTHER_KEY}},
            "edge_api_keys.Team differs from edge_api_keys.team in case only, which nginx does not"
            " see; rename one of them.",
        ),
        # names that YAML takes for something else
        ({"edge_api_keys": {1001: KEY}}, 'edge_api_keys.1001 is a number; quote it: "1001".'),
        (
            {"edge_api_keys": {1001: KEY, "1001": OTHER_KEY}},
            'edge_api_keys.1001 is a number; quote it: "1001".',
        ),
        ({"edge_api_keys": {1e3: KEY}}, 'edge_api_keys.1000.0 is a number; quote it: "1000.0".'),
        (
            {"edge_api_keys": {datetime.date(2026, 1, 31): KEY}},
            'edge_api_keys.2026-01-31 is a date; quote it: "2026-01-31".',
        ),
        (
            {"edge_api_keys": {True: KEY, "team-a": OTHER_KEY}},
            "edge_api_keys.True is a boolean; quote it as you wrote it.",
        ),
        (
            {"edge_api_keys": {None: KEY}},
            "edge_api_keys.None is null; quote it as you wrote it.",
        ),
        (
            {"edge_api_keys": {"1001": KEY}, "edge_client_limits": {1001: {"rate": 5}}},
            'edge_client_limits.1001 is a number; quote it: "1001".',
        ),
        (
            {"edge_api_keys": {1001: KEY}, "edge_client_limits": {"1001": {"rate": 5}}},
            'edge_api_keys.1001 is a number; quote it: "1001".',
        ),
        (
            {"edge_api_keys": {"a": KEY, "b": KEY}},
            "edge_api_keys.b has the key of a; give every client its own, and each key once.",
        ),
        (
            {"edge_api_keys": {"a": [OTHER_KEY, KEY], "b": [KEY, THIRD_KEY]}},
            "edge_api_keys.b[0] has the key of a; give every client its own, and each key once.",
        ),
        ({"edge_api_keys": {"a": [KEY, KEY]}}, "edge_api_keys.a[1] has the key of a; give every"),
        (
            {"edge_api_keys": {"a": KEY}, "vllm_api_key": KEY},
            "edge_api_keys.a has the key of the engines, vllm_api_key; give every client its own",
        ),
        (
            {"edge_api_keys": {"a": "1" * 64}},
            "edge_api_keys.a is a placeholder that everyone knows; make a key with",
        ),
        ({"edge_api_keys": {"a": [KEY, "1" * 64]}}, "edge_api_keys.a[1] is a placeholder that"),
        (
            {"edge_api_keys": {"a": KEY.upper()}},
            "edge_api_keys.a must be a key of 32 to 128 lower-case hex digits; make one with"
            " `openssl rand -hex 32`.",
        ),
        ({"edge_api_keys": {"a": "ab" * 15}}, "edge_api_keys.a must be a key of 32 to 128"),
        ({"edge_api_keys": {"a": "ab" * 65}}, "edge_api_keys.a must be a key of 32 to 128"),
        ({"edge_api_keys": {"a": None}}, "edge_api_keys.a must be a key of 32 to 128"),
        (
            {"edge_api_keys": {"a": []}},
            "edge_api_keys.a is a list of 0 keys; allowed are 1 to 4, the old and the new one"
            " while a client changes.",
        ),
        (
            {"edge_api_keys": {"a": [f"{number}f" * 16 for number in range(5)]}},
            "edge_api_keys.a is a list of 5 keys; allowed are 1 to 4",
        ),
        # limits of one client
        (
            limits(rate=-1),
            "edge_client_limits.team-a.rate is -1; allowed are 0 to 1000000.",
        ),
        (limits(burst=-1), "edge_client_limits.team-a.burst is -1; allowed are 0 to 1000000."),
        (
            limits(concurrency=65536),
            "edge_client_limits.team-a.concurrency is 65536; allowed are 0 to 65535.",
        ),
        (
            limits(rate="5r/s"),
            "edge_client_limits.team-a.rate is '5r/s'; it must be a whole number.",
        ),
        (limits(rate=None), "edge_client_limits.team-a.rate is null; it must be a whole number."),
        (
            limits(rates=5),
            "edge_client_limits.team-a.rates is not a key of it; did you mean rate?",
        ),
        (
            {"edge_api_keys": {"team-a": KEY}, "edge_client_limits": {"team-a": 5}},
            "edge_client_limits.team-a is a number; it must be a dictionary.",
        ),
        (
            {"edge_api_keys": {"team-a": KEY}, "edge_client_limits": {"team-b": {"rate": 5}}},
            "edge_client_limits.team-b is no client of edge_api_keys; known are team-a. Give it a"
            " key there, or take its limits out.",
        ),
        (
            {"edge_client_limits": {"team-b": {}}},
            "edge_client_limits.team-b is no client of edge_api_keys; known are none. Give it a",
        ),
        # TLS
        (
            FILES | {"edge_tls_certificate": ""},
            "edge_tls_certificate is empty, but edge_tls is files; give the path on this host of"
            " the certificate with its chain.",
        ),
        (
            FILES | {"edge_tls_key": ""},
            "edge_tls_key is empty, but edge_tls is files; give the path on this host of the"
            " certificate's key.",
        ),
        (
            FILES | {"edge_tls_key": "edge.pem"},
            "edge_tls_key is 'edge.pem'; it must be an absolute path on the edge host without"
            " spaces, not below /home, /root, /tmp or /etc/nginx/vllm, such as",
        ),
        (FILES | {"edge_tls_key": "/root/edge.pem"}, "edge_tls_key is '/root/edge.pem'; it must"),
        (FILES | {"edge_tls_key": "/etc/nginx/vllm/k.pem"}, "edge_tls_key is '/etc/nginx/vllm/k"),
        (FILES | {"edge_tls_key": "/etc/../root/k.pem"}, "edge_tls_key is '/etc/../root/k.pem'"),
        (FILES | {"edge_tls_key": "/srv/a b"}, "edge_tls_key is '/srv/a b'; it must be an"),
        (
            FILES | {"edge_tls": "none"},
            "edge_tls_certificate and edge_tls_key are set, but edge_tls is none, which does not"
            " use it; set edge_tls: files, or leave it out.",
        ),
        (
            ACME | {"edge_tls_key": "/etc/ssl/private/edge.pem"},
            "edge_tls_key is set, but edge_tls is acme, which does not use it; set",
        ),
        (
            {"edge_tls": "self_signed"},
            "edge_server_names is empty, but edge_tls is self_signed; name the DNS names or"
            " addresses of this edge.",
        ),
        (
            ACME | {"edge_server_names": []},
            "edge_server_names is empty, but edge_tls is acme; name the DNS names of this edge.",
        ),
        (
            ACME | {"edge_acme_email": ""},
            "edge_acme_email is empty, but edge_tls is acme; give an address to which the authority"
            " writes.",
        ),
        (
            ACME | {"edge_server_names": ["llm.example.net", "192.0.2.7"]},
            "edge_server_names has 192.0.2.7, but edge_tls is acme, which gives certificates for"
            " DNS names; take the address out, or set edge_tls to files or self_signed.",
        ),
        (
            ACME | {"edge_listen_address": "127.0.0.1"},
            "edge_listen_address is 127.0.0.1, but edge_tls is acme, whose authority has to reach"
            " this host; listen on 0.0.0.0, or set edge_tls to files or self_signed.",
        ),
        (
            ACME | {"bundle_directory": "/srv/bundle"},
            "edge_tls is acme, but bundle_directory says that no network reaches this host; set",
        ),
        # ports
        (
            ACME | {"edge_port": 80},
            "edge_acme_port is 80, which is edge_port too; challenges come in clear, and clients by"
            " TLS, so change edge_port, to 443 for example.",
        ),
        (
            instance(port=8080),
            "vllm_instances[0].port is 8080, which is edge_port too, and the edge is on this host;"
            " change one of them.",
        ),
        (
            ACME | instance(port=80),
            "vllm_instances[0].port is 80, which is edge_acme_port too, and the edge is on this",
        ),
        # unknown variables
        (
            {"edge_tsl": "acme"},
            "edge_tsl is not a variable of this collection; did you mean edge_tl",
        ),
    ],
)
def test_one_mistake_gives_one_sentence(changes: dict[str, Any], said: str) -> None:
    found = problems(changes)
    assert len(found) == 1, found
    assert found[0].startswith("gpu-1: ")
    assert said in found[0]
    assert found[0].endswith((".", "?"))


@pytest.mark.parametrize(
    "changes",
    [
        {"edge_api_keys": {"a": "hunter2"}},
        {"edge_api_keys": {"a": "HUNTER2" * 8}},
        {"edge_api_keys": {"a": ["hunter2"]}},
        {"edge_api_keys": {"a": {"key": "hunter2"}}},
        {"edge_api_keys": {"a": [["hunter2"]]}},
        {"edge_api_keys": "hunter2"},
        {"edge_api_keys": ["hunter2"]},
        {"edge_acme_directory": "https://me:hunter2@ca.example/directory"},
    ],
)
def test_no_sentence_repeats_a_secret(changes: dict[str, Any]) -> None:
    found = problems(changes)
    assert len(found) == 1, found
    assert "hunter2" not in found[0].lower()


@pytest.mark.parametrize(
    "changes",
    [
        {"edge_api_keys": {SECRET_KEY: "team-a"}},
        {"edge_api_keys": {SECRET_KEY.upper(): KEY}},
        {"edge_api_keys": {SECRET_KEY: KEY, SECRET_KEY.upper(): KEY}},
        {"edge_api_keys": {SECRET_KEY: KEY}, "edge_client_limits": {SECRET_KEY: {"rate": -1}}},
        {"edge_api_keys": {SECRET_KEY: KEY}, "edge_client_limits": {"a": {}}},
        {"edge_client_limits": {SECRET_KEY: {}}},
        {"edge_api_keys": {int(NUMBER_KEY): KEY}},
        {"edge_client_limits": {int(NUMBER_KEY): {}}},
    ],
)
def test_no_sentence_repeats_a_key_in_the_place_of_a_name(changes: dict[str, Any]) -> None:
    found = problems(changes)
    assert found
    secrets = (SECRET_KEY, NUMBER_KEY)
    assert not [line for line in found for secret in secrets if secret in line.lower()]


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 2),
        ({"edge_plain_http": True}, 1),
        ({"edge_api_keys": {"a": KEY}}, 1),
        ({"edge_plain_http": True, "edge_api_keys": {"a": KEY}}, 0),
        (FILES, 1),
        (FILES | {"edge_api_keys": {"a": KEY}}, 0),
        (SELF_SIGNED | {"edge_api_keys": {"a": KEY}}, 0),
    ],
)
@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", "::"])
def test_an_edge_that_others_reach_needs_encryption_or_consent_and_keys(
    changes: dict[str, Any], count: int, address: str
) -> None:
    found = problems(changes | {"edge_listen_address": address})
    assert len(found) == count
    assert all(
        f"edge_listen_address is {address}, which other machines reach" in one for one in found
    )


# -- edge and engines ----------------------------------------------------------------------------


def test_ports_of_an_edge_elsewhere_are_free_for_an_engine() -> None:
    for port in (8080, 80):
        assert (
            problems(ACME | instance(port=port) | {"vllm_api_key": THIRD_KEY}, groups=FLEET) == []
        )


def test_only_an_edge_is_asked_for_the_paths_that_prove_it() -> None:
    changes = {"edge_paths": ["chat/completions"], "vllm_api_key": KEY}
    assert problems(changes, "gpu-1", FLEET) == []
    others = {"gpu-1": changes, "gpu-2": changes}
    assert len(problems(changes, "edge-1", FLEET, others)) == 1


def test_an_edge_elsewhere_says_itself_what_it_lacks() -> None:
    exposed = {"edge_listen_address": "0.0.0.0", "vllm_api_key": KEY}
    assert problems(exposed, "gpu-1", FLEET) == []
    others = {"gpu-1": exposed, "gpu-2": exposed}
    assert len(problems(exposed, "edge-1", FLEET, others)) == 2


def test_edges_have_names_of_their_own_for_an_authority() -> None:
    groups = {"gpu_hosts": ["gpu-1"], "edge_hosts": ["edge-1", "edge-2"]}
    keys = {"vllm_api_key": THIRD_KEY}
    others = {"gpu-1": keys, "edge-1": ACME}

    def edge_2(**changes: Any) -> list[str]:
        return problems(ACME | keys | changes, "edge-2", groups, others)

    assert edge_2() == [
        "edge-2: edge_server_names has llm.example.net, as on edge-1, but edge_tls is acme, whose"
        " authority asks one of them; give each edge a name of its own, or bring one certificate to"
        " all of them and set edge_tls: files."
    ]
    assert edge_2(edge_server_names=["edge-2.example.net"]) == []
    assert edge_2(**FILES) == []


def test_a_variable_belongs_to_the_role_of_the_longest_name() -> None:
    (found,) = problems({"edge_vip_zzzzzzzzzz": 1})
    assert "names with edge_vip_ in front are that role's, see its README." in found


def fleet(**gpu_2: Any) -> list[str]:
    """What an edge says of gpu-2, beside a gpu-1 that is right."""
    key = {"vllm_api_key": KEY}
    return problems(key, "edge-1", FLEET, {"gpu-1": key, "gpu-2": key | gpu_2})


def test_an_edge_in_front_of_replicas_is_right() -> None:
    assert fleet() == []


def test_an_edge_fronts_several_models() -> None:
    assert fleet(**instance(name="gpt-oss-120b")) == []
    assert problems({"vllm_instances": [ONE, ONE | {"name": "b", "port": 8001}]}) == []


def test_an_edge_can_tell_its_models() -> None:
    assert fleet(**instance(name="gpt.oss-20b")) == [
        "edge-1: its edge cannot tell gpt-oss-20b (gpu-1) from gpt.oss-20b (gpu-2), as nginx's"
        " names have one sign for dots and dashes; rename one of them."
    ]
    assert fleet(**instance(name="gpt.oss-20b", state="absent")) == []


def test_an_edge_knows_its_models() -> None:
    others = dict.fromkeys(FLEET["gpu_hosts"], BASE)
    others["gpu-2"] = BASE | {"vllm_instances": [ONE, ONE | {"name": "b", "port": 8001}]}
    assert edge_models("edge-1", BASE, FLEET, others) == ["b", "gpt-oss-20b"]
    assert edge_models("gpu-2", others["gpu-2"], FLEET, {}) == []
    assert edge_models("gpu-1", BASE, ALONE, {}) == ["gpt-oss-20b"]


LORA = {"enable-lora": True}
SQL = "sql=/models/sql"


def test_an_edge_fronts_adapters_of_several_models() -> None:
    other = instance(name="gpt-oss-120b", options=LORA | {"lora-modules": ["law=/models/law"]})
    assert fleet(**other) == []


def test_an_edge_can_tell_an_adapter_from_a_model() -> None:
    options = {"lora_modules": ['{"name": "gpt-oss-20b", "path": "/models/b"}', SQL]}
    assert fleet(**instance(name="gpt-oss-120b", options=LORA | options)) == [
        "edge-1: its edge cannot tell gpt-oss-20b, an adapter of gpt-oss-120b, from the instance on"
        " gpu-1; rename one of them."
    ]


def test_an_edge_can_tell_adapters_of_several_models() -> None:
    options = LORA | {"lora-modules": [SQL]}
    both = [ONE | {"options": options}, ONE | {"name": "b", "port": 8001, "options": options}]
    assert problems({"vllm_instances": both}) == [
        "gpu-1: its edge cannot tell sql, an adapter of b, from an adapter of gpt-oss-20b; rename"
        " one of them."
    ]


def test_engines_of_one_name_have_the_same_adapters() -> None:
    assert fleet(**instance(options=LORA | {"lora-modules": [SQL]})) == [
        "edge-1: gpt-oss-20b has LoRA adapters sql on gpu-2, none on gpu-1, and its edge asks"
        " either of them; give both the same lora-modules."
    ]


def test_one_name_stands_for_all_engines() -> None:
    assert problems(instance(name="all")) == [
        "gpu-1: an instance of gpu-1 is called all, by which its edge means all engines together;"
        " give it another name."
    ]


def test_an_absent_instance_is_not_fronted() -> None:
    assert fleet(**instance(name="all", state="absent")) == []


def test_engines_keep_connections_longer_than_their_edge() -> None:
    assert fleet(vllm_http_keep_alive=60) == [
        "gpu-2: vllm_http_keep_alive is 60; it must be above edge_upstream_keepalive_timeout, which"
        " is 60 on edge-1."
    ]


def test_the_internal_key_is_one_for_the_fleet() -> None:
    (found,) = fleet(vllm_api_key="another" * 5)
    assert found.startswith("edge-1: vllm_api_key differs from the one of gpu-2, which it fronts;")
    assert "another" not in found
