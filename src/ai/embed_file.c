/* Files of embedding models: mapped, and hashed whole, so that a model that was trained on has another identity than the one it came
 * from. A file must be replaced by renaming another over it: what is cut short in place takes the process with it. */
#include "ai/embed_internal.h"

#include "base/key.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int embed_refuse(struct text *reason, int error, const char *where, const char *why)
{
    text_printf(reason, "%s: %s", where, why);
    return error;
}

int embed_path(const char *dir, const char *name, char path[static 4096], struct text *reason)
{
    struct text text = text_make(path, 4096);

    text_printf(&text, "%s/%s", dir, name);
    text_char(&text, 0);
    return text.overflow ? embed_refuse(reason, -ENAMETOOLONG, dir, "path too long") : 0;
}

int embed_map(const char *path, struct view *ret, struct text *reason)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = errno;
    struct stat stat = { 0 };
    void *bytes = MAP_FAILED;

    if (fd >= 0 && fstat(fd, &stat) < 0)
        error = errno;
    else if (fd >= 0 && !S_ISREG(stat.st_mode))
        error = S_ISDIR(stat.st_mode) ? EISDIR : EINVAL;
    else if (fd >= 0 && stat.st_size > 0) {
        bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        error = bytes == MAP_FAILED ? errno : 0;
    } else if (fd >= 0) {
        error = 0;
    }
    if (fd >= 0)
        close(fd);
    if (error == ENOENT)
        return -ENOENT;
    if (error)
        return embed_refuse(reason, -error, path, strerrordesc_np(error));
    *ret = bytes == MAP_FAILED ? VIEW_NONE : view_make(bytes, (size_t)stat.st_size);
    return 0;
}

void embed_unmap(struct view file)
{
    if (file.len)
        munmap((void *)(uintptr_t)file.ptr, file.len);
}

int embed_read_words(const char *dir, struct wordpiece **ret, uint64_t hash[2], struct text *reason)
{
    int (*read)(struct view, struct wordpiece **, struct text *) = wordpiece_from_json;
    char path[4096], why[256];
    struct text inner = TEXT_ON(why);
    struct view file = VIEW_NONE;
    int r = embed_path(dir, "tokenizer.json", path, reason);

    if (r == 0)
        r = embed_map(path, &file, reason);
    if (r == -ENOENT) {
        read = wordpiece_from_lines;
        r = embed_path(dir, "vocab.txt", path, reason);
        if (r == 0)
            r = embed_map(path, &file, reason);
    }
    if (r == -ENOENT)
        return embed_refuse(reason, r, dir, "there is no tokenizer.json and no vocab.txt");
    if (r < 0)
        return r;
    r = read(file, ret, &inner);
    if (r < 0 && r != -ENOMEM)
        embed_refuse(reason, r, path, text_str(&inner));
    if (r == 0)
        memcpy(hash, key_of(file).hash, sizeof(uint64_t[2]));
    embed_unmap(file);
    return r;
}

void embed_set_id(struct embed *e, struct view kind, const uint64_t model[2], const uint64_t words[2])
{
    char memory[256];
    struct text text = TEXT_ON(memory), id = text_make(e->id, sizeof(e->id));
    struct key key;

    text_put(&text, kind);
    for (unsigned i = 0; i < 2; i++) {
        text_hex(&text, model[i], 16);
        text_hex(&text, words[i], 16);
    }
    key = key_of(text_view(&text));
    text_hex(&id, key.hash[0], 16);
    text_hex(&id, key.hash[1], 16);
    text_str(&id);
}
