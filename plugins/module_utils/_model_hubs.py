# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What hubs say of a model: Hugging Face with its mirrors, and ModelScope.

The shapes of their answers are those that their own clients read: huggingface_hub 2.4.0
(C(HfApi.model_info) and C(hf_raise_for_status)) and modelscope_hub 1.40 (C(list_repo_files)).
"""

from __future__ import annotations

import hashlib
import json
import typing as t
import urllib.parse

from ansible_collections.baremetal.vllm.plugins.module_utils._model_listing import (
    COMMIT,
    File,
    Model,
    Snapshot,
    checked_file,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import (
    Answer,
    Client,
    SourceError,
    shown,
)

_IS_IT_A_HUB = "check that endpoint is the address of a hub and provider its kind"

_MOST_FILES = 3000
"""Entries after which ModelScope cuts a listing off without a word, as its own client notes."""

_NO_SUCH_REVISION = 10990101004
"""ModelScope's code for a revision without files; all that cannot be read is a 404 there."""


class HuggingFaceSource:
    """A hub with the API of huggingface.co."""

    def __init__(self, client: Client, endpoint: str, has_token: bool) -> None:
        self._client = client
        self._endpoint = endpoint
        self._has_token = has_token

    def snapshot(self, model: Model) -> Snapshot:
        """Return what the hub has of a model; raise SourceError."""
        revision = urllib.parse.quote(model.revision, safe="")
        url = f"{self._endpoint}/api/models/{model.identifier}/revision/{revision}?blobs=true"
        answer = self._client.get(url)
        if answer.status != 200:
            raise self._refusal(model, url, answer)
        content = _json(url, answer)
        commit = content.get("sha")
        if not isinstance(commit, str) or not COMMIT.match(commit):
            raise SourceError(f"{shown(url)} names no commit; {_IS_IT_A_HUB}.")
        if model.is_pinned and commit != model.revision:
            raise SourceError(
                f"{shown(url)} answers with commit {commit} instead; a mirror must serve the"
                " revision that it is asked for."
            )
        siblings = content.get("siblings")
        if not isinstance(siblings, list) or not siblings:
            raise SourceError(f"{shown(url)} lists no files; {_IS_IT_A_HUB}.")
        return Snapshot(commit, tuple(self._file(model, commit, each) for each in siblings))

    def _file(self, model: Model, commit: str, sibling: object) -> File:
        entry = sibling if isinstance(sibling, dict) else {}
        path, lfs = entry.get("rfilename"), entry.get("lfs")
        large = lfs if isinstance(lfs, dict) else {}
        # The blob of a file in LFS is the pointer to it, so its name says nothing of the content.
        blob = None if large else entry.get("blobId")
        size = large.get("size", entry.get("size"))
        url = f"{self._endpoint}/{model.identifier}/resolve/{commit}/{_quoted(path)}"
        return checked_file(model, path, size, large.get("sha256"), blob, url)

    def _refusal(self, model: Model, url: str, answer: Answer) -> SourceError:
        """Return the sentence for an answer other than 200.

        Without a token the hub says 401 of a model that does not exist too, so that nobody learns
        the names of private ones.
        """
        page = f"{self._endpoint}/{model.identifier}"
        code, message = answer.header("X-Error-Code"), answer.header("X-Error-Message")
        who = f"{model.identifier} cannot be read from {self._endpoint}"
        if code == "GatedRepo":
            token = (
                "with the account of the token, and let the token read gated repositories"
                if self._has_token
                else "and give the token of an account that has done so"
            )
            return SourceError(f"{who}: it is gated; accept its terms at {page} {token}.")
        if code == "RevisionNotFound":
            return SourceError(
                f"{page} has no revision {model.revision}; give one of its branches, tags or"
                " commits after the @."
            )
        if message == "Access to this resource is disabled.":
            return SourceError(f"{who}: the hub has disabled it; choose another model.")
        if answer.status == 401 and not self._has_token:
            return SourceError(
                f"{who}: the hub answers 401, so it does not exist, or it is private or gated and"
                " needs a token; check the name, or give token."
            )
        if answer.status == 401:
            return SourceError(
                f"{who}: the hub answers 401, so it does not accept the token; give one that is"
                " valid."
            )
        if answer.status == 403:
            advice = "the token may not read it; give one that may"
            if not self._has_token:
                advice = "it needs a token; give one that may read it"
            return SourceError(f"{who}: the hub answers 403, so {advice}.")
        if code == "RepoNotFound":
            return SourceError(
                f"{who}: it does not exist there, or is private and not for"
                f" {'this token' if self._has_token else 'those without a token'}; check the name"
                f" and {'what the token may read' if self._has_token else 'give token'}."
            )
        return SourceError(f"{shown(url)} answers {answer.status}; {_IS_IT_A_HUB}.")


