/* TLS by OpenSSL 3, one SSL per connection over the socket's fd.
 *
 * A context is immutable once made, so any thread may start connections from it. A connection and the session slot it was
 * given belong to one loop; OpenSSL hands new sessions to remember_session() from inside reads, which keeps the latest.
 * Errors: OpenSSL keeps a queue per thread; it is cleared before each call and drained after a failure, so that one
 * connection's error is never read as another's. */
/* First: OpenSSL spells attributes with a bare word that base/compiler.h defines. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/tls.h"

#include "base/check.h"
#include "base/heap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>

#define RECORD_MAX 16384u
#define FAILURE_TEXT_MAX 96u

struct tls_context {
    SSL_CTX *ssl;
    atomic_uint refs;
};

struct tls {
    SSL *ssl;
    struct tls_session *session; /* where new sessions go; may be NULL */
    unsigned want;
    bool established, dead;
    enum tls_failure failure;
    char failure_text[FAILURE_TEXT_MAX];
};

/* ---- contexts ---- */

static int remember_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = SSL_get_app_data(ssl);

    if (!tls->session)
        return 0;
    if (tls->session->ticket)
        SSL_SESSION_free(tls->session->ticket);
    tls->session->ticket = session;
    return 1; /* the reference is ours now */
}

static void explain(struct text *reason, const char *what, const char *file)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());

    text_printf(reason, "%s '%s': %s", what, file, why ? why : "cannot be used");
    ERR_clear_error();
}

static int load_files(SSL_CTX *ssl, const struct tls_options *options, struct text *reason)
{
    const char *key = options->key_file ? options->key_file : options->cert_file;

    if (options->ca_file) {
        if (SSL_CTX_load_verify_file(ssl, options->ca_file) != 1) {
            explain(reason, "CA file", options->ca_file);
            return -EINVAL;
        }
    } else if (!options->insecure && SSL_CTX_set_default_verify_paths(ssl) != 1) {
        text_lit(reason, "the system's certificate store cannot be read");
        return -EINVAL;
    }
    if (!options->cert_file)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(ssl, options->cert_file) != 1) {
        explain(reason, "certificate file", options->cert_file);
        return -EINVAL;
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ssl) != 1) {
        explain(reason, "private key file", key);
        return -EINVAL;
    }
    return 0;
}

static void ignore_sigpipe(void)
{
    struct sigaction now;

    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

int tls_context_client(struct tls_context **ret, const struct tls_options *options, struct text *reason)
{
    static const unsigned char alpn[] = "\x08http/1.1";
    struct tls_context *context;
    int r;

    ERR_clear_error();
    ignore_sigpipe();
    context = heap_zalloc(sizeof(*context));
    if (!context)
        return -ENOMEM;
    atomic_init(&context->refs, 1);
    context->ssl = SSL_CTX_new(TLS_client_method());
    if (!context->ssl || SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_alpn_protos(context->ssl, alpn, sizeof(alpn) - 1) != 0) {
        tls_context_unref(context);
        return -ENOMEM;
    }
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context->ssl,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context->ssl, options->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context->ssl, remember_session);
    r = load_files(context->ssl, options, reason);
    if (r < 0) {
        tls_context_unref(context);
        return r;
    }
    *ret = context;
    return 0;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
    return context;
}

void tls_context_unref(struct tls_context *context)
{
    if (!context || atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(context->ssl);
    heap_free(context);
}

void tls_session_clear(struct tls_session *session)
{
    if (session->ticket)
        SSL_SESSION_free(session->ticket);
    session->ticket = NULL;
}

/* ---- connections ---- */

static bool is_ip(const char *name)
{
    unsigned char scratch[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, name, scratch) == 1 || inet_pton(AF_INET6, name, scratch) == 1;
}

/* Whom we expect to meet: checked in the certificate and, when it is a name, sent as SNI (RFC 6066 §3 forbids addresses). */
static int set_peer(SSL *ssl, const char *server_name)
{
    if (is_ip(server_name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), server_name) == 1 ? 0 : -EINVAL;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl, server_name) != 1 || SSL_set_tlsext_host_name(ssl, (char *)(uintptr_t)server_name) != 1)
        return -EINVAL;
    return 0;
}

int tls_client_new(struct tls **ret, struct tls_context *context, int fd, const char *server_name,
                   struct tls_session *session)
{
    struct tls *tls = heap_zalloc(sizeof(*tls));
    int r;

