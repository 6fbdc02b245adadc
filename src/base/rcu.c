/* The four RCU calls this program makes, with what ThreadSanitizer needs to see: liburcu 0.13 publishes grace periods in
 * ways it cannot follow. */
#include "base/rcu.h"

char rcu_order;