class ModelScopeSource:
    """ModelScope, which has a sha256 for every file but seldom the whole name of a commit."""

    def __init__(self, client: Client, endpoint: str, has_token: bool) -> None:
        self._client = client
        self._endpoint = endpoint
        self._has_token = has_token

    def snapshot(self, model: Model) -> Snapshot:
        """Return what the hub has of a model; raise SourceError."""
        api = f"{self._endpoint}/api/v1/models/{model.identifier}/repo"
        revision = urllib.parse.quote(model.revision, safe="")
        url = f"{api}/files?Revision={revision}&Recursive=True"
        data = self._data(model, url)
        entries = data.get("Files")
        # An unknown revision is a success with null for its files.
        if entries is None:
            raise self._no_revision(model)
        if not isinstance(entries, list) or not entries:
            raise SourceError(f"{shown(url)} lists no files; {_IS_IT_A_HUB}.")
        if len(entries) >= _MOST_FILES:
            raise SourceError(
                f"{shown(url)} lists no more than {_MOST_FILES} files and folders, and"
                f" {model.identifier} has as many or more; take it from another source."
            )
        known = [entry if isinstance(entry, dict) else {} for entry in entries]
        blobs = [entry for entry in known if entry.get("Type") != "tree"]
        commit = _head_commit(model, data, blobs)
        # A branch may move on until the download; its commit does not.
        content = urllib.parse.quote(commit or model.revision, safe="")
        files = tuple(
            checked_file(
                model,
                entry.get("Path"),
                entry.get("Size"),
                entry.get("Sha256"),
                None,
                f"{api}?Revision={content}&FilePath={_quoted(entry.get('Path'), safe='')}",
            )
            for entry in blobs
        )
        return Snapshot(commit or _derived_commit(files), files)

    def _data(self, model: Model, url: str) -> dict[str, t.Any]:
        answer = self._client.get(url)
        if answer.status in (401, 403, 404):
            try:
                code = json.loads(answer.body).get("Code")
            except (ValueError, AttributeError, RecursionError):
                code = None
            if code == _NO_SUCH_REVISION:
                raise self._no_revision(model)
            advice = "what the token may read" if self._has_token else "give token"
            raise SourceError(
                f"{model.identifier} cannot be read from {self._endpoint}: the hub answers"
                f" {answer.status}, so it does not exist there, or is private or gated and not for"
                f" {'this token' if self._has_token else 'those without a token'}; check the name"
                f" and {advice}."
            )
        if answer.status != 200:
            raise SourceError(f"{shown(url)} answers {answer.status}; {_IS_IT_A_HUB}.")
        content = _json(url, answer)
        data = content.get("Data")
        if content.get("Code") != 200 or not isinstance(data, dict):
            raise SourceError(
                f"{shown(url)} answers 200 without a listing (its code is {content.get('Code')!r});"
                f" {_IS_IT_A_HUB}."
            )
        return data

    def _no_revision(self, model: Model) -> SourceError:
        return SourceError(
            f"{self._endpoint}/models/{model.identifier} has no revision {model.revision}; give one"
            " of its branches, tags or commits after the @ (the branch of most is called master)."
        )


def _json(url: str, answer: Answer) -> dict[str, t.Any]:
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise SourceError(f"{shown(url)} answers 200, but not with JSON; {_IS_IT_A_HUB}.")
    return content


def _quoted(path: object, safe: str = "/") -> str:
    """Return a name for an address; one that is no text is refused together with its file."""
    return urllib.parse.quote(path, safe, errors="replace") if isinstance(path, str) else ""


def _head_commit(
    model: Model, data: t.Mapping[str, t.Any], blobs: t.Iterable[t.Mapping[str, t.Any]]
) -> str:
    """Return the commit of a listing of ModelScope, empty where it does not tell.

    The listing has the commit's first digits (C(LatestCommitter.ShortId); its C(Id) is mostly
    empty), and for every file the commit that wrote it, the last of which is the one looked for.
    """
    if model.is_pinned:
        return model.revision
    latest = data.get("LatestCommitter")
    told = latest if isinstance(latest, dict) else {}
    whole, short = str(told.get("Id") or ""), str(told.get("ShortId") or "")
    if COMMIT.match(whole):
        return whole
    found = {str(entry.get("Revision") or "") for entry in blobs}
    matches = [each for each in found if short and COMMIT.match(each) and each.startswith(short)]
    return matches[0] if len(matches) == 1 else ""


def _derived_commit(files: t.Iterable[File]) -> str:
    """Return what names these contents for ever where the hub has no name for them."""
    lines = sorted(f"{file.path}\0{file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:40]
