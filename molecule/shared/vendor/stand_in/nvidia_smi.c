/* SPDX-License-Identifier: Apache-2.0
 * Copyright (c) 2026 baremetal.vllm contributors
 *
 * nvidia-smi, as far as the tests ask: nothing or -L lists the GPUs, -q tells of the fabric, -lgc
 * and -rgc keep what they are told in a file. Messages and exit statuses are those of NVIDIA's.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define CLOCKS "/run/lab-machine/clocks"

typedef int (*Function)();

static void *library;

static Function nvml(const char *name)
{
    return (Function)dlsym(library, name);
}

static int fail(int code)
{
    if (code == 9)
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make "
             "sure that the latest NVIDIA driver is installed and running.\n");
    else
        printf("Failed to initialize NVML: %s\n",
               code == 18 ? "Driver/library version mismatch" : "Unknown Error");
    return code;
}

static int list(void)
{
    unsigned count = 0;
    char name[96], uuid[96];
    void *device;
    nvml("nvmlDeviceGetCount_v2")(&count);
    if (!count)
        puts("No devices found.");
    for (unsigned i = 0; i < count; i++) {
        nvml("nvmlDeviceGetHandleByIndex_v2")(i, &device);
        nvml("nvmlDeviceGetName")(device, name, (unsigned)sizeof name);
        nvml("nvmlDeviceGetUUID")(device, uuid, (unsigned)sizeof uuid);
        printf("GPU %u: %s (UUID: %s)\n", i, name, uuid);
    }
    return count ? 0 : 6;
}

static int report(void)
{
    static const char *const states[] = {"N/A", "Not Started", "In Progress", "Completed"};
    struct {
        unsigned version;
        unsigned char cluster[16];
        unsigned status, clique, state, health;
    } fabric;
    unsigned count = 0;
    void *device;
    nvml("nvmlDeviceGetCount_v2")(&count);
    for (unsigned i = 0; i < count; i++) {
        nvml("nvmlDeviceGetHandleByIndex_v2")(i, &device);
        memset(&fabric, 0, sizeof fabric);
        fabric.version = sizeof fabric | 2 << 24;
        nvml("nvmlDeviceGetGpuFabricInfoV")(device, &fabric);
        printf("GPU %u\n    Fabric\n        State                             : %s\n"
               "        Status                            : %s\n",
               i, states[fabric.state & 3], fabric.state == 3 ? "Success" : "N/A");
    }
    return 0;
}

static int lock_clocks(const char *range)
{
    FILE *file = fopen(CLOCKS, "w");
    if (!file)
        return 4;
    fprintf(file, "%s\n", range);
    fclose(file);
    printf("GPU clocks set to \"%s\".\nAll done.\n", range);
    return 0;
}

int main(int count, char **arguments)
{
    char version[96] = "";
    int code;
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        puts("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure "
             "that the NVIDIA Display Driver is properly installed and present in your system.");
        return 12;
    }
    code = nvml("nvmlInit_v2")();
    if (code)
        return fail(code);
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "-q"))
            return report();
        if (!strncmp(arguments[i], "--lock-gpu-clocks=", 18))
            return lock_clocks(arguments[i] + 18);
        if (!strcmp(arguments[i], "-lgc") && i + 1 < count)
            return lock_clocks(arguments[i + 1]);
        if (!strcmp(arguments[i], "-rgc") || !strcmp(arguments[i], "--reset-gpu-clocks"))
            return lock_clocks("reset");
    }
    if (count < 2 || strcmp(arguments[1], "-L")) {
        nvml("nvmlSystemGetDriverVersion")(version, (unsigned)sizeof version);
        printf("NVIDIA-SMI %s   Driver Version: %s   CUDA Version: 13.0\n", RELEASE, version);
    }
    return list();
}
