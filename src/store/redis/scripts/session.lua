-- Sessions: join, leave, renew.

local DO = {}

local function known_session(id)
    if call('EXISTS', K.session(id)) == 0 then
        fail('not_found', 'session ' .. id .. ' is not known to the store (any more); join again')
    end
end

local function live(id, deadline, lease, is_worker, since)
    call('HDEL', K.session(id), 'dead_at')
    call('ZREM', K.dead, id)
    call('ZADD', K.sessions, deadline, id)
    call('ZADD', K.shortest, lease, id)
    if is_worker then call('ZADD', K.workers, since, id) end
end

function DO.join()
    local time = G.advance_lease_time(arg.lease)
    local id, key = arg.session, K.session(arg.session)
    if call('EXISTS', key) == 0 then
        call('HSET', key, 'about', arg.about, 'worker', arg.worker and 1 or 0, 'since', now(), 'lease', arg.lease, 'last_lease', 0,
            'last_command', 0)
        if arg.port then
            local function set(names)
                local out = {}
                for _, name in ipairs(names) do out[name] = true end
                return out
            end
            call('HSET', key, 'idle_about', cmsgpack.pack({
                port = arg.port, host = arg.of_host, channel = arg.channel, queues = set(arg.queues), types = set(arg.types),
            }))
        end
    end
    local row = call('HMGET', key, 'worker', 'since', 'lease')
    call('HSET', key, 'deadline', time + arg.lease)
    live(id, time + arg.lease, tonumber(row[3]), row[1] == '1', tonumber(row[2]))
    return {}
end

function DO.leave()
    local id = arg.session
    if call('EXISTS', K.session(id)) == 0 then return { more = false, woken = {} } end
    -- Where much has been deleted already a look at the first of it finds nothing.
    local cursor, held = '0', {}
    repeat
        local page = call('HSCAN', K.lease(id), cursor, 'COUNT', 1000)
        cursor, held = page[1], page[2]
    until #held > 0 or cursor == '0'
    local taken = math.min(#held / 2, 12)
    local more = call('HLEN', K.lease(id)) > taken
    for i = 1, taken do
        local lease = G.lease_named(id .. ':' .. held[i * 2 - 1])
        if lease then G.take_back(lease, false) end
    end
    local woken = G.nobody_woken()
    if not more and call('HEXISTS', K.session(id), 'permits') == 1 then
        more = cost.calls + dirty_rows() > 200 or G.end_permits_of(id, woken)
    end
    if not more then
        -- Its leases are gone, so nothing needs its record; a command repeated after this is refused as unknown.
        call('UNLINK', K.session(id), K.lease(id), K.progress(id), K.permits(id))
        for _, key in ipairs({ K.sessions, K.shortest, K.workers, K.dead, K.idle }) do call('ZREM', key, id) end
        call('HDEL', K.idle_about, id)
    end
    G.cascade()
    G.admit()
    G.flush()
    for _, port in ipairs(G.wake()) do woken.ports[#woken.ports + 1] = port end
    return { more = more, woken = woken.ports }
end

function DO.is_busy()
    call('ZREM', K.idle, arg.session)
    return {}
end

function DO.renew()
    local time = G.advance_lease_time(arg.lease)
    local id, deadline = arg.session, time + arg.lease
    known_session(id)
    local row = call('HMGET', K.session(id), 'worker', 'since', 'lease', 'dead_at', 'permits')
    call('HSET', K.session(id), 'deadline', deadline)
    if row[4] then
        live(id, deadline, tonumber(row[3]), row[1] == '1', tonumber(row[2]))
    else
        call('ZADD', K.sessions, deadline, id)
    end
    if row[5] then call('ZADD', K.permit_ends, 'XX', time + 2 * arg.lease, id) end
    local lost, cancelled, stopped = {}, {}, {}
    for _, number in ipairs(arg.leases) do
        local lease = G.lease_named(id .. ':' .. number)
        if not lease then
            lost[#lost + 1] = number
        else
            lease.deadline = deadline
            local workflow, step = G.workflow(lease.wf), G.step(lease.wf, lease.step)
            if stops(step) then
                -- A lease of a cancelled workflow, or of a step that failed fast, ends with the grace that its jobs were given.
                cancelled[#cancelled + 1] = number
                local grace_until = workflow.state == WF.cancelling and not step.always and workflow.grace_until or deadline
                lease.deadline = math.min(deadline, grace_until, step.grace_until or deadline)
            end
            local stop = lease.stop and M.both(lease.jobs, lease.stop) or ''
            if stop ~= '' then stopped[#stopped + 1] = { number, put_blob(stop) } end
            G.put_lease(lease)
            call('ZADD', K.leases, lease.deadline, lease.name)
        end
    end
    for _, number in ipairs(arg.drafts) do
        local key = id .. ':' .. number
        if call('EXISTS', K.draft(key)) == 1 then call('ZADD', K.drafts, 'GT', deadline, key) end
    end
    for _, told in ipairs(arg.progress) do
        if call('HEXISTS', K.lease(id), told[1]) == 1 then call('HSET', K.progress(id), told[1], told[2]) end
    end
    return { lost = lost, cancelled = cancelled, stopped = stopped }
end
