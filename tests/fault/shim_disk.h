/* The disk's half of the preloaded library; shim.c owns read(), write() and sendfile() and asks here. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* As read(2), write(2) and sendfile(2), with the faults of FAULT_DISK_DIR. */
ssize_t disk_read(int fd, void *memory, size_t len);
ssize_t disk_write(int fd, const void *memory, size_t len);
ssize_t disk_sendfile(int to, int from, off_t *at, size_t len);
