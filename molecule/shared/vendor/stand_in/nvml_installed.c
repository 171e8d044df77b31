/* SPDX-License-Identifier: Apache-2.0
 * Copyright (c) 2026 baremetal.vllm contributors
 *
 * The stand-in for NVML as a driver package installs it: it belongs to one driver release, wants
 * the kernel module of the same, and shows the GPUs whose device nodes it may open.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define nvmlInitWithFlags described_init_with_flags
#define nvmlInit_v2 described_init
#include "../../nvml/stand_in.c"
#undef nvmlInitWithFlags
#undef nvmlInit_v2

#define LOADED "/run/lab-machine/nvml.txt" /* what the machine's kernel has loaded */
#define FABRIC "/run/lab-machine/fabric"   /* there while the fabric manager runs */
enum { DRIVER_NOT_LOADED = 9, LIB_RM_VERSION_MISMATCH = 18 };

/* A node whose device the cgroup denies is EPERM; one that it allows has no driver: ENXIO. */
static int is_given(const Section *gpu)
{
    char path[64];
    const char *minor = find(gpu, "minor");
    int file;
    snprintf(path, sizeof path, "/dev/nvidia%s", minor ? minor : "");
    file = open(path, O_RDWR | O_CLOEXEC);
    if (file >= 0)
        close(file);
    return file >= 0 || errno == ENXIO || errno == ENODEV;
}

static void keep_those_given(void)
{
    int kept = 1;
    for (int i = 1; i < section_count; i++) {
        if (!sections[i].gpu && !is_given(&sections[i]))
            continue;
        if (i != kept)
            sections[kept] = sections[i];
        kept++;
    }
    section_count = kept;
}

/* Without the fabric manager NVSwitches are never ready: state 2 is "in progress". */
static void await_fabric(void)
{
    for (int i = 1; i < section_count; i++)
        if (find(&sections[i], "fabric") && access(FABRIC, F_OK))
            put(&sections[i], "fabric", "2 0");
}

int nvmlInitWithFlags(unsigned flags)
{
    const char *loaded;
    int result;
    if (users)
        return described_init_with_flags(flags);
    if (access(LOADED, R_OK)) {
        memset(SYSTEM, 0, sizeof *SYSTEM);
        put(SYSTEM, "nvml_version", "13." RELEASE);
        return DRIVER_NOT_LOADED;
    }
    setenv("NVML_STAND_IN", LOADED, 1);
    result = described_init_with_flags(flags);
    put(SYSTEM, "nvml_version", "13." RELEASE);
    if (result != SUCCESS)
        return result;
    loaded = find(SYSTEM, "driver_version");
    if (!loaded || strcmp(loaded, RELEASE)) {
        users = 0;
        return LIB_RM_VERSION_MISMATCH;
    }
    keep_those_given();
    await_fabric();
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
