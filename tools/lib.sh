# Shared by the shell tools; sourced from the repository's root.

# The Node of the tests: the locked one when npm ci has run, else whatever is on PATH. By its own place, since npm 9 of
# Debian 12 makes no link in .bin for it.
test_node() {
    local node
    for node in tests/node_modules/node-linux-*/bin/node; do
        if [ -x "$node" ]; then
            echo "$PWD/$node"
            return
        fi
    done
    command -v node
}
