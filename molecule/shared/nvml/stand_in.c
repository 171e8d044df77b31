/* SPDX-License-Identifier: Apache-2.0
 * Copyright (c) 2026 baremetal.vllm contributors
 *
 * A stand-in for NVIDIA's management library: nvidia-ml-py loads it as libnvidia-ml.so.1 and sees
 * the machine that the file named by NVML_STAND_IN describes. README.md explains the format.
 *
 * Types and numbers are those of NVML's public ABI (nvml.h, as nvidia-ml-py 13.615.71 calls it).
 * A function that is not here is to nvidia-ml-py one that the driver is too old for.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

static const struct {
    int code;
    const char *name;
    const char *text;
} errors[] = {
    {0, "SUCCESS", "Success"},
    {1, "UNINITIALIZED", "Uninitialized"},
    {2, "INVALID_ARGUMENT", "Invalid Argument"},
    {3, "NOT_SUPPORTED", "Not Supported"},
    {4, "NO_PERMISSION", "Insufficient Permissions"},
    {6, "NOT_FOUND", "Not Found"},
    {7, "INSUFFICIENT_SIZE", "Insufficient Size"},
    {8, "INSUFFICIENT_POWER", "Insufficient External Power"},
    {9, "DRIVER_NOT_LOADED", "Driver Not Loaded"},
    {10, "TIMEOUT", "Timeout"},
    {11, "IRQ_ISSUE", "Interrupt Request Issue"},
    {12, "LIBRARY_NOT_FOUND", "NVML Shared Library Not Found"},
    {13, "FUNCTION_NOT_FOUND", "Function Not Found"},
    {14, "CORRUPTED_INFOROM", "Corrupted infoROM"},
    {15, "GPU_IS_LOST", "GPU is lost"},
    {16, "RESET_REQUIRED", "GPU requires restart"},
    {17, "OPERATING_SYSTEM", "The operating system has blocked the request."},
    {18, "LIB_RM_VERSION_MISMATCH", "RM has detected an NVML/RM version mismatch."},
    {19, "IN_USE", "In use by another client"},
    {20, "MEMORY", "Insufficient Memory"},
    {25, "ARGUMENT_VERSION_MISMATCH", "Argument version mismatch"},
    {999, "UNKNOWN", "Unknown Error"},
};
enum { ERRORS = sizeof errors / sizeof *errors };

/* One section of the file: the system, a GPU, or a MIG instance of the GPU above it. */
enum { MAX_SECTIONS = 65, MAX_ENTRIES = 128 };

typedef struct section {
    struct section *gpu; /* of a MIG instance: the GPU it is cut from */
    int entries;
    struct {
        char key[32];
        char value[96];
    } entry[MAX_ENTRIES];
} Section;

typedef Section *Device;

static Section sections[MAX_SECTIONS];
static int section_count;
static unsigned users; /* nvmlInit calls that no nvmlShutdown has answered yet */
#define SYSTEM (&sections[0])

/* --- reading the file ------------------------------------------------------------------------ */

static const char *find(const Section *section, const char *key)
{
    for (int i = 0; i < section->entries; i++)
        if (!strcmp(section->entry[i].key, key))
            return section->entry[i].value;
    return NULL;
}

/* A line for each process: the keys that may come more than once, and that no GPU inherits. */
static int is_process(const char *key)
{
    return !strcmp(key, "process") || !strcmp(key, "graphics_process");
}

static int put(Section *section, const char *key, const char *value)
{
    int at = section->entries;
    if (!is_process(key))
        for (at = 0; at < section->entries && strcmp(section->entry[at].key, key);)
            at++;
    if (at == MAX_ENTRIES || strlen(key) >= sizeof section->entry->key ||
        strlen(value) >= sizeof section->entry->value)
        return 0;
    strcpy(section->entry[at].key, key);
    strcpy(section->entry[at].value, value);
    section->entries += at == section->entries;
    return 1;
}

/* `nvlink = 0-3 switch 00000000:07:00.0` becomes one entry for each of the links. */
static int put_links(Section *section, const char *value)
{
    unsigned first, last;
    int rest;
    char key[32];
    if (sscanf(value, "%u-%u %n", &first, &last, &rest) != 2 || last >= 36)
        return 0;
    for (; first <= last; first++) {
        snprintf(key, sizeof key, "nvlink %u", first);
        if (!put(section, key, value + rest))
            return 0;
    }
    return 1;
}

