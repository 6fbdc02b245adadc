/* A tiny blocking HTTP/1.1 client. The answer is somebody else's bytes even here (--admin may name anything), so it goes
 * through the strict parser and has a limit. */
#include "main/client.h"

#include "base/heap.h"
#include "main/flat.h"
#include "net/address.h"
#include "proto/http1.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define REPLY_MAX ((size_t)64 << 20)
#define FIELDS_MAX 128u
#define TIMEOUT_S 10

const char client_help[] = "  --admin ADDR        admin listener of the node: host:port or unix:/path\n"
                           "                      (default: DOORSTEP_ADMIN, else " CLIENT_ADMIN_DEFAULT ")\n"
                           "  --token-file FILE   file with the admin token (default: DOORSTEP_ADMIN_TOKEN)\n"
                           "  --json              print the node's answer as JSON\n";

void client_init(struct client *client, const char *command)
{
    const char *admin = getenv("DOORSTEP_ADMIN"), *token = getenv("DOORSTEP_ADMIN_TOKEN");

    memset(client, 0, sizeof(*client));
    client->command = command;
    client->admin = admin && *admin ? admin : CLIENT_ADMIN_DEFAULT;
    if (token && strlen(token) < sizeof(client->token))
        memcpy(client->token, token, strlen(token) + 1);
}

static int complain(const struct client *client, const char *what, const char *about, const char *why)
{
    fprintf(stderr, "doorstep %s: %s%s%s%s\n", client->command, what, about, why ? ": " : "", why ? why : "");
    return -1;
}

/* The first line of the file, without white space around it. */
static int read_token(struct client *client, const char *path)
{
    FILE *file = fopen(path, "re");
    size_t len;

    if (!file)
        return complain(client, "cannot read the token file ", path, strerror(errno));
    len = fread(client->token, 1, sizeof(client->token) - 1, file);
    fclose(file);
    client->token[len] = '\0';
    client->token[strcspn(client->token, "\r\n")] = '\0';
    return client->token[0] ? 0 : complain(client, "the token file is empty: ", path, NULL);
}

const char *client_value(const struct client *client, const char *name, int argc, char **argv, int *at)
{
    const char *word = argv[*at];
    size_t len = strlen(name);

    if (strncmp(word, name, len) != 0 || (word[len] != '\0' && word[len] != '='))
        return NULL;
    if (word[len] == '=')
        return word + len + 1;
    if (*at + 1 < argc)
        return argv[++*at];
    complain(client, name, " needs a value", NULL);
    *at = argc;
    return "";
}

int client_option(struct client *client, int argc, char **argv, int *at)
{
    const char *value;

    if (strcmp(argv[*at], "--json") == 0) {
        client->json = true;
        return 1;
    }
    value = client_value(client, "--admin", argc, argv, at);
    if (value) {
        client->admin = value;
        return *at < argc ? 1 : -1;
    }
    value = client_value(client, "--token-file", argc, argv, at);
    if (value)
        return *at < argc && read_token(client, value) == 0 ? 1 : -1;
    return 0;
}

/* 1: taken; 0: not one of these; -1: its value is missing, or is the second one (said). */
static int read_own(const struct client *client, const struct client_word *own, size_t count, int argc, char **argv,
                    int *at)
{
    for (size_t i = 0; i < count; i++) {
        const char *value;

        if (own[i].on && strcmp(argv[*at], own[i].name) == 0) {
            *own[i].on = true;
            return 1;
        }
        value = own[i].value ? client_value(client, own[i].name, argc, argv, at) : NULL;
        if (!value)
            continue;
        if (*own[i].value)
            return complain(client, own[i].name, " was said before; once, please", NULL);
        *own[i].value = value;
        return *at < argc ? 1 : -1;
    }
    return 0;
}

