# Shared by `run` and `check`: starts PostgreSQL, the shop and the node, and stops exactly these three.
# Sourced from the repository's root by bash.

. examples/lib.sh

here=examples/purge-on-write
app_pid=
node_pid=
database=
work=$(mktemp -d)

# as_database_user COMMAND...: PostgreSQL does not run as root.
as_database_user() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups "$@")
    else
        "$@"
    fi
}

# A server of its own in a temporary folder, reached over a Unix socket there.
start_database() {
    local initdb
    initdb=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
    if [ -z "$initdb" ]; then
        echo "PostgreSQL is not installed" >&2
        return 1
    fi
    bin=$(dirname "$initdb")
    database=$work/database
    mkdir "$database"
    if [ "$(id -u)" = 0 ]; then
        chmod 711 "$work"
        chown postgres: "$database"
    fi
    as_database_user "$initdb" -D "$database/data" -U postgres -A trust --no-sync --no-locale -E UTF8 >"$work/initdb" 2>&1 || {
        cat "$work/initdb" >&2
        return 1
    }
    export PGHOST=$database PGUSER=postgres PGDATABASE=shop
    control_database start || return 1
    psql -X -q -d postgres -c 'CREATE DATABASE shop' &&
        psql -X -q -v ON_ERROR_STOP=1 -f $here/outbox.sql -f $here/shop.sql >"$work/sql" 2>&1 || {
        cat "$work/sql" >&2
        return 1
    }
    export SHOP_DATABASE="postgres:///shop?host=$database&user=doorstep"
}

# control_database start|stop: waits until it is done.
control_database() {
    as_database_user "$bin/pg_ctl" -s -w -D "$database/data" -l "$database/log" \
        -o "-c listen_addresses= -c unix_socket_directories='$database' -c shared_buffers=16MB" -m fast "$1" || {
        cat "$database/log" >&2
        return 1
    }
}

start_app() {
    node $here/app.mjs 0 >"$work/app" 2>&1 &
    app_pid=$!
    app_port=$(wait_for "$work/app" "origin on" "$app_pid")
}

# start_node LISTEN ADMIN: site.yaml with these addresses.
start_node() {
    sed -e "s/127.0.0.1:3000/127.0.0.1:$app_port/" -e "s/127.0.0.1:8080/$1/" -e "s/127.0.0.1:9180/$2/" \
        -e "s#/var/lib/doorstep/shop#$work/disk#" $here/site.yaml >"$work/site.yaml"
    "${DOORSTEP_BIN:-build/doorstep}" run -c "$work/site.yaml" >"$work/node" 2>&1 &
    node_pid=$!
    port=$(wait_for "$work/node" "listening on" "$node_pid") && admin_port=$(wait_for "$work/node" "admin on" "$node_pid")
}

# The node has read all that the outbox says.
wait_caught_up() {
    for _ in $(seq 500); do
        grep -qs 'PostgreSQL: listening' "$work/node" && return 0
        sleep 0.02
    done
    cat "$work/node" >&2
    return 1
}

stop_all() {
    trap '' INT TERM
    for pid in $node_pid $app_pid; do
        end "$pid"
    done
    [ -z "$database" ] || as_database_user "$bin/pg_ctl" -s -D "$database/data" -m immediate stop 2>/dev/null
    rm -rf "$work"
}
