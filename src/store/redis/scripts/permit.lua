-- Permits are taken, kept and given back.

local DO = {}

function DO.permit()
    local id = arg.session
    local session = call('HMGET', K.session(id), 'since', 'permits', 'idle_about')
    if not session[1] then fail('not_found', 'session ' .. id .. ' is not known to the store (any more); join again') end
    local ends = G.advance_lease_time(arg.lease) + 2 * arg.lease
    local granted, woken = {}, G.nobody_woken()
    for _, wanted in ipairs(arg.limits) do
        granted[#granted + 1] = G.permit(id, tonumber(session[1]), session[3], wanted, woken)
    end
    -- One that has and wants nothing any more is found so when that ends, once.
    if not session[2] then call('HSET', K.session(id), 'permits', 1) end
    call('ZADD', K.permit_ends, ends, id)
    return { granted = granted, woken = woken.ports }
end
