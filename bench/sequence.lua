-- wrk: a URL nobody asked for before with every request. Argument: its prefix.
local prefix = "/o/"
local n = 0

function init(args)
    prefix = args[1] or prefix
end

function request()
    n = n + 1
    return wrk.format("GET", prefix .. string.format("%09d", n))
end
