# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The lab: systemd containers that stand for bare-metal hosts, and what they need around them."""
