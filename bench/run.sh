#!/bin/sh
# `make bench`: installs the peers when missing, builds, then measures side by side. QUICK=1 takes a few minutes.
# ONLY=rows,idle,objects,misses,malloc,disk,shared,purge,outage,region,ai picks parts. More in docs/testing.md.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh
tools/install-deps bench
make -s DOORSTEP_DEPS=1 -j"$(nproc)" all benches
exec "$(test_node)" bench/run.mjs
