# Shared by `run` and `check`: starts the demo origin and the node, and stops exactly these two.
# Sourced from the repository's root by bash.

. examples/lib.sh

origin_pid=
node_pid=
output=$(mktemp -d)

start_origin() {
    node examples/demo/origin.mjs 0 >"$output/origin" 2>&1 &
    origin_pid=$!
    origin_port=$(wait_for "$output/origin" "origin on" "$origin_pid")
}

# start_node LISTEN ADMIN
start_node() {
    build/doorstep serve --listen "$1" --admin "$2" "http://127.0.0.1:$origin_port" >"$output/node" 2>&1 &
    node_pid=$!
    port=$(wait_for "$output/node" "listening on" "$node_pid") && admin_port=$(wait_for "$output/node" "admin on" "$node_pid")
}

stop_all() {
    trap '' INT TERM
    for pid in $node_pid $origin_pid; do
        end "$pid"
    done
    rm -rf "$output"
}