int client_read(struct client *client, int argc, char **argv, const char *help, const struct client_word *own,
                size_t own_count, const char **rest, size_t rest_max)
{
    size_t rest_count = 0;

    for (int i = 1; i < argc; i++) {
        int taken;

        if (strcmp(argv[i], "--help") == 0) {
            printf("%s%s", help, client_help);
            return 1;
        }
        taken = client_option(client, argc, argv, &i);
        if (taken == 0)
            taken = read_own(client, own, own_count, argc, argv, &i);
        if (taken < 0)
            return -1;
        if (taken > 0)
            continue;
        if (argv[i][0] != '-' && rest_count < rest_max) {
            rest[rest_count++] = argv[i];
            continue;
        }
        if (argv[i][0] == '-')
            fprintf(stderr, "doorstep %s: unknown option '%s'", client->command, argv[i]);
        else
            fprintf(stderr, "doorstep %s: word %d is one too many", client->command, i);
        fprintf(stderr, "; see doorstep %s --help\n", client->command);
        return -1;
    }
    return 0;
}

/* ---- connecting ---- */

static int connect_to(const struct sockaddr *address, socklen_t len, unsigned timeout_s)
{
    const struct timeval limit = { .tv_sec = timeout_s };
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, address, len) == 0)
        return fd;
    error = errno;
    close(fd);
    return -error;
}

/* A name: every address it has, in order. */
static int connect_name(struct view host, uint16_t port, unsigned timeout_s)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    char name[256], service[8];
    struct addrinfo *list;
    int fd = -ENOENT;

    if (host.len >= sizeof(name))
        return -EINVAL;
    memcpy(name, host.ptr, host.len);
    name[host.len] = '\0';
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(name, service, &hints, &list) != 0)
        return -ENOENT;
    for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
        fd = connect_to(at->ai_addr, at->ai_addrlen, timeout_s);
    freeaddrinfo(list);
    return fd;
}

int client_connect(const char *text, uint16_t default_port, unsigned timeout_s)
{
    struct address address;
    struct view host;
    uint16_t port;

    if (address_parse(view_str(text), default_port, &address) == 0)
        return connect_to(&address.is.any, address.len, timeout_s);
    if (address_split(view_str(text), default_port, &host, &port) == 0)
        return connect_name(host, port, timeout_s);
    return -EINVAL;
}

static int open_admin(const struct client *client)
{
    int fd = client_connect(client->admin, 9180, TIMEOUT_S);

    if (fd == -EINVAL)
        return complain(client, "not an address: --admin ", client->admin, "host:port or unix:/path is expected");
    if (fd < 0) {
        fprintf(stderr, "doorstep %s: no node answers at %s: %s; is doorstep running with admin.listen there?\n",
                client->command, client->admin,
                fd == -ENOENT && strncmp(client->admin, "unix:", 5) != 0 ? "no such host" : strerror(-fd));
        return -1;
    }
    return fd;
}

/* ---- asking ---- */

int client_send(int fd, struct view bytes)
{
    while (bytes.len) {
        ssize_t sent = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -errno;
        bytes = view_skip(bytes, (size_t)sent);
    }
    return 0;
}

static int send_request(const struct client *client, int fd, const char *method, struct view target)
{
    size_t cap = target.len + sizeof(client->token) + 512;
    struct text request = text_make(heap_alloc(cap), cap);
    int r;

    if (!request.ptr)
        return -ENOMEM;
    text_put(&request, view_str(method));
    text_char(&request, ' ');
    text_put(&request, target);
    text_lit(&request, " HTTP/1.1\r\nHost: doorstep-admin\r\nConnection: close\r\n");
    if (client->token[0]) {
        text_lit(&request, "Authorization: Bearer ");
        text_put(&request, view_str(client->token));
        text_lit(&request, "\r\n");
    }
    if (strcmp(method, "POST") == 0)
        text_lit(&request, "Content-Length: 0\r\n");
    text_lit(&request, "\r\n");
    r = client_send(fd, text_view(&request));
    heap_free(request.ptr);
    return r;
}

