#!/bin/sh
# `make bench`: installs the peers when missing, builds, then measures side by side. QUICK=1 takes about a minute.
# ONLY=rows,idle,objects,misses,malloc picks parts.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh
tools/install-deps bench
make -s DOORSTEP_DEPS=1 -j"$(nproc)" all benches
exec "$(test_node)" bench/run.mjs
