/* Names of the reasons. Two constant tables from one list; nothing else. */
#include "cache/why.h"

struct view why_name(enum why why)
{
    static const struct view names[WHY_COUNT] = {
#define X(id, name, fwd) [WHY_##id] = { name, sizeof(name) - 1 },
        WHY_LIST(X)
#undef X
    };

    return why < WHY_COUNT ? names[why] : VIEW_NONE;
}

struct view why_fwd(enum why why)
{
    static const struct view tokens[WHY_COUNT] = {
#define X(id, name, fwd) [WHY_##id] = { fwd, sizeof(fwd) - 1 },
        WHY_LIST(X)
#undef X
    };

    return why < WHY_COUNT ? tokens[why] : VIEW_NONE;
}
