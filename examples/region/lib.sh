# Shared by `run` and `check`: starts Redis, the origin and three nodes with a link each, and stops exactly these.
# Sourced from the repository's root by bash.

. examples/lib.sh

here=examples/region
doorstep=${DOORSTEP_BIN:-build/doorstep}
work=$(mktemp -d)
redis_pid= origin_pid=
declare -A node_pid link_pid port admin_port store_port far_port

# port_free PORT: nobody listens there.
port_free() {
    ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# start_redis: on redis_port when it is set, else on a free port.
start_redis() {
    local try=${redis_port:-}
    for _ in $(seq 20); do
        redis_port=${try:-$((20000 + RANDOM % 12000))}
        redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$work" >"$work/redis" 2>&1 &
        redis_pid=$!
        for _ in $(seq 250); do
            grep -qs 'Ready to accept' "$work/redis" && return 0
            kill -0 "$redis_pid" 2>/dev/null || break
            sleep 0.02
        done
        [ -z "$try" ] || break # else somebody had that port
    done
    cat "$work/redis" >&2
    return 1
}

start_origin() {
    node $here/origin.mjs 0 >"$work/origin" 2>&1 &
    origin_pid=$!
    origin_port=$(wait_for "$work/origin" "origin on" "$origin_pid")
}

# start_link N: the same ports again when it had some.
start_link() {
    node $here/link.mjs "$redis_port" "$origin_port" ${store_port[$1]:-} ${far_port[$1]:-} >"$work/link-$1" 2>&1 &
    link_pid[$1]=$!
    store_port[$1]=$(wait_for "$work/link-$1" "store on" "${link_pid[$1]}") &&
        far_port[$1]=$(wait_for "$work/link-$1" "origin on" "${link_pid[$1]}")
}

# start_node N LISTEN ADMIN
start_node() {
    sed -e "s/127.0.0.1:3000/127.0.0.1:${far_port[$1]}/" -e "s/127.0.0.1:6379/127.0.0.1:${store_port[$1]}/" \
        -e "s/127.0.0.1:8081/$2/" -e "s/127.0.0.1:9181/$3/" \
        -e "s#/var/lib/doorstep/node-1#$work/disk-$1#" -e "s/node-1/node-$1/" $here/site.yaml >"$work/node-$1.yaml"
    "$doorstep" run -c "$work/node-$1.yaml" >"$work/node-$1" 2>&1 &
    node_pid[$1]=$!
    port[$1]=$(wait_for "$work/node-$1" "listening on" "${node_pid[$1]}") &&
        admin_port[$1]=$(wait_for "$work/node-$1" "admin on" "${node_pid[$1]}")
}

# restart_node N [SIGNAL]: on the same ports.
restart_node() {
    end "${node_pid[$1]}" "${2:-TERM}"
    start_node "$1" "127.0.0.1:${port[$1]}" "127.0.0.1:${admin_port[$1]}"
}

# wait_ready N...: these nodes have heard all that the others say.
wait_ready() {
    for n in "$@"; do
        for _ in $(seq 500); do
            curl -s "http://127.0.0.1:${admin_port[$n]}/metrics" | grep -q '^doorstep_bus_caught_up 1' && continue 2
            sleep 0.02
        done
        cat "$work/node-$n" >&2
        return 1
    done
}

stop_all() {
    trap '' INT TERM
    for pid in "${node_pid[@]}" "${link_pid[@]}" $origin_pid $redis_pid; do
        kill -TERM "$pid" 2>/dev/null
    done
    for pid in "${node_pid[@]}" "${link_pid[@]}" $origin_pid $redis_pid; do
        wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
