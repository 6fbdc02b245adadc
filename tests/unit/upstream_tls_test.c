/* Exchanges over TLS with certificates made on the spot: verification, names, resumption, truncation. */
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "upstream_fixture.h"

#define GET "GET / HTTP/1.1\r\nHost: o\r\n\r\n"

static struct client client;
static struct origin origin;
static struct upstream_stats stats;
static char ca_file[] = "/tmp/doorstep-tls-test-XXXXXX";
static SSL_CTX *server_context;

/* A certificate for "origin.test" and 127.0.0.1 that signs itself. */
static int make_certificate(void **state)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509_EXTENSION *san;
    FILE *file;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_set_version(cert, 2);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"origin.test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:origin.test,IP:127.0.0.1");
    X509_add_ext(cert, san, -1);
    X509_EXTENSION_free(san);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    file = fdopen(mkstemp(ca_file), "w");
    PEM_write_X509(file, cert);
    fclose(file);
    server_context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(server_context, cert);
    SSL_CTX_use_PrivateKey(server_context, key);
    X509_free(cert);
    EVP_PKEY_free(key);
    return 0;
}

static int remove_certificate(void **state)
{
    (void)state;
    SSL_CTX_free(server_context);
    unlink(ca_file);
    return 0;
}

static void talk(const struct op *script, SSL_CTX *tls, const char *tls_name, const char *ca, unsigned count)
{
    char url[64];
    const char *servers[1] = { url };
    struct upstream_options options;
    const struct call calls[] = { { .head = GET }, { .head = GET } };

    origin_start(&origin, script, tls);
    snprintf(url, sizeof(url), "https://127.0.0.1:%u", origin.port);
    upstream_options_init(&options);
    options.servers = servers;
    options.server_count = 1;
    options.tls.ca_file = ca;
    options.tls_name = tls_name;
    client_make(&client, &options, calls, count, &stats);
    origin_join(&origin);
}

static const struct op one_answer[] = {
    { OP_ACCEPT, NULL, 0 },
    { OP_READ_HEAD, NULL, 0 },
    { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret", 0 },
    { OP_READ_EOF, NULL, 0 },
    { OP_END, NULL, 0 },
};

static void test_verified(void **state)
{
    /* A certificate that the given CA file vouches for is accepted, by name and by address. */
    (void)state;
    talk(one_answer, server_context, "origin.test", ca_file, 1);
    assert_string_equal(client.results[0].body, "secret");
    talk(one_answer, server_context, NULL, ca_file, 1);
    assert_string_equal(client.results[0].body, "secret");
    assert_true(client.results[0].timing.tls_us > 0);
}

static void test_refused(void **state)
{
    /* Another name, or a CA nobody knows, ends in tls_certificate_error with the reason, and nothing is sent. */
    static const struct op script[] = { { OP_ACCEPT, NULL, 0 }, { OP_READ_EOF, NULL, 0 }, { OP_END, NULL, 0 } };

    (void)state;
    talk(script, server_context, "other.test", ca_file, 1);
    assert_int_equal(client.results[0].error, EXCHANGE_TLS_CERTIFICATE);
    assert_string_equal(client.results[0].detail, "hostname mismatch");
    talk(script, server_context, "origin.test", NULL, 1);
    assert_int_equal(client.results[0].error, EXCHANGE_TLS_CERTIFICATE);
    assert_int_equal(origin.refused, 1);
    assert_int_equal(origin.got_len, 0);
}

static void test_not_tls(void **state)
{
    /* A server that speaks something else is a protocol error, not a hang. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_SEND, "HTTP/1.1 400 Bad\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    talk(script, NULL, "origin.test", ca_file, 1);
    assert_int_equal(client.results[0].error, EXCHANGE_TLS_PROTOCOL);
}

static void test_resumption(void **state)
{
    /* The second connection to the same server resumes the session of the first. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n2", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    talk(script, server_context, "origin.test", ca_file, 2);
    assert_string_equal(client.results[1].body, "2");
    assert_int_equal(origin.accepted, 2);
    assert_int_equal(origin.resumed, 1);
}

static void test_reuse(void **state)
{
    /* Session tickets that arrive after the handshake do not spoil an idle connection; large bodies come whole. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n", 0 },
        { OP_FILL, NULL, 500000 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };

    (void)state;
    talk(script, server_context, "origin.test", ca_file, 2);
    assert_int_equal(client.results[0].body_len, 500000);
    assert_string_equal(client.results[1].body, "2");
    assert_int_equal(origin.accepted, 1);
}

static void test_truncation(void **state)
{
    /* A body without a length that ends without close_notify may have been cut by anybody: it is incomplete. */
    static const struct op clean[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.0 200 OK\r\n\r\nbody", 0 },
        { OP_END, NULL, 0 },
    };
    struct text reason = { .len = 0 };
    struct tls_options bad = { .ca_file = "/nonexistent" };
    struct tls_context *context;
    char memory[200];

    (void)state;
    talk(clean, server_context, "origin.test", ca_file, 1);
    assert_int_equal(client.results[0].error, EXCHANGE_OK);
    assert_string_equal(client.results[0].body, "body");
    SSL_CTX_set_quiet_shutdown(server_context, 1);
    talk(clean, server_context, "origin.test", ca_file, 1);
    SSL_CTX_set_quiet_shutdown(server_context, 0);
    assert_int_equal(client.results[0].error, EXCHANGE_RESPONSE_INCOMPLETE);
    reason = TEXT_ON(memory);
    assert_int_equal(tls_context_client(&context, &bad, &reason), -EINVAL);
    assert_non_null(strstr(text_str(&reason), "/nonexistent"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verified),   cmocka_unit_test(test_refused), cmocka_unit_test(test_not_tls),
        cmocka_unit_test(test_resumption), cmocka_unit_test(test_reuse),   cmocka_unit_test(test_truncation),
    };

    return cmocka_run_group_tests(tests, make_certificate, remove_certificate);
}
