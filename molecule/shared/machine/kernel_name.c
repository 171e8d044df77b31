/* SPDX-License-Identifier: Apache-2.0
 * Copyright (c) 2026 baremetal.vllm contributors
 *
 * Named in /etc/ld.so.preload: uname(2) tells the kernel release that the lab's machine runs, so
 * that headers of a real Debian kernel belong to it. The container itself shares this machine's.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NAME_FILE "/usr/lib/lab-machine/kernel-release"

int uname(struct utsname *name)
{
    char release[sizeof name->release];
    int result = (int)syscall(SYS_uname, name);
    int file = result ? -1 : open(NAME_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t length;
    if (file < 0)
        return result;
    length = read(file, release, sizeof release - 1);
    close(file);
    if (length > 0) {
        release[length] = '\0';
        release[strcspn(release, "\n")] = '\0';
        strcpy(name->release, release);
    }
    return result;
}
