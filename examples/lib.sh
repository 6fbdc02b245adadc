# Shared by the examples: starting servers and stopping them. Sourced from the repository's root by bash.

# wait_for FILE PATTERN PID: prints the port of the first line that matches; fails when the process ends before.
wait_for() {
    local found
    for _ in $(seq 500); do
        found=$(sed -n "s/.*$2 [^ ]*:\([0-9][0-9]*\).*/\1/p" "$1" 2>/dev/null | head -n 1)
        if [ -n "$found" ]; then
            echo "$found"
            return 0
        fi
        kill -0 "$3" 2>/dev/null || break
        sleep 0.02
    done
    cat "$1" >&2
    return 1
}

# end PID [SIGNAL]: and waits for it.
end() {
    kill "-${2:-TERM}" "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}