/* A GPU starts as a copy of the one before, so that only what differs is written. */
static Section *begin(const char *heading)
{
    static Section *gpu;
    Section *new = &sections[section_count];
    if (!strcmp(heading, "[system]"))
        return SYSTEM;
    if (section_count == 1)
        gpu = NULL;
    if (section_count == MAX_SECTIONS || (!gpu && !strcmp(heading, "[mig]")))
        return NULL;
    memset(new, 0, sizeof *new);
    if (!strcmp(heading, "[mig]")) {
        new->gpu = gpu;
    } else if (!strcmp(heading, "[gpu]")) {
        for (int i = 0; gpu && i < gpu->entries; i++)
            if (!is_process(gpu->entry[i].key))
                put(new, gpu->entry[i].key, gpu->entry[i].value);
        gpu = new;
    } else {
        return NULL;
    }
    section_count++;
    return new;
}

static char *trim(char *text)
{
    char *end;
    while (isspace((unsigned char)*text))
        text++;
    end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    return text;
}

static int take(Section **section, char *line)
{
    char *equals;
    line = trim(line);
    if (!*line || *line == '#')
        return 1;
    if (*line == '[')
        return (*section = begin(line)) != NULL;
    equals = strchr(line, '=');
    if (!equals)
        return 0;
    *equals = '\0';
    if (!strcmp(trim(line), "nvlink"))
        return put_links(*section, trim(equals + 1));
    return put(*section, trim(line), trim(equals + 1));
}

static int load(void)
{
    const char *path = getenv("NVML_STAND_IN");
    FILE *file = path ? fopen(path, "r") : NULL;
    Section *section = SYSTEM;
    char line[256];
    int number = 0, good = 1;
    if (!file) {
        fprintf(stderr, "NVML stand-in: NVML_STAND_IN must name a file that can be read, not %s.\n",
                path ? path : "nothing");
        return UNKNOWN;
    }
    memset(SYSTEM, 0, sizeof *SYSTEM);
    section_count = 1;
    while (good && fgets(line, sizeof line, file)) {
        number++;
        good = take(&section, line);
    }
    fclose(file);
    if (good)
        return SUCCESS;
    fprintf(stderr, "NVML stand-in: line %d of %s is no section, no key = value, or too much.\n",
            number, path);
    return UNKNOWN;
}

/* --- answering from it ----------------------------------------------------------------------- */

static int error_named(const char *name)
{
    for (int i = 0; i < ERRORS; i++)
        if (!strcmp(errors[i].name, name))
            return errors[i].code;
    return SUCCESS;
}

/* The value of a key; an error where the file has none, or an error's name instead. */
static int look(const Section *section, const char *key, const char **value)
{
    const char *all;
    if (!users)
        return UNINITIALIZED;
    if (!section)
        return INVALID_ARGUMENT;
    all = find(section, "answers"); /* one error for every question */
    *value = all ? all : find(section, key);
    return *value ? error_named(*value) : NOT_SUPPORTED;
}

/* Numbers separated by blanks, all or none. */
static int numbers(const Section *section, const char *key, int count, unsigned long long *found)
{
    const char *value;
    char *end;
    int result = look(section, key, &value);
    for (int i = 0; i < count && result == SUCCESS; i++, value = end) {
        found[i] = strtoull(value, &end, 0);
        if (end == value)
            result = UNKNOWN;
    }
    return result;
}

