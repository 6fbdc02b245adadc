/* Bodies that lie on disk are sent piece by piece while the client takes them; the file stays open meanwhile, whatever happens to
 * the tier. What was verified once and is in the page cache goes from there to the socket without being copied through us. */
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
    struct delivery *d = &r->out;
    size_t most = (size_t)MIN(max, (uint64_t)SIZE_MAX);
    ssize_t got = 0;

    *ret = VIEW_NONE;
    /* A chunk's end must follow its bytes: segments come before the file. */
    if (d->framing == BODY_LENGTH)
        got = disk_stream_span(r->disk_stream, offset, most, &d->file, &d->file_at);
    if (got > 0) {
        d->file_left = (uint64_t)got;
        return got;
    }
    return disk_stream_read(r->disk_stream, offset, most, ret);
}

int deliver_disk_send(struct req *r)
{
    struct delivery *d = &r->out;

    while (d->file_left) {
        ssize_t sent = sock_sendfile(req_sock(r), d->file, d->file_at, d->file_left);

        if (sent < 0)
            return (int)sent;
        d->file_at += sent;
        d->file_left -= (uint64_t)sent;
        r->bytes_out += (uint64_t)sent;
    }
    return 0;
}