/* Everything until the node closes. */
static int read_all(int fd, struct text *in)
{
    for (;;) {
        ssize_t got;

        if (in->len == in->cap) {
            size_t cap = in->cap ? in->cap * 2 : 65536;
            char *more = cap <= REPLY_MAX ? heap_resize(in->ptr, cap) : NULL;

            if (!more)
                return -ENOMEM;
            in->ptr = more;
            in->cap = cap;
        }
        got = recv(fd, in->ptr + in->len, in->cap - in->len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return 0;
        in->len += (size_t)got;
    }
}

/* Moves the data of a chunked body together at its start. */
static int join_chunks(char *body, struct view *in_out)
{
    struct http1_chunked decoder = { 0 };
    struct view rest = *in_out, data;
    size_t len = 0;

    while (!decoder.done) {
        int used = http1_chunked_next(&decoder, rest, &data, NULL);

        if (used < 0 || (data.len == 0 && !decoder.done))
            return -EBADMSG;
        memmove(body + len, data.ptr ? data.ptr : body, data.len);
        len += data.len;
        rest = view_skip(rest, (size_t)used + data.len);
    }
    *in_out = view_make(body, len);
    return 0;
}

static int parse_reply(struct text *in, enum http_method method, struct client_reply *ret)
{
    const struct http1_limits limits = { .head_max = 65536, .target_max = 8192 };
    struct field fields[FIELDS_MAX];
    struct http_response response = { 0 };
    enum http1_error error;
    size_t scanned = 0;
    int used;

    fields_init(&response.fields, fields, FIELDS_MAX);
    used = http1_parse_response(text_view(in), &limits, &scanned, method, &response, &error);
    if (used <= 0)
        return -EBADMSG;
    ret->status = response.status;
    ret->body = view_skip(text_view(in), (size_t)used);
    if (response.body == BODY_CHUNKED)
        return join_chunks(in->ptr + used, &ret->body);
    if (response.body == BODY_LENGTH && ret->body.len != response.content_length)
        return -EBADMSG;
    return 0;
}

int client_ask(const struct client *client, const char *method, struct view target, struct client_reply *ret)
{
    struct text in = { 0 };
    int fd = open_admin(client), r;

    if (fd < 0)
        return -1;
    r = send_request(client, fd, method, target);
    if (r == 0)
        r = read_all(fd, &in);
    close(fd);
    if (r == 0)
        r = parse_reply(&in, strcmp(method, "POST") == 0 ? METHOD_POST : METHOD_GET, ret);
    if (r < 0) {
        heap_free(in.ptr);
        return complain(client, "no proper answer from ", client->admin,
                        r == -EBADMSG ? "what is there does not speak HTTP like a node's admin listener"
                        : r == -EAGAIN || r == -EINPROGRESS ? "it did not answer in time"
                                                            : strerror(-r));
    }
    ret->memory = in.ptr;
    return 0;
}

void client_reply_free(struct client_reply *reply)
{
    heap_free(reply->memory);
    reply->memory = NULL;
}

int client_ask_ok(const struct client *client, const char *method, struct view target, struct client_reply *ret)
{
    struct flat flat;
    const char *error = NULL;

    if (client_ask(client, method, target, ret) < 0)
        return -1;
    if (ret->status == 200)
        return 0;
    if (flat_parse(ret->body, &flat) == 0)
        error = flat_string(&flat, "error");
    if (ret->status == 401)
        error = "the node wants a token: set DOORSTEP_ADMIN_TOKEN or give --token-file FILE";
    if (error)
        complain(client, error, "", NULL);
    else
        fprintf(stderr, "doorstep %s: %s answered with status %d; is it the admin listener of a node?\n",
                client->command, client->admin, ret->status);
    flat_free(&flat);
    client_reply_free(ret);
    return -1;
}

int client_stranger(const struct client *client)
{
    return complain(client, "what answers there is not the admin listener of a node: ", client->admin, NULL);
}

void client_encode(struct text *out, struct view value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("-._~/:", c))) {
            text_char(out, (char)c);
        } else {
            text_char(out, '%');
            text_char(out, "0123456789ABCDEF"[c >> 4]);
            text_char(out, "0123456789ABCDEF"[c & 15]);
        }
    }
}
