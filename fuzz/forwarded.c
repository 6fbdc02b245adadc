/* Any bytes as Forwarded, a node, a network and a traceparent: members lie in the input and come strictly from right to
 * left, a network holds its own address, and a trace survives being written. */
#include "base/check.h"
#include "proto/forwarded.h"
#include "proto/trace.h"

static volatile unsigned sink;

static void read_view(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        sink += (unsigned char)v.ptr[i];
}

static void check_trace(struct view input)
{
    struct trace_context trace, again;
    char memory[64];
    struct text text = TEXT_ON(memory);

    sink += trace_state_valid(input);
    if (trace_parse(input, &trace) < 0)
        return;
    trace_put(&trace, &text);
    CHECK(trace_parse(text_view(&text), &again) == 0);
    CHECK(again.parent_id == trace.parent_id && again.trace_id[1] == trace.trace_id[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view input = view_make((const char *)data, size), member;
    const char *limit = input.ptr + size;
    struct sockaddr_storage address;
    struct forwarded_walk walk;
    struct forwarded forwarded;
    struct field memory[1];
    struct fields fields;
    struct cidr cidr;

    if (size == 0)
        return 0;
    fields_init(&fields, memory, 1);
    CHECK(fields_add(&fields, FIELD_FORWARDED, VIEW("Forwarded"), input) == 0);
    walk = forwarded_walk(&fields, FIELD_FORWARDED);
    while (forwarded_last(&walk, &member)) {
        CHECK(member.len > 0 && member.ptr >= input.ptr && member.ptr + member.len <= limit);
        limit = member.ptr;
        if (forwarded_parse(member, &forwarded) == 0) {
            read_view(forwarded.for_node);
            read_view(forwarded.host);
            read_view(forwarded.proto);
        }
        (void)forwarded_node(member, &address);
    }
    if (cidr_parse(input, &cidr) == 0 && forwarded_node(view_first(input, view_find(input, '/')), &address) == 0)
        CHECK(cidr_match(&cidr, (const struct sockaddr *)&address) || cidr.bits < 96);
    check_trace(input);
    return 0;
}
