/* Bodies that lie on disk are read piece by piece while the client takes them; the file stays open meanwhile, whatever happens to
 * the tier. */
#include "http/conn.h"

#include "store/disk.h"

#include <errno.h>

int deliver_disk_open(struct req *r)
{
    if (!r->hl->server->disk)
        return -ESTALE;
    return disk_stream_open(r->hl->server->disk, r->object, r->task, &r->disk_stream);
}

ssize_t deliver_disk_read(struct req *r, uint64_t offset, uint64_t max, struct view *ret)
{
    return disk_stream_read(r->disk_stream, offset, (size_t)MIN(max, (uint64_t)SIZE_MAX), ret);
}