static int text(const Section *section, const char *key, char *buffer, unsigned size)
{
    const char *value;
    int result = look(section, key, &value);
    if (result != SUCCESS)
        return result;
    if (strlen(value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, value);
    return SUCCESS;
}

static int one(const Section *section, const char *key, unsigned *number)
{
    unsigned long long found;
    int result = numbers(section, key, 1, &found);
    if (result == SUCCESS)
        *number = (unsigned)found;
    return result;
}

static int two(const Section *section, const char *key, unsigned *first, unsigned *second)
{
    unsigned long long found[2];
    int result = numbers(section, key, 2, found);
    if (result == SUCCESS) {
        *first = (unsigned)found[0];
        *second = (unsigned)found[1];
    }
    return result;
}

/* The n-th GPU, or the n-th MIG instance of a GPU. */
static Device nth(const Section *gpu, unsigned n)
{
    for (Section *found = sections + 1; found < sections + section_count; found++)
        if (found->gpu == gpu && n-- == 0)
            return found;
    return NULL;
}

static unsigned count(const Section *gpu)
{
    unsigned n = 0;
    while (nth(gpu, n))
        n++;
    return n;
}

static unsigned index_of(const Section *device)
{
    unsigned n = 0;
    while (nth(device->gpu, n) != device)
        n++;
    return n;
}

/* A GPU that has fallen off the bus may refuse already here. */
static int hand_out(Device found, Device *device)
{
    const char *refused = found ? find(found, "handle") : NULL;
    if (!users)
        return UNINITIALIZED;
    if (!found)
        return NOT_FOUND;
    *device = found;
    return refused ? error_named(refused) : SUCCESS;
}

static int hand_out_by(const char *key, const char *wanted, Device *device)
{
    for (Section *found = sections + 1; found < sections + section_count; found++) {
        const char *value = find(found, key);
        if (value && !strcasecmp(value, wanted))
            return hand_out(found, device);
    }
    return hand_out(NULL, device);
}

/* --- the library's interface ----------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags)
{
    const char *refused;
    int result = users ? SUCCESS : load();
    (void)flags;
    if (result == SUCCESS && (refused = find(SYSTEM, "init")))
        result = error_named(refused);
    users += result == SUCCESS;
    return result;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    if (!users)
        return UNINITIALIZED;
    users--;
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    for (int i = 0; i < ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    return text(SYSTEM, "driver_version", version, size);
}

/* The one question that NVML answers without a driver: nvidia-smi tells it beside a mismatch. */
int nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
    const char *value = find(SYSTEM, "nvml_version");
    if (!value)
        return UNINITIALIZED;
    if (strlen(value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(version, value);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion(unsigned *version)
{
    return one(SYSTEM, "cuda_version", version);
}

int nvmlSystemGetCudaDriverVersion_v2(unsigned *version)
{
    return one(SYSTEM, "cuda_version", version);
}

int nvmlDeviceGetCount_v2(unsigned *number)
{
    if (!users)
        return UNINITIALIZED;
    *number = count(NULL);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device)
{
    if (users && index >= count(NULL))
        return INVALID_ARGUMENT;
    return hand_out(nth(NULL, index), device);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device *device)
{
    return hand_out_by("uuid", uuid, device);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, Device *device)
{
    return hand_out_by("pci", bus, device);
}

int nvmlDeviceGetName(Device device, char *name, unsigned size)
{
    return text(device, "name", name, size);
}

int nvmlDeviceGetUUID(Device device, char *uuid, unsigned size)
{
    return text(device, "uuid", uuid, size);
}

int nvmlDeviceGetIndex(Device device, unsigned *index)
{
    const char *name;
    int result = look(device, "name", &name);
    if (result == SUCCESS)
        *index = index_of(device);
    return result;
}

/* What is one number, or two, in the library is one entry in the file. */
#define NUMBER(function, key) \
    int function(Device device, unsigned *number) { return one(device, key, number); }
#define PAIR(function, key) \
    int function(Device device, unsigned *first, unsigned *second) \
    { \
        return two(device, key, first, second); \
    }

NUMBER(nvmlDeviceGetMinorNumber, "minor")
NUMBER(nvmlDeviceGetBrand, "brand")
NUMBER(nvmlDeviceGetArchitecture, "architecture")
NUMBER(nvmlDeviceGetMaxMigDeviceCount, "max_mig_devices")
NUMBER(nvmlDeviceGetGpuInstanceId, "gpu_instance")
NUMBER(nvmlDeviceGetComputeInstanceId, "compute_instance")
NUMBER(nvmlDeviceGetPersistenceMode, "persistence")
NUMBER(nvmlDeviceGetDisplayActive, "display_active")
NUMBER(nvmlDeviceGetPowerManagementLimit, "power_limit")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "default_power_limit")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "enforced_power_limit")
NUMBER(nvmlDeviceGetPowerUsage, "power_usage")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "max_pcie_generation")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "max_pcie_width")
NUMBER(nvmlDeviceGetNumaNodeId, "numa_node") /* of the GPU's memory: only coherent platforms */
PAIR(nvmlDeviceGetCudaComputeCapability, "compute_capability")
PAIR(nvmlDeviceGetEccMode, "ecc")
PAIR(nvmlDeviceGetMigMode, "mig")
PAIR(nvmlDeviceGetPowerManagementLimitConstraints, "power_limits")

int nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius)
{
    return sensor ? INVALID_ARGUMENT : one(device, "temperature", celsius);
}

static int clock_of(Device device, const char *key, unsigned kind, unsigned *mhz)
{
    unsigned long long all[4]; /* graphics, SM, memory, video */
    int result = kind < 4 ? numbers(device, key, 4, all) : INVALID_ARGUMENT;
    if (result == SUCCESS)
        *mhz = (unsigned)all[kind];
    return result;
}

int nvmlDeviceGetClockInfo(Device device, unsigned kind, unsigned *mhz)
{
    return clock_of(device, "clocks", kind, mhz);
}

int nvmlDeviceGetMaxClockInfo(Device device, unsigned kind, unsigned *mhz)
{
    return clock_of(device, "max_clocks", kind, mhz);
}

/* `ecc_errors` are corrected and uncorrected since the driver's start, then over the GPU's life. */
int nvmlDeviceGetTotalEccErrors(Device device, unsigned kind, unsigned counter,
                                unsigned long long *found)
{
    unsigned long long all[4];
    int result = kind < 2 && counter < 2 ? numbers(device, "ecc_errors", 4, all) : INVALID_ARGUMENT;
    if (result == SUCCESS)
        *found = all[2 * counter + kind];
    return result;
}

int nvmlDeviceGetRemappedRows(Device device, unsigned *correctable, unsigned *uncorrectable,
                              unsigned *pending, unsigned *failed)
{
    unsigned long long rows[4];
    int result = numbers(device, "remapped_rows", 4, rows);
    if (result == SUCCESS) {
        *correctable = (unsigned)rows[0];
        *uncorrectable = (unsigned)rows[1];
        *pending = (unsigned)rows[2];
        *failed = (unsigned)rows[3];
    }
    return result;
}

/* `fabric` is state and status of nvmlGpuFabricInfo_v2_t. */
typedef struct {
    unsigned version;
    unsigned char cluster[16];
    unsigned status, clique, state, health;
} Fabric;

int nvmlDeviceGetGpuFabricInfoV(Device device, Fabric *fabric)
{
    unsigned long long found[2];
    int result = numbers(device, "fabric", 2, found);
    if (fabric->version != (sizeof *fabric | 2 << 24))
        return ARGUMENT_VERSION_MISMATCH;
    if (result == SUCCESS) {
        fabric->state = (unsigned)found[0];
        fabric->status = (unsigned)found[1];
    }
    return result;
}

/* `memory` is total, reserved and used, in bytes; the older call counts reserved as used. */
typedef struct {
    unsigned long long total, free, used;
} Memory;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} MemoryV2;

int nvmlDeviceGetMemoryInfo_v2(Device device, MemoryV2 *memory)
{
    unsigned long long found[3];
    int result = numbers(device, "memory", 3, found);
    if (memory->version != (sizeof *memory | 2 << 24))
        return ARGUMENT_VERSION_MISMATCH;
    if (result == SUCCESS) {
        memory->total = found[0];
        memory->reserved = found[1];
        memory->used = found[2];
        memory->free = found[0] - found[1] - found[2];
    }
    return result;
}

int nvmlDeviceGetMemoryInfo(Device device, Memory *memory)
{
    MemoryV2 found = {.version = sizeof found | 2 << 24};
    int result = nvmlDeviceGetMemoryInfo_v2(device, &found);
    if (result == SUCCESS)
        *memory = (Memory){found.total, found.free, found.reserved + found.used};
    return result;
}

/* NUMA nodes near the GPU, as a bit mask; the scope (node or socket) makes no difference here. */
int nvmlDeviceGetMemoryAffinity(Device device, unsigned size, unsigned long *set, unsigned scope)
{
    unsigned long long nodes;
    int result = size ? numbers(device, "memory_affinity", 1, &nodes) : INVALID_ARGUMENT;
    (void)scope;
    if (result == SUCCESS) {
        memset(set, 0, size * sizeof *set);
        set[0] = nodes;
    }
    return result;
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char text[32];
} Pci;

