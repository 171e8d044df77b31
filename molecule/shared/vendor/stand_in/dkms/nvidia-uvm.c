/* SPDX-License-Identifier: (GPL-2.0 OR MIT)
 * Copyright (c) 2026 baremetal.vllm contributors
 */
#include <linux/module.h>

MODULE_DESCRIPTION("Stand-in for NVIDIA's kernel module");
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION("@RELEASE@");