    if (!tls)
        return -ENOMEM;
    ERR_clear_error();
    tls->session = session;
    tls->ssl = SSL_new(context->ssl);
    if (!tls->ssl || SSL_set_fd(tls->ssl, fd) != 1) {
        tls_free(tls);
        return -ENOMEM;
    }
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_connect_state(tls->ssl);
    r = set_peer(tls->ssl, server_name);
    if (r < 0) {
        tls_free(tls);
        return r;
    }
    if (session && session->ticket)
        SSL_set_session(tls->ssl, session->ticket);
    *ret = tls;
    return 0;
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    if (tls->ssl) {
        ERR_clear_error();
        tls_shutdown(tls);
        /* Without this OpenSSL marks the session of a connection that was not closed both ways as not resumable. */
        if (!tls->failure)
            SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(tls->ssl);
        ERR_clear_error();
    }
    heap_free(tls);
}

static void note_failure(struct tls *tls)
{
    struct text text = TEXT_ON(tls->failure_text);
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);
    const char *why = ERR_reason_error_string(error);

    tls->failure = TLS_PROTOCOL;
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        tls->failure = TLS_CERTIFICATE;
        why = X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
    } else if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
        tls->failure = TLS_ALERT;
    }
    text_put(&text, view_first(view_str(why ? why : "protocol error"), FAILURE_TEXT_MAX - 1));
    text_str(&text);
}

/* What an SSL_xxx() that did not succeed means. */
static int outcome(struct tls *tls, int r)
{
    int saved = errno, kind = SSL_get_error(tls->ssl, r);

    switch (kind) {
    case SSL_ERROR_WANT_READ: tls->want = TLS_WANT_READ; return -EAGAIN;
    case SSL_ERROR_WANT_WRITE: tls->want = TLS_WANT_WRITE; return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SSL:
        tls->dead = true;
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            ERR_clear_error();
            return -ECONNRESET;
        }
        note_failure(tls);
        ERR_clear_error();
        return -EPROTO;
    default:
        tls->dead = true;
        ERR_clear_error();
        return saved ? -saved : -ECONNRESET;
    }
}

int tls_handshake(struct tls *tls)
{
    int r;

    if (tls->established)
        return 0;
    if (tls->dead)
        return tls->failure ? -EPROTO : -ECONNRESET;
    ERR_clear_error();
    errno = 0;
    r = SSL_do_handshake(tls->ssl);
    if (r == 1) {
        tls->established = true;
        return 0;
    }
    r = outcome(tls, r);
    return r == 0 ? -ECONNRESET : r;
}

bool tls_established(const struct tls *tls)
{
    return tls->established;
}

unsigned tls_want(const struct tls *tls)
{
    return tls->want;
}

ssize_t tls_read(struct tls *tls, void *memory, size_t cap)
{
    size_t got;
    int r;

    if (tls->dead)
        return tls->failure ? -EPROTO : -ECONNRESET;
    ERR_clear_error();
    errno = 0;
    r = SSL_read_ex(tls->ssl, memory, cap, &got);
    return r == 1 ? (ssize_t)got : outcome(tls, r);
}

bool tls_pending(const struct tls *tls)
{
    return SSL_has_pending(tls->ssl) != 0;
}

/* Small pieces are gathered, so that a head and the first body bytes share one record. */
static struct view gather(const struct iovec *iov, int count, char *scratch)
{
    size_t len = 0;

    while (count > 0 && iov->iov_len == 0) {
        iov++;
        count--;
    }
    if (count == 0)
        return VIEW_NONE;
    if (count == 1 || iov->iov_len >= RECORD_MAX)
        return view_make(iov->iov_base, MIN(iov->iov_len, RECORD_MAX));
    for (int i = 0; i < count && len < RECORD_MAX; i++) {
        size_t part = MIN(iov[i].iov_len, RECORD_MAX - len);

        memcpy(scratch + len, iov[i].iov_base, part);
        len += part;
    }
    return view_make(scratch, len);
}

ssize_t tls_writev(struct tls *tls, const struct iovec *iov, int count)
{
    char scratch[RECORD_MAX];
    struct view piece = gather(iov, count, scratch);
    size_t sent;
    int r;

    if (tls->dead)
        return tls->failure ? -EPROTO : -EPIPE;
    if (piece.len == 0)
        return 0;
    ERR_clear_error();
    errno = 0;
    r = SSL_write_ex(tls->ssl, piece.ptr, piece.len, &sent);
    if (r == 1)
        return (ssize_t)sent;
    r = outcome(tls, r);
    return r == 0 ? -EPIPE : r;
}

void tls_shutdown(struct tls *tls)
{
    if (!tls->established || tls->dead || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
        return;
    ERR_clear_error();
    if (SSL_shutdown(tls->ssl) < 0)
        ERR_clear_error();
}

enum tls_failure tls_failure(const struct tls *tls)
{
    return tls->failure;
}

const char *tls_failure_text(const struct tls *tls)
{
    return tls->failure_text;
}

bool tls_resumed(const struct tls *tls)
{
    return SSL_session_reused(tls->ssl) == 1;
}
