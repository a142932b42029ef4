-- Leases, and the time by which they end.

local function lease_member(lease)
    return hex(lease.step, 8) .. hex(lease.chunk, 8) .. lease.name
end

function G.lease_named(name)
    local session, number = name:match('^(%x+):(%d+)$')
    local text = call('HGET', K.lease(session), number)
    if not text then return nil end
    local lease = unpack_row(text, LEASE_FIELDS)
    lease.name, lease.session, lease.number = name, session, tonumber(number)
    return lease
end

-- The lease of a member of a workflow's list: its session has 24 digits.
function G.lease_of(member)
    return G.lease_named(member:sub(member:find(':', 1, true) - 24))
end

function G.put_lease(lease)
    call('HSET', K.lease(lease.session), lease.number, pack(lease, LEASE_FIELDS))
end

function G.drop_lease(lease)
    call('HDEL', K.lease(lease.session), lease.number)
    call('HDEL', K.progress(lease.session), lease.number)
    call('ZREM', K.leases, lease.name)
    call('ZREM', K.wf(lease.wf, 'leases'), lease_member(lease))
end

-- Moves lease time on by the time since it last moved: not back, and by at most half of the shortest lease, so that neither an outage
-- nor a jump of the clock costs anybody a lease.
function G.advance_lease_time(lease)
    local there = call('HMGET', K.shard, 'lease_time', 'lease_time_at')
    local shortest = tonumber(call('ZRANGE', K.shortest, 0, 0, 'WITHSCORES')[2] or lease)
    local half = math.floor(math.max(math.min(shortest, lease), 2) / 2)
    local time, at = tonumber(there[1] or 0), tonumber(there[2] or now())
    time = time + math.min(math.max(now() - at, 0), half)
    G.lease_time = time
    call('HSET', K.shard, 'lease_time', time, 'lease_time_at', now())
    return time
end

-- The lease under which the session runs the job.
function G.lease_that_holds()
    local lease, held = G.lease_named(arg.session .. ':' .. arg.lease), false
    if lease then M.each(lease.jobs, function(at) held = held or at == arg.at end) end
    if not held then
        fail('refused', 'lease ' .. arg.lease .. ' does not hold this job (any more): it runs again elsewhere, and what this attempt ' ..
            'saves counts for nothing; end it')
    end
    return lease
end
