/* SPDX-License-Identifier: (GPL-2.0 OR MIT)
 * Copyright (c) 2026 baremetal.vllm contributors
 *
 * A module that does nothing, with the name, version and aliases of NVIDIA's: DKMS builds it
 * against a real kernel's headers, and the lab's machine shows it as loaded.
 */
#include <linux/module.h>
#include <linux/pci.h>

static const struct pci_device_id devices[] = {
    {PCI_DEVICE(0x10de, PCI_ANY_ID), .class = 0x030000, .class_mask = 0xffff00},
    {PCI_DEVICE(0x10de, PCI_ANY_ID), .class = 0x030200, .class_mask = 0xffff00},
    {},
};
MODULE_DEVICE_TABLE(pci, devices);
MODULE_DESCRIPTION("Stand-in for NVIDIA's kernel module");
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION("@RELEASE@");
