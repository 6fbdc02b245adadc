#include "base/rcu.h"

char rcu_order;
