# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What single values of an inventory may be: ranges, patterns, and names that have changed."""

from __future__ import annotations

# Smallest and largest value; None is no limit. Times are seconds.
RANGES: dict[str, tuple[int, int | None]] = {
    "edge_max_stream": (1, None),
    "edge_port": (1, 65535),
    "edge_proxy_read_timeout": (1, None),
    "edge_upstream_keepalive": (1, None),
    "edge_upstream_keepalive_timeout": (1, None),
    "edge_worker_connections": (16, None),
    "edge_worker_processes": (1, None),
    "model_store_seed_port": (1, 65535),
    "model_store_timeout": (1, None),
    "model_store_workers": (1, 64),
    "preflight_min_free_gib": (0, None),
    "vllm_http_keep_alive": (1, None),
    "vllm_pull_timeout": (1, None),
    "vllm_ready_timeout": (1, None),
    "vllm_shm_size_gib": (1, None),
    "vllm_shutdown_timeout": (1, None),
}

# Pattern of a whole value, and how a sentence describes it.
_FINGERPRINT = (r"[0-9A-Fa-f]{40}", "fingerprints in full, of 40 hex digits each")
_LOCATION = (r"((https?|file)://\S+)?", "an address that starts with https://, http:// or file://")
PATTERNS: dict[str, tuple[str, str]] = {
    "container_toolkit_key_fingerprints": _FINGERPRINT,
    "container_toolkit_key_url": _LOCATION,
    "container_toolkit_repository": _LOCATION,
    "container_toolkit_version": (r"\d+\.\d+\.\d+", "a release in full, such as 1.20.1"),
    "docker_engine_key_fingerprints": _FINGERPRINT,
    "docker_engine_key_url": _LOCATION,
    "docker_engine_repository": _LOCATION,
    "docker_engine_version": (r"\d+\.\d+\.\d+", "a release in full, such as 29.9.0"),
    "edge_client_max_body_size": (r"[1-9][0-9]*[kmg]?", "a size as nginx writes it, such as 8m"),
    "host_tuning_cpu_governor": (
        r"[a-z_]*",
        "the name of a governor, such as performance, or empty",
    ),
    "host_tuning_gpu_clock_lock": (
        r"([0-9]{2,5},[0-9]{2,5})?",
        "the lowest and the highest clock in MHz, such as '1200,1500', or empty",
    ),
    "model_store_ca": (r"((/[\w.+@-]+)+)?", "an absolute path on the host, or empty"),
    # It becomes a mount of a container, and holds nothing but models.
    "model_store_directory": (
        r"(?!/(home|root|tmp|var/tmp|usr|etc|boot|dev|proc|sys|run)(/|$))(?!.*/\.\.(/|$))"
        r"(?!/var/(lib|log|cache)$)(/[\w.+@-]+){2,}",
        "an absolute path without spaces, of its own and not below /home, /root, /tmp or the"
        " system's, such as /var/lib/vllm/models",
    ),
    "model_store_endpoint": (
        r"(https?://[^\s@?#]+)?",
        "an address that starts with https:// or http:// and carries no password",
    ),
    "nvidia_driver_key_fingerprints": _FINGERPRINT,
    "nvidia_driver_key_url": _LOCATION,
    "nvidia_driver_repository": _LOCATION,
    "nvidia_driver_version": (
        r"\d{3}\.\d{2,3}(\.\d{2,3})?",
        "a release in full, such as 580.178.04",
    ),
    "bundle_directory": (r"(/.*)?", "an absolute path on the controller, such as /srv/bundle"),
    "vllm_config_directory": (
        r"(/[\w.+@-]+)+",
        "an absolute path without spaces, such as /etc/vllm",
    ),
    "vllm_container_user": (r"[0-9]+(:[0-9]+)?", "a user and a group as numbers, such as '2000:0'"),
    # The unit sees neither homes nor the host's /tmp.
    "vllm_state_directory": (
        r"(?!/(home|root|tmp|var/tmp)(/|$))(/[\w.+@-]+)+",
        "an absolute path without spaces, not below /home, /root or /tmp, such as /var/lib/vllm",
    ),
}

ADDRESSES = ("edge_listen_address", "vllm_address")
# They become headers, lines of an environment file and parts of nginx's configuration.
SECRETS = (
    "model_store_s3_access_key",
    "model_store_s3_secret_key",
    "model_store_token",
    "vllm_api_key",
)
# Variables that were called otherwise before, and the release that gave them their name.
RENAMED = {"vllm_hf_token": ("model_store_token", "0.3.0")}
