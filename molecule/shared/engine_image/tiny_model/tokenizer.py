# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""o200k_harmony as a tokenizer.json, from the ranks that the oss-harmony package embeds."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path

from openai_harmony import load_harmony_encoding
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

BASE_TOKENS, NAMED_TOKENS = 199998, 200019
"""Ids below the first belong to o200k_base, below the second to the tokenizer of gpt-oss; the
rest of the vocabulary is padding."""
RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""Checksum of o200k_base.tiktoken, as in tiktoken's and harmony's own sources."""
PATTERN = "|".join(  # o200k_base in tiktoken_ext/openai_public.py
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


def make() -> Tokenizer:
    """The converted tokenizer. Raises ValueError if the embedded ranks are not o200k_base."""
    harmony = load_harmony_encoding("HarmonyGptOss")
    # The package has no public way to the bytes of one token.
    decode = harmony._inner.decode_bytes
    ranks = b"".join(
        base64.b64encode(bytes(decode([token]))) + b" %d\n" % token for token in range(BASE_TOKENS)
    )
    if hashlib.sha256(ranks).hexdigest() != RANKS_SHA256:
        raise ValueError("the ranks inside oss-harmony are not o200k_base: check its version")
    special = [bytes(decode([token])).decode() for token in range(BASE_TOKENS, NAMED_TOKENS)]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "o200k_base.tiktoken")
        file.write_bytes(ranks)
        return TikTokenConverter(
            vocab_file=str(file), pattern=PATTERN, extra_special_tokens=special
        ).converted()
