-- Cancelling lone jobs. What waits is cancelled at once and stays in its entry, which a claim passes over. What is under a lease is noted
-- in it: the worker hears of it with its next renewal or report, and whatever becomes of the lease, the job goes nowhere else.

-- The leases of a chunk, by session: one call for each.
local function leases_of_chunk(wf, step, chunk)
    local prefix = hex(step, 8) .. hex(chunk, 8)
    local numbers, order, leases = {}, {}, {}
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 1024)) do
        local session, number = member:sub(17):match('^(%x+):(%d+)$')
        if not numbers[session] then
            numbers[session] = {}
            order[#order + 1] = session
        end
        table.insert(numbers[session], number)
    end
    for _, session in ipairs(order) do
        for i, text in ipairs(call('HMGET', K.lease(session), unpack(numbers[session]))) do
            if text then
                local lease = unpack_row(text, LEASE_FIELDS)
                lease.session, lease.number = session, numbers[session][i]
                leases[#leases + 1] = lease
            end
        end
    end
    return leases
end

-- So many workers are told of what they are to stop; the others hear of it when they renew.
local TOLD = 20

-- Tells workers to renew; returns the ports of those on the caller's host.
local function tell(sessions)
    local told = {}
    for i = 1, math.min(#sessions, TOLD) do
        local text = call('HGET', K.session(sessions[i]), 'idle_about')
        local about = text and cmsgpack.unpack(text)
        if about and about.host == arg.host then
            told[#told + 1] = about.port
        elseif about then
            call('PUBLISH', about.channel, 'renew')
        end
    end
    return told
end

-- Notes in the leases which of their jobs are to be stopped; returns those that are under a lease, and whom to tell.
local function stop_leased(leases, jobs)
    local stopping, fields, order = '', {}, {}
    for _, lease in ipairs(leases) do
        local stop = M.both(lease.jobs, jobs)
        stopping = M.either(stopping, stop)
        if M.minus(stop, lease.stop or '') ~= '' then
            lease.stop = M.either(lease.stop or '', stop)
            if not fields[lease.session] then
                fields[lease.session] = {}
                order[#order + 1] = lease.session
            end
            table.insert(fields[lease.session], lease.number)
            table.insert(fields[lease.session], pack(lease, LEASE_FIELDS))
        end
    end
    for _, session in ipairs(order) do call('HSET', K.lease(session), unpack(fields[session])) end
    return stopping, tell(order)
end

-- Takes jobs that wait for nothing any more out of the timers of their chunk, as far as those are among the step's first; what is left
-- of the others does nothing when its time comes.
local function leave_timers(wf, step, chunk, jobs)
    local prefix, names = hex(step, 8), {}
    for _, name in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'timers'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 5000)) do
        if unhex(name:sub(23)) == chunk and #names < 1025 then names[#names + 1] = name end
    end
    if #names == 0 then return end
    local gone, global, changed = {}, {}, {}
    for i, text in ipairs(call('HMGET', K.wf(wf, 'timer-jobs'), unpack(names))) do
        local timer = text and cmsgpack.unpack(text)
        if timer and M.both(timer[2], jobs) ~= '' then
            local left = M.minus(timer[2], jobs)
            if left == '' then
                gone[#gone + 1], global[#global + 1] = names[i], wf .. ':' .. names[i]
            else
                changed[#changed + 1], changed[#changed + 2] = names[i], cmsgpack.pack({ timer[1], left })
            end
        end
    end
    if #gone > 0 then
        call('HDEL', K.wf(wf, 'timer-jobs'), unpack(gone))
        call('ZREM', K.wf(wf, 'timers'), unpack(gone))
        call('ZREM', K.timers, unpack(global))
    end
    if #changed > 0 then call('HSET', K.wf(wf, 'timer-jobs'), unpack(changed)) end
end

-- So many leases that travel are taken back by one cancel; jobs under others are cancelled where those arrive, or end.
local RECALLED = 8

-- Takes back what is on its way to a worker of these jobs: it has started nowhere.
local function recall_forwarded(leases, jobs)
    local recalled = 0
    for _, lease in ipairs(leases) do
        if lease.published and recalled < RECALLED and M.both(lease.jobs, jobs) ~= '' then
            recalled = recalled + 1
            lease.name = lease.session .. ':' .. lease.number
            G.take_back(lease, false)
        end
    end
    return recalled
end

-- Cancels named jobs of a lane's chunk.
function G.cancel_in_chunk(step, chunk, named, keep, is_recalled)
    local wf, number = step.wf, step.step
    local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
    local function in_state(is) return M.both(named, M.where(bytes, function(byte) return is(state_of(byte)) end)) end
    local unsettled = in_state(function(state) return state < SUCCEEDED end)
    local cancelled = in_state(function(state) return state == CANCELLED end)
    local leases = unsettled ~= '' and leases_of_chunk(wf, number, chunk.chunk) or {}
    if not is_recalled and recall_forwarded(leases, unsettled) > 0 then
        return G.cancel_in_chunk(G.step(wf, number), chunk, named, keep, true)
    end
    local stopping, told = stop_leased(leases, unsettled)
    local waiting = M.minus(unsettled, stopping)
    local answer = { cancelled = M.len(cancelled) + M.len(waiting), stopping = M.len(stopping), told = told }
    if waiting == '' then return answer end
    if M.both(waiting, in_state(function(state) return state ~= OPEN end)) ~= '' then
        leave_timers(wf, number, chunk.chunk, waiting)
    end
    local after = M.change(bytes, waiting, function(byte) return byte - state_of(byte) + CANCELLED end)
    G.settle_jobs(wf, number, chunk, bytes, waiting, CANCELLED)
    G.leave_turn(step, chunk.chunk, M.both(waiting, in_state(function(state) return state == OPEN end)), false)
    G.end_sole_of_settled(step, chunk.chunk, waiting)
    if keep > 0 then
        G.keep_chunk(step, chunk, keep)
    elseif G.is_unwanted(wf, chunk, after) then
        G.drop_chunk(step, chunk, after)
    end
    return answer
end
