# Shared by `run` and `check`: starts the demo origin and the node, and stops exactly these two.
# Sourced from the repository's root by bash.

origin_pid=
node_pid=
output=$(mktemp -d)

# wait_for FILE PATTERN PID: prints the port of the first line that matches; fails when the process ends before.
wait_for() {
    local port
    for _ in $(seq 500); do
        port=$(sed -n "s/.*$2 [^ ]*:\([0-9][0-9]*\).*/\1/p" "$1" | head -n 1)
        if [ -n "$port" ]; then
            echo "$port"
            return 0
        fi
        kill -0 "$3" 2>/dev/null || break
        sleep 0.02
    done
    cat "$1" >&2
    return 1
}

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
        kill -TERM "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$output"
}
