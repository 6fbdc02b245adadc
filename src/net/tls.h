/* TLS over a non-blocking stream socket (OpenSSL 3). A tls is a pump between the bytes of an fd and the bytes of an
 * application; net/sock.c drives it, nothing above needs to know it is there.
 *
 * OpenSSL writes with write(2): the process must ignore SIGPIPE (creating a context does so when nobody chose). */
#pragma once

#include "base/text.h"

#include <sys/types.h>
#include <sys/uio.h>

struct tls_options {
    const char *ca_file;   /* PEM bundle trusted instead of the system's store; NULL: the system's */
    const char *cert_file; /* PEM chain shown to the peer; NULL: none */
    const char *key_file;  /* NULL: in cert_file */
    bool insecure;         /* accept any certificate: for laboratories */
};

/* What many connections share: trust, certificate, protocol rules. Immutable, used from any thread, counted. */
struct tls_context;

/* TLS >= 1.2, verification on, ALPN "http/1.1". The options are read, not kept. 0; -EINVAL when a file cannot be used (the
 * reason, naming the file, is appended to `reason`); -ENOMEM. */
int tls_context_client(struct tls_context **ret, const struct tls_options *options, struct text *reason);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);

/* The last session of one server as seen by one loop: later handshakes with it are shorter. Zeroed is empty. It must
 * outlive the connections that were given it. */
struct tls_session {
    void *ticket;
};
void tls_session_clear(struct tls_session *session);

/* One connection. */
struct tls;

/* A client side over `fd`, which stays the caller's. `server_name` is sent (SNI) and checked against the certificate;
 * an IP literal is checked as an address and not sent. `session` may be NULL. 0, -ENOMEM, -EINVAL for a bad name. */
int tls_client_new(struct tls **ret, struct tls_context *context, int fd, const char *server_name,
                   struct tls_session *session);
/* Does not close fd. NULL is fine. */
void tls_free(struct tls *tls);

/* 0: established. -EAGAIN: see tls_want(). -EPROTO: refused, see tls_failure(). -ECONNRESET and others: transport. */
int tls_handshake(struct tls *tls);
bool tls_established(const struct tls *tls);

/* What the last -EAGAIN waits for. */
enum { TLS_WANT_READ = 1, TLS_WANT_WRITE = 2 };
unsigned tls_want(const struct tls *tls);

/* >0: bytes. 0: the peer ended the stream with close_notify. -EAGAIN. -ECONNRESET: the connection ended without
 * close_notify, so what came may be cut short (RFC 9112 §9.8). -EPROTO: tls_failure(). */
ssize_t tls_read(struct tls *tls, void *memory, size_t cap);
/* True when tls_read() has bytes although the fd has none. */
bool tls_pending(const struct tls *tls);
/* >0: bytes. -EAGAIN: offer the same bytes (or a longer run beginning with them) again. Other -errno: dead. */
ssize_t tls_writev(struct tls *tls, const struct iovec *iov, int count);
/* Sends close_notify, best effort, never blocks. */
void tls_shutdown(struct tls *tls);

enum tls_failure {
    TLS_OK,
    TLS_CERTIFICATE, /* theirs did not convince us */
    TLS_ALERT,       /* they refused us */
    TLS_PROTOCOL,    /* no common protocol, or no TLS at all */
};
enum tls_failure tls_failure(const struct tls *tls);
/* "certificate has expired", "hostname mismatch", "wrong version number"; "" when nothing failed. Lives as long as tls. */
const char *tls_failure_text(const struct tls *tls);
bool tls_resumed(const struct tls *tls);
