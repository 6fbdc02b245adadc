# Shared by the shell tools; sourced from the repository's root.

# The Node of the tests: the locked one when npm ci has run, else whatever is on PATH.
test_node() {
    if [ -x tests/node_modules/.bin/node ]; then
        echo "$PWD/tests/node_modules/.bin/node"
    else
        command -v node
    fi
}
