/* The part of ONNX Runtime's C interface that we call. Its functions come in a table that is only ever appended to: the first 102 entries,
 * declared here, are those of its first version and stand where they are in every later one. Functions that return a status return
 * NULL when all is well; a status must be released. */
#pragma once

#include "base/compiler.h"

#include <stdint.h>

#define ORT_VERSION 1

enum { ORT_FLOAT = 1, ORT_INT64 = 7 };          /* element types */
enum { ORT_LOG_FATAL = 4 };                     /* nothing of a prompt in anybody's log */
enum { ORT_ARENA = 1, ORT_MEMORY_DEFAULT = 0 }; /* allocator and memory type */

struct ort_status;
struct ort_env;
struct ort_session;
struct ort_options;
struct ort_memory;
struct ort_value;
struct ort_shape;
struct ort_allocator;
struct ort_run_options;

typedef void (*ort_unused)(void);

struct ort_api {
    ort_unused unused_0[2];
    const char *(*message)(const struct ort_status *status);
    struct ort_status *(*create_env)(int log_level, const char *name, struct ort_env **ret);
    ort_unused unused_4[3];
    struct ort_status *(*create_session)(const struct ort_env *env, const char *path, const struct ort_options *options,
                                         struct ort_session **ret);
    ort_unused unused_8;
    struct ort_status *(*run)(struct ort_session *session, const struct ort_run_options *options,
                              const char *const *input_names, const struct ort_value *const *inputs, size_t input_count,
                              const char *const *output_names, size_t output_count, struct ort_value **ret);
    struct ort_status *(*create_options)(struct ort_options **ret);
    ort_unused unused_11[13];
    struct ort_status *(*set_intra_threads)(struct ort_options *options, int threads);
    struct ort_status *(*set_inter_threads)(struct ort_options *options, int threads);
    ort_unused unused_26[4];
    struct ort_status *(*input_count)(const struct ort_session *session, size_t *ret);
    struct ort_status *(*output_count)(const struct ort_session *session, size_t *ret);
    ort_unused unused_32[4];
    struct ort_status *(*input_name)(const struct ort_session *session, size_t index, struct ort_allocator *allocator,
                                     char **ret);
    struct ort_status *(*output_name)(const struct ort_session *session, size_t index, struct ort_allocator *allocator,
                                      char **ret);
    ort_unused unused_38[11];
    struct ort_status *(*create_tensor)(const struct ort_memory *memory, void *data, size_t bytes, const int64_t *shape,
                                        size_t shape_len, int type, struct ort_value **ret);
    ort_unused unused_50;
    struct ort_status *(*tensor_data)(struct ort_value *value, void **ret);
    ort_unused unused_52[8];
    struct ort_status *(*element_type)(const struct ort_shape *shape, int *ret);
    struct ort_status *(*dimension_count)(const struct ort_shape *shape, size_t *ret);
    struct ort_status *(*dimensions)(const struct ort_shape *shape, int64_t *ret, size_t len);
    ort_unused unused_63[2];
    struct ort_status *(*tensor_shape)(const struct ort_value *value, struct ort_shape **ret);
    ort_unused unused_66[3];
    struct ort_status *(*create_cpu_memory)(int allocator, int memory, struct ort_memory **ret);
    ort_unused unused_70[6];
    struct ort_status *(*free_with)(struct ort_allocator *allocator, void *memory);
    ort_unused unused_77;
    struct ort_status *(*default_allocator)(struct ort_allocator **ret);
    ort_unused unused_79[13];
    void (*release_env)(struct ort_env *env);
    void (*release_status)(struct ort_status *status);
    void (*release_memory)(struct ort_memory *memory);
    void (*release_session)(struct ort_session *session);
    void (*release_value)(struct ort_value *value);
    ort_unused unused_97[2];
    void (*release_shape)(struct ort_shape *shape);
    void (*release_options)(struct ort_options *options);
    ort_unused unused_101;
};

/* What the one exported function, OrtGetApiBase, returns. */
struct ort_base {
    const struct ort_api *(*get)(uint32_t version);
    const char *(*version)(void);
};

#define ORT_AT(member, index) \
    _Static_assert(offsetof(struct ort_api, member) == (index) * sizeof(ort_unused), "place of " #member)
ORT_AT(message, 2);
ORT_AT(create_session, 7);
ORT_AT(run, 9);
ORT_AT(create_options, 10);
ORT_AT(set_intra_threads, 24);
ORT_AT(input_count, 30);
ORT_AT(input_name, 36);
ORT_AT(create_tensor, 49);
ORT_AT(tensor_data, 51);
ORT_AT(element_type, 60);
ORT_AT(tensor_shape, 65);
ORT_AT(create_cpu_memory, 69);
ORT_AT(free_with, 76);
ORT_AT(default_allocator, 78);
ORT_AT(release_env, 92);
ORT_AT(release_value, 96);
ORT_AT(release_shape, 99);
_Static_assert(sizeof(struct ort_api) == 102 * sizeof(ort_unused), "the first version's table");
