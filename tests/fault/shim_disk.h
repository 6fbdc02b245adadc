/* The disk's half of the preloaded library; shim.c owns read() and write() and asks here. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* As read(2) and write(2), with the faults of FAULT_DISK_DIR. */
ssize_t disk_read(int fd, void *memory, size_t len);
ssize_t disk_write(int fd, const void *memory, size_t len);