static int fill_pci(const char *address, Pci *pci)
{
    memset(pci, 0, sizeof *pci);
    if (sscanf(address, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return UNKNOWN;
    snprintf(pci->legacy, sizeof pci->legacy, "%04X:%02X:%02X.0", pci->domain & 0xffff,
             pci->bus & 0xff, pci->device & 0xff);
    snprintf(pci->text, sizeof pci->text, "%08X:%02X:%02X.0", pci->domain, pci->bus, pci->device);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(Device device, Pci *pci)
{
    const char *address;
    int result = look(device, "pci", &address);
    if (result == SUCCESS)
        result = fill_pci(address, pci);
    if (result == SUCCESS) {
        one(device, "pci_device", &pci->id);
        one(device, "pci_subsystem", &pci->subsystem);
    }
    return result;
}

/* A link is `down`, or the other end's kind (gpu, switch) and PCI address. */
static int link_of(Device device, unsigned link, const char **value)
{
    char key[32];
    snprintf(key, sizeof key, "nvlink %u", link);
    if (device && find(device, "nvlink 0") && !find(device, key))
        return INVALID_ARGUMENT; /* it has links, but not so many */
    return look(device, key, value);
}

int nvmlDeviceGetNvLinkState(Device device, unsigned link, unsigned *active)
{
    const char *value;
    int result = link_of(device, link, &value);
    if (result == SUCCESS)
        *active = strcmp(value, "down") != 0;
    return result;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(Device device, unsigned link, Pci *pci)
{
    const char *value;
    int result = link_of(device, link, &value);
    if (result == SUCCESS && !(value = strchr(value, ' ')))
        result = NOT_SUPPORTED;
    return result == SUCCESS ? fill_pci(value, pci) : result;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(Device device, unsigned link, unsigned *type)
{
    const char *value;
    int result = link_of(device, link, &value);
    if (result != SUCCESS)
        return result;
    *type = !strncmp(value, "gpu", 3) ? 0 : !strncmp(value, "switch", 6) ? 2 : 0xff;
    return SUCCESS;
}

/* Each GPU's `near` is its place on the machine: NUMA node, host bridge, PCIe switch. A GPU with
 * itself is not supported, as seen on driver 580.159.04. */
int nvmlDeviceGetTopologyCommonAncestor(Device one_gpu, Device other, unsigned *level)
{
    static const unsigned levels[] = {50, 40, 30, 10}; /* system, node, host bridge, single */
    unsigned long long a[3], b[3];
    int same = 0, result = one_gpu == other ? NOT_SUPPORTED : numbers(one_gpu, "near", 3, a);
    if (result == SUCCESS)
        result = numbers(other, "near", 3, b);
    while (result == SUCCESS && same < 3 && a[same] == b[same])
        same++;
    if (result == SUCCESS)
        *level = levels[same];
    return result;
}

typedef struct {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} Process;

static int processes(Device device, const char *key, unsigned *size, Process *list)
{
    const char *value;
    unsigned found = 0, room = *size;
    int result = look(device, "name", &value);
    if (result != SUCCESS)
        return result;
    for (int i = 0; i < device->entries; i++) {
        if (strcmp(device->entry[i].key, key))
            continue;
        if (list && found < room) {
            list[found] = (Process){.gpu_instance = ~0u, .compute_instance = ~0u};
            sscanf(device->entry[i].value, "%u %llu", &list[found].pid, &list[found].bytes);
        }
        found++;
    }
    *size = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *size, Process *list)
{
    return processes(device, "process", size, list);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned *size, Process *list)
{
    return processes(device, "graphics_process", size, list);
}

int nvmlDeviceIsMigDeviceHandle(Device device, unsigned *yes)
{
    if (!users)
        return UNINITIALIZED;
    *yes = device->gpu != NULL;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *instance)
{
    return hand_out(nth(device, index), instance);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device instance, Device *device)
{
    return instance->gpu ? hand_out(instance->gpu, device) : INVALID_ARGUMENT;
}
