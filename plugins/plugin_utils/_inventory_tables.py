# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What single values of an inventory may be: ranges, patterns, and names that have changed."""

from __future__ import annotations

# Smallest and largest value; None is no limit. Times are seconds.
RANGES: dict[str, tuple[int, int | None]] = {
    "edge_acme_port": (1, 65535),
    # nginx takes 65535 connections at most for a limit.
    "edge_address_connections": (0, 65535),
    "edge_client_burst": (0, 1_000_000),
    "edge_client_concurrency": (0, 65535),
    "edge_client_rate": (0, 1_000_000),
    "edge_max_stream": (1, None),
    "edge_port": (1, 65535),
    "edge_proxy_read_timeout": (1, None),
    "edge_upstream_keepalive": (1, None),
    "edge_upstream_keepalive_timeout": (1, None),
    # The virtual router's own number is 255, and none of these hosts owns the address.
    "edge_vip_priority": (0, 254),
    "edge_vip_router_id": (1, 255),
    # Each worker may open twice as many files, which the unit allows.
    "edge_worker_connections": (16, 65535),
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

# Keys of an entry of edge_client_limits; each has the range of edge_client_<key>.
CLIENT_LIMITS = ("rate", "burst", "concurrency")

# Pattern of a whole value, and how a sentence describes it.
_FINGERPRINT = (r"[0-9A-Fa-f]{40}", "fingerprints in full, of 40 hex digits each")
_LOCATION = (r"((https?|file)://\S+)?", "an address that starts with https://, http:// or file://")
# nginx's unit sees neither homes nor the host's /tmp; /etc/nginx/vllm is the role's own.
_EDGE_FILE = (
    r"((?!/(home|root|tmp|var/tmp|run/user|etc/nginx/vllm)(/|$))(?!.*/\.\.(/|$))(/[\w.+@-]+)+)?",
    "an absolute path on the edge host without spaces, not below /home, /root, /tmp or"
    " /etc/nginx/vllm, such as /etc/ssl/private/edge.pem",
)
PATTERNS: dict[str, tuple[str, str]] = {
    "container_toolkit_key_fingerprints": _FINGERPRINT,
    "container_toolkit_key_url": _LOCATION,
    "container_toolkit_repository": _LOCATION,
    "container_toolkit_version": (r"\d+\.\d+\.\d+", "a release in full, such as 1.20.1"),
    "docker_engine_key_fingerprints": _FINGERPRINT,
    "docker_engine_key_url": _LOCATION,
    "docker_engine_repository": _LOCATION,
    "docker_engine_version": (r"\d+\.\d+\.\d+", "a release in full, such as 29.9.0"),
    "edge_acme_ca": (r"((/[\w.+@-]+)+)?", "an absolute path on the edge host, or empty"),
    # RFC 8555: an authority is spoken to by https only.
    "edge_acme_directory": (
        r"https://[^\s@?#'\"\\]+",
        "an address that starts with https:// and carries no password",
    ),
    "edge_acme_email": (
        r"([\w.+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)?",
        "one mail address, such as ops@example.net, or empty",
    ),
    # It is a size of buffers, too, for which nginx knows no g.
    "edge_client_max_body_size": (r"[1-9][0-9]*[km]?", "a size as nginx writes it, such as 8m"),
    # nginx drops headers whose name has an underscore.
    "edge_session_header": (
        r"([A-Za-z0-9][A-Za-z0-9-]{0,63})?",
        "the name of a header of letters, digits and dashes, such as X-Session-Id, or empty",
    ),
    "edge_tls_certificate": _EDGE_FILE,
    "edge_tls_key": _EDGE_FILE,
    "edge_vip_interface": (
        r"([\w.:-]{1,15})?",
        "the name of a network interface, such as eth0, or empty",
    ),
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


def out_of_range(name: str, value: int) -> str:
    """What is wrong with the value of a variable in RANGES; empty where nothing is."""
    low, high = RANGES[name]
    if value < low or (high is not None and value > high):
        allowed = f"{low} to {high}" if high is not None else f"{low} or more"
        return f"is {value}; allowed are {allowed}."
    return ""
