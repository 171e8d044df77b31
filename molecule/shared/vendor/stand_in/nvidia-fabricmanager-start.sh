#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
# Stands for the fabric manager of one driver release, with the refusals of NVIDIA's.
loaded=$(cat /sys/module/nvidia/version 2>/dev/null)
switches=$(grep -l '^0x0680' /sys/bus/pci/devices/*/class 2>/dev/null)
managed=$(grep -l SW_MNG /sys/bus/pci/devices/*/vpd 2>/dev/null)
if [ -z "$loaded" ]; then
    echo "request to query NVSwitch device information from NVSwitch driver failed with error:WARNING" \
        "Nothing to do [NV_WARN_NOTHING_TO_DO]" >&2
    exit 1
fi
if [ "$loaded" != "@RELEASE@" ]; then
    echo "fabric manager NVIDIA GPU driver interface version @RELEASE@ don't match with driver version" \
        "$loaded. Please update with matching NVIDIA driver package." >&2
    exit 1
fi
if [ -z "$switches$managed" ]; then
    echo "request to query NVSwitch device information from NVSwitch driver failed with error:WARNING" \
        "Nothing to do [NV_WARN_NOTHING_TO_DO]" >&2
    exit 1
fi
if [ -n "$managed" ] && [ ! -x /opt/nvidia/nvlsm/sbin/nvlsm ]; then
    echo "NVLSM is not installed, which this system needs." >&2
    exit 1
fi
mkdir -p /run/nvidia-fabricmanager
sleep infinity &
echo $! >/run/nvidia-fabricmanager/nv-fabricmanager.pid
touch /run/lab-machine/fabric
