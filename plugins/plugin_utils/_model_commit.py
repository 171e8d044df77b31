# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Which commit a model's branch or tag names now, asked of the hub that has it."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import split_model
from ansible_collections.baremetal.vllm.plugins.plugin_utils._pins import is_commit
from ansible_collections.baremetal.vllm.plugins.plugin_utils._web import (
    Answer,
    CertificatesError,
    UnreachableError,
    UntrustedError,
    ask,
    trust,
)

HUB = "https://huggingface.co"

_BRANCH = "main"


class ModelError(Exception):
    """The commit cannot be had; the text is one sentence for the operator."""


def commit_of(model: str, provider: str, endpoint: str, token: str = "", ca_path: str = "") -> str:
    """The commit (40 hex digits) of what a model's revision names at this moment.

    :param model: ``org/name`` or ``org/name@revision``.
    :param provider: where it comes from; only ``huggingface`` names commits over an API.
    :param endpoint: address of the hub; empty for huggingface.co.
    :param token: of the hub; empty for none.
    :param ca_path: PEM file of authorities to believe beside those of the system; empty for none.
    :raises ModelError: always one sentence.
    """
    if provider != "huggingface":
        raise ModelError(
            f"Model {model} cannot be pinned: commits are asked of huggingface only, and"
            f" model_store_provider is {provider}; write the commit after the model: {model}@..."
        )
    name, revision = split_model(model)
    endpoint = endpoint.rstrip("/") or HUB
    host = urlsplit(endpoint).netloc.rpartition("@")[2] or endpoint
    path = f"/api/models/{quote(name)}/revision/{quote(revision or _BRANCH, safe='')}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = ask("GET", endpoint + path, trust(ca_path), headers)
    except CertificatesError as error:
        raise ModelError(str(error)) from None
    except UntrustedError as error:
        raise ModelError(
            f"Hub {host} cannot be trusted for model {model}; name the file with its authority's"
            f" certificate in model_store_ca: {error}."
        ) from None
    except UnreachableError as error:
        raise ModelError(
            f"Hub {host} cannot be reached from this machine for model {model}; check"
            f" model_store_endpoint, DNS, the route and https_proxy: {error}."
        ) from None
    if answer.status != 200:
        raise ModelError(_refusal(host, model, answer, bool(token)))
    return _commit(host, model, answer)


def _commit(host: str, model: str, answer: Answer) -> str:
    try:
        commit = str(json.loads(answer.body)["sha"])
    except (ValueError, KeyError, TypeError):
        commit = ""
    if not is_commit(commit):
        raise ModelError(
            f"Hub {host} names no commit for model {model}; check that model_store_endpoint is the"
            " address of a hub with the API of huggingface.co."
        )
    return commit


def _refusal(host: str, model: str, answer: Answer, with_token: bool) -> str:
    name, revision = split_model(model)
    revision = revision or _BRANCH
    code = answer.headers.get("X-Error-Code", "")
    if code == "RevisionNotFound":
        return (
            f"Hub {host} has no revision {revision} of model {name}; see which branches and tags it"
            " has, and correct vllm_instances."
        )
    if answer.status == 429:
        return (
            f"Hub {host} refuses to tell about model {model} because of its rate limit; give a"
            " token in model_store_token, use a mirror, or wait."
        )
    # To those without a token, huggingface.co says 401 of a model that does not exist.
    if answer.status in (401, 403):
        who = "with this token" if with_token else "without a token"
        return (
            f"Hub {host} does not let us see model {model} {who}; check its name, and give a token"
            " in model_store_token whose account may read it."
        )
    if answer.status == 404:
        return f"Hub {host} has no model {name}, or no {revision} of it; correct vllm_instances."
    return (
        f"Hub {host} answered {answer.status} for model {model}; try again, and see its status page"
        " where it stays so."
    )
