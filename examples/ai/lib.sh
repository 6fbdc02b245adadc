# Shared by `run` and `check`: starts Redis, two providers and two nodes, and stops exactly these. Sourced from the
# repository's root by bash.

. examples/lib.sh
. tools/lib.sh

here=examples/ai
doorstep=${DOORSTEP_BIN:-build/doorstep}
node=$(test_node)
work=$(mktemp -d)
redis_pid= cloud_pid= local_pid= model_pid=
model_name= model_port=
declare -A node_pid port admin_port region=([1]=eu [2]=us)

# port_free PORT: nobody listens there.
port_free() {
    ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

start_redis() {
    for _ in $(seq 20); do
        redis_port=$((20000 + RANDOM % 12000))
        redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$work" >"$work/redis" 2>&1 &
        redis_pid=$!
        for _ in $(seq 250); do
            grep -qs 'Ready to accept' "$work/redis" && return 0
            kill -0 "$redis_pid" 2>/dev/null || break
            sleep 0.02
        done
    done
    cat "$work/redis" >&2
    return 1
}

# start_provider NAME DELAY PACE: a scripted provider; sets NAME_pid and NAME_port.
start_provider() {
    "$node" tests/flow/harness/provider.mjs --port 0 --name "$1" --delay "$2" --pace "$3" >"$work/$1" 2>&1 &
    declare -g "$1_pid=$!"
    declare -g "$1_port=$(wait_for "$work/$1" "provider on" $!)"
}

# find_model: what runs models on this machine, when there is one: Ollama that serves, or llama-server with LLAMA_MODEL=file.gguf.
# Sets model_port and model_name.
find_model() {
    local name
    name=$(curl -s --max-time 2 http://127.0.0.1:11434/v1/models | sed -n 's/.*"id":"\([^"]*\)".*/\1/p' | head -n 1)
    if command -v ollama >/dev/null && [ -n "$name" ]; then
        model_port=11434
        model_name=$name
    elif command -v llama-server >/dev/null && [ -f "${LLAMA_MODEL:-}" ]; then
        model_port=$((20000 + RANDOM % 12000))
        model_name=$(basename "$LLAMA_MODEL" .gguf)
        llama-server --host 127.0.0.1 --port "$model_port" --model "$LLAMA_MODEL" >"$work/model" 2>&1 &
        model_pid=$!
        for _ in $(seq 600); do
            curl -sf "http://127.0.0.1:$model_port/health" >/dev/null && return 0
            kill -0 "$model_pid" 2>/dev/null || break
            sleep 0.1
        done
        model_port= model_name=
    fi
}

# start_node N LISTEN ADMIN: with `machine`, a model for what runs on this machine besides, when something does.
start_node() {
    local found=
    [ -z "$model_port" ] ||
        found="s#^  prices:#    machine: { url: \"http://127.0.0.1:$model_port/v1\", dialect: openai, rung: device, models: [\"$model_name\"] }\n  prices:#"
    sed -e "s/127.0.0.1:9001/127.0.0.1:$cloud_port/" -e "s/127.0.0.1:9003/127.0.0.1:$local_port/" \
        -e "s/127.0.0.1:6379/127.0.0.1:$redis_port/" -e "s/127.0.0.1:8081/$2/" -e "s/127.0.0.1:9181/$3/" -e "$found" \
        -e "s#state-eu.db#$work/state-$1.db#" \
        -e "s/node-eu, region: eu/node-${region[$1]}, region: ${region[$1]}/" $here/site.yaml >"$work/node-$1.yaml"
    "$doorstep" run -c "$work/node-$1.yaml" >"$work/node-$1" 2>&1 &
    node_pid[$1]=$!
    port[$1]=$(wait_for "$work/node-$1" "listening on" "${node_pid[$1]}") &&
        admin_port[$1]=$(wait_for "$work/node-$1" "admin on" "${node_pid[$1]}")
}

# wait_ready N...: these nodes are connected to the store.
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

# wait_written N: what this node has for the store is there.
wait_written() {
    for _ in $(seq 500); do
        curl -s "http://127.0.0.1:${admin_port[$1]}/metrics" | grep -q '^doorstep_shared_queued_bytes 0' && return
        sleep 0.02
    done
}

# question CLIENT N MODEL QUESTION: of that node with that client.
question() {
    timeout 60 "$node" $here/ask.mjs "$1" "http://127.0.0.1:${port[$2]}" "$3" "$4"
}

stop_all() {
    trap '' INT TERM
    for pid in "${node_pid[@]}" $cloud_pid $local_pid $model_pid $redis_pid; do
        kill -TERM "$pid" 2>/dev/null
    done
    for pid in "${node_pid[@]}" $cloud_pid $local_pid $model_pid $redis_pid; do
        wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
