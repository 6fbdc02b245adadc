/* One request to the admin listener of a running node, for the commands that ask it something. Blocking, with a time limit:
 * these commands have nothing else to do. */
#pragma once

#include "base/text.h"

#define CLIENT_ADMIN_DEFAULT "127.0.0.1:9180"

struct client {
    const char *admin; /* "host:port", "[v6]:port" or "unix:/path" */
    char token[1024];  /* empty: none sent */
    bool json;         /* --json was given */
    const char *command;
};

/* Defaults, then DOORSTEP_ADMIN and DOORSTEP_ADMIN_TOKEN. `command` names us in messages. */
void client_init(struct client *client, const char *command);

/* Takes argv[*at] (and its value) when it is --admin, --token-file or --json. 1: taken, *at is at its last word; 0: not
 * ours; -1: wrong, said on stderr. */
int client_option(struct client *client, int argc, char **argv, int *at);
/* The value of the option at argv[*at], "--name value" or "--name=value"; NULL when argv[*at] is not that option. An option
 * without a value is said on stderr and gives "" with *at = argc. */
const char *client_value(const struct client *client, const char *name, int argc, char **argv, int *at);
/* A command's own option: with a value that goes to *value, or a switch that sets *on. */
struct client_word {
    const char *name; /* "--since" */
    const char **value;
    bool *on;
};

/* Reads a command's words: --admin, --token-file and --json go to the client, `own` where they say, and up to `rest_max` words
 * that are no options to rest[]. 0; 1 after --help, which prints `help`; -1 when wrong, said on stderr: a word too many is not
 * repeated there, since it may be a secret. */
int client_read(struct client *client, int argc, char **argv, const char *help, const struct client_word *own,
                size_t own_count, const char **rest, size_t rest_max);
/* The options above, for --help. */
extern const char client_help[];

struct client_reply {
    int status;
    struct view body;
    char *memory; /* release with client_reply_free() */
};

/* Sends METHOD target and reads the whole answer (at most 64 MiB). 0 or -1, said on stderr: nobody answers, no admin
 * listener of ours, time out. A status other than 200 is not an error here. */
int client_ask(const struct client *client, const char *method, struct view target, struct client_reply *ret);
void client_reply_free(struct client_reply *reply);

/* As client_ask(), but says on stderr what the node refused. 0, or -1. */
int client_ask_ok(const struct client *client, const char *method, struct view target, struct client_reply *ret);

/* Says on stderr that what answered is no node. Returns -1. */
int client_stranger(const struct client *client);

/* Connects to "host:port", "[v6]:port" or "unix:/path"; sending and receiving then fail after `timeout_s` seconds of silence. A socket, or
 * -errno (-EINVAL: not an address; -ENOENT: no such host). Says nothing. */
int client_connect(const char *address, uint16_t default_port, unsigned timeout_s);
/* Sends all of it. 0 or -errno. */
int client_send(int fd, struct view bytes);

/* Percent-encodes what may not stand in a query parameter's value. */
void client_encode(struct text *out, struct view value);
