/* The names and statuses of failures (RFC 9209 §2.3). */
#include "upstream/exchange.h"

static const struct {
    struct view token;
    int status;
} errors[EXCHANGE_ERROR_COUNT] = {
    [EXCHANGE_OK] = { { "", 0 }, 500 },
    [EXCHANGE_DNS_TIMEOUT] = { VIEW("dns_timeout"), 504 },
    [EXCHANGE_DNS_ERROR] = { VIEW("dns_error"), 502 },
    [EXCHANGE_CONNECTION_REFUSED] = { VIEW("connection_refused"), 502 },
    [EXCHANGE_CONNECTION_TIMEOUT] = { VIEW("connection_timeout"), 504 },
    [EXCHANGE_CONNECTION_TERMINATED] = { VIEW("connection_terminated"), 502 },
    [EXCHANGE_CONNECTION_READ_TIMEOUT] = { VIEW("connection_read_timeout"), 504 },
    [EXCHANGE_CONNECTION_WRITE_TIMEOUT] = { VIEW("connection_write_timeout"), 504 },
    [EXCHANGE_CONNECTION_LIMIT] = { VIEW("connection_limit_reached"), 503 },
    [EXCHANGE_UNROUTABLE] = { VIEW("destination_ip_unroutable"), 502 },
    [EXCHANGE_TLS_PROTOCOL] = { VIEW("tls_protocol_error"), 502 },
    [EXCHANGE_TLS_CERTIFICATE] = { VIEW("tls_certificate_error"), 502 },
    [EXCHANGE_TLS_ALERT] = { VIEW("tls_alert_received"), 502 },
    [EXCHANGE_RESPONSE_INCOMPLETE] = { VIEW("http_response_incomplete"), 502 },
    [EXCHANGE_RESPONSE_TIMEOUT] = { VIEW("http_response_timeout"), 504 },
    [EXCHANGE_HEAD_TOO_LARGE] = { VIEW("http_response_header_section_size"), 502 },
    [EXCHANGE_TRANSFER_CODING] = { VIEW("http_response_transfer_coding"), 502 },
    [EXCHANGE_PROTOCOL_ERROR] = { VIEW("http_protocol_error"), 502 },
    [EXCHANGE_INTERNAL] = { VIEW("proxy_internal_error"), 500 },
    [EXCHANGE_DESTINATION_UNAVAILABLE] = { VIEW("destination_unavailable"), 503 },
};

struct view exchange_error_token(enum exchange_error error)
{
    return error < EXCHANGE_ERROR_COUNT ? errors[error].token : VIEW_NONE;
}

int exchange_error_status(enum exchange_error error)
{
    return error < EXCHANGE_ERROR_COUNT ? errors[error].status : 500;
}
