-- Claiming: slices are cut off the front of the lines that a worker names, and leased to it. A claim looks at those lines only, so its
-- cost depends on the types a worker knows and never on the backlog.

local DO = {}

local SOFT_CALLS = 440
local MAX_PARKED = 40

-- How long a forwarded lease lasts at most.
local LONGEST = 15 * 60 * 1000

-- The lines that the claim names and that have work, in the order in which it serves them.
local function lines_of(forwards)
    local names, lines = {}, {}
    local paused = {}
    for _, name in ipairs(call('SMEMBERS', K.paused)) do paused[name] = true end
    for _, queues in ipairs({ arg.queues, arg.by_broker }) do
        for _, take in ipairs(arg.takes) do
            for _, queue in ipairs(queues) do
                if not paused['q:' .. queue] and not paused['t:' .. take.job_type] then
                    names[#names + 1] = queue .. '\0' .. take.job_type
                end
            end
        end
    end
    local direct, needs_permits = {}, {}
    for _, queue in ipairs(arg.queues) do direct[queue] = true end
    for _, of in ipairs(arg.permits or {}) do needs_permits[of[1]] = true end
    if #names == 0 then return lines end
    local numbers = {}
    for _, list in ipairs(call('HMGET', K.line_index, unpack(names))) do
        if list then
            for number in list:gmatch('%d+') do numbers[#numbers + 1] = tonumber(number) end
        end
    end
    if #numbers == 0 then return lines end
    local active = call('SMISMEMBER', K.active, unpack(numbers))
    -- Where there are more than one claim looks at, the next one begins elsewhere.
    for n = 1, #numbers do
        local i = (n + now()) % #numbers + 1
        local number = numbers[i]
        if active[i] == 1 and #lines < 64 then
            local row = call('HMGET', K.line(number), 'type', 'suspect', 'priority', 'turn', 'asked', 'queue')
            local suspect, needs_permit = row[2] == '1', needs_permits['t:' .. row[1]]
            -- What is suspect is not forwarded; of what comes by a broker only that is claimed, and what needs permits.
            if not (suspect and forwards) and (direct[row[6]] or suspect or needs_permit) then
                lines[#lines + 1] = {
                    line = number, job_type = row[1], suspect = suspect, priority = tonumber(row[3]), turn = tonumber(row[4]),
                    asked = row[5], queue = row[6],
                }
            end
        end
    end
    table.sort(lines, function(a, b)
        local mine, other = a.asked == arg.session, b.asked == arg.session
        if mine ~= other then return mine end
        if a.priority ~= b.priority then return a.priority > b.priority end
        if a.turn ~= b.turn then return a.turn < b.turn end
        return a.line < b.line
    end)
    return lines
end

-- Asks this worker to drain for the suspect work of a line, unless a live one has been asked; returns whether it is this one.
local function ask_to_drain(line)
    if line.asked == arg.session then return true end
    if line.asked and call('ZSCORE', K.sessions, line.asked) then return false end
    call('HSET', K.line(line.line), 'asked', arg.session)
    return true
end

local function cut(line, step, entry, take, wishes)
    local wf, number = step.wf, step.step
    local chunk, first, jobs, rest
    local is_lane = G.workflow(wf).state == WF.standing
    -- Somebody may have skipped jobs of it.
    if entry.low and (is_lane or step.skipped > 0) then
        -- Jobs of it may have been cancelled, and whole chunks be gone.
        local at = G.find_chunk(wf, number, entry.low) or G.chunks_from(wf, number, entry.low, 1)[1]
        if at and at.first < entry.high then
            chunk, first = at.chunk, at.first
            local from, till = math.max(entry.low - first, 0), math.min(at.jobs, entry.high - first)
            local open, back = M.range(from, till), nil
            if step.cancelled + step.skipped > 0 then
                open = M.both(open, M.where(G.bytes(wf, chunk, at.jobs), function(byte) return state_of(byte) == OPEN end))
            end
            jobs, back = M.split(open, take)
            local after = till
            if back ~= '' then
                after = nil
                M.each(back, function(place) after = after or place end)
            end
            if first + after < entry.high then
                rest = { low = first + after, high = entry.high, recoveries = entry.recoveries, alone = entry.alone }
                rest.published = entry.published
            end
        else
            jobs = ''
        end
    elseif entry.low then
        local at = G.chunk_at(wf, number, entry.low)
        chunk, first = at.chunk, at.first
        local from = entry.low - first
        local till = math.min(from + take, at.jobs, entry.high - first)
        jobs = M.range(from, till)
        if first + till < entry.high then
            rest = { low = first + till, high = entry.high, recoveries = entry.recoveries, alone = entry.alone }
            rest.published = entry.published
        end
    else
        -- A lane's chunk is gone once all of its jobs have been cancelled and are not kept any more.
        local at = G.find_chunk(wf, number, entry.first)
        if is_lane and (not at or at.chunk ~= entry.chunk) then at = { jobs = 0 } end
        at = at or G.chunk_at(wf, number, entry.first)
        local bytes = at.jobs > 0 and G.bytes(wf, entry.chunk, at.jobs) or ''
        local open = M.both(entry.jobs, M.where(bytes, function(byte) return state_of(byte) == OPEN end))
        chunk, first = entry.chunk, entry.first
        local back
        jobs, back = M.split(open, take)
        if back ~= '' then
            rest = { chunk = chunk, first = first, jobs = back, recoveries = entry.recoveries, alone = entry.alone }
            rest.published = entry.published
        end
    end
    local queue = K.queue(wf, number, line.suspect)
    if rest then
        call('LSET', queue, 0, cmsgpack.pack(rest))
    else
        call('LPOP', queue)
    end
    if not rest and call('LLEN', queue) == 0 then
        if not G.leave_line(line.line, wf, number) then call('ZADD', K.places(line.line), next_turn(line.line), wf) end
    else
        local turn = next_turn(line.line)
        call('ZADD', K.ready(line.line, wf), turn, number)
        call('ZADD', K.places(line.line), turn, wf)
    end
    if jobs == '' then return nil end
    local length, published = arg.lease, entry.published or 0
    if wishes.forwards then length = math.min(length * 2 ^ math.min(published, 30), math.max(LONGEST, length)) end
    local lease = {
        session = arg.session, number = wishes.lease, name = arg.session .. ':' .. wishes.lease, wf = wf, step = number,
        chunk = chunk, first = first, jobs = jobs, deadline = wishes.lease_time + length, claimed_at = now(), last_report = 0, record = 0,
        recoveries = entry.recoveries, alone = entry.alone, suspect = line.suspect,
        published = wishes.forwards and published + 1 or nil,
    }
    G.put_lease(lease)
    G.note('granted', 0, lease, jobs)
    G.note_start(step, chunk, jobs)
    call('ZADD', K.leases, lease.deadline, lease.name)
    call('ZADD', K.wf(wf, 'leases'), 0, hex(number, 8) .. hex(chunk, 8) .. lease.name)
    step.leased = step.leased + M.len(jobs)
    step.started_at = step.started_at or now()
    G.put_step(step)
    local workflow = G.workflow(wf)
    if workflow.state == WF.pending then workflow.state = WF.running end
    workflow.started_at = workflow.started_at or now()
    G.put_workflow(workflow)
    return lease
end

-- How many more jobs of a line the worker's permits let it take; nil if nothing limits them. The permits themselves may be on another shard.
local function permitted(line, wishes)
    local of_queue, of_type = wishes.permits['q:' .. line.queue], wishes.permits['t:' .. line.job_type]
    if not of_queue and not of_type then return nil end
    return math.min(of_queue or of_type, of_type or of_queue, wishes.max_limited)
end

local function use_permits(line, wishes, jobs)
    for _, name in ipairs({ 'q:' .. line.queue, 't:' .. line.job_type }) do
        if wishes.permits[name] then wishes.permits[name] = math.max(wishes.permits[name] - jobs, 0) end
    end
end

-- Tells the limits of a line that lacks permits: all of them, for they are taken together.
local function tell_used_up(line, wishes, waits)
    local names = { 'q:' .. line.queue, 't:' .. line.job_type }
    if wishes.permits[names[1]] ~= 0 and wishes.permits[names[2]] ~= 0 then return end
    for _, name in ipairs(names) do
        local told = not wishes.permits[name]
        for _, other in ipairs(waits) do told = told or other == name end
        if not told then waits[#waits + 1] = name end
    end
end

-- Leaves lines alone of which the worker can take nothing, and tells which permits it lacks. Nobody else is told of them: who waits for a
-- permit is woken when one is free.
local function with_permits(lines, wishes, waits)
    if not arg.permits then return lines end
    local kept = {}
    for _, line in ipairs(lines) do
        if permitted(line, wishes) == 0 then tell_used_up(line, wishes, waits) else kept[#kept + 1] = line end
    end
    return kept
end

-- How much the next slice of a step may have; nil if this claim wants no more of it.
local function wanted(line, step, wishes)
    local take = wishes.takes[line.job_type]
    if not take then return nil end
    -- A suspect slice goes whole: it is halved when it kills its worker, not before.
    local jobs = line.suspect and 1e9 or math.min(take.jobs, take.budget)
    -- It runs alone, but no more of it than its limits let run.
    jobs = math.min(jobs, permitted(line, wishes) or jobs)
    if step.limit then jobs = math.min(jobs, math.max(step.limit - step.leased, 0), wishes.max_limited) end
    if jobs <= 0 then return nil end
    if has_keys(step, LIMITED) then jobs = math.min(jobs, KEYED_SLICE, wishes.max_limited) end
    if jobs <= 0 then return nil end
    if line.suspect then return jobs end
    local fair = math.ceil(ready_jobs(step) / (2 * wishes.workers))
    return math.min(jobs, math.max(1, math.min(fair, 1024)))
end

-- Leases one slice off a line; otherwise says 'empty', 'not wanted' or 'not now'. What may not run now is parked on the way.
local function grant(line, wishes)
    local take = wishes.takes[line.job_type]
    if not line.suspect and (not take or take.budget == 0) or permitted(line, wishes) == 0 then return nil, 'not wanted' end
    for _ = 1, MAX_PARKED do
        if cost.calls >= SOFT_CALLS then return nil, 'not now' end
        local first = call('ZRANGE', K.places(line.line), 0, 0, 'WITHSCORES')
        if #first == 0 or tonumber(first[2]) >= PARKED then
            call('SREM', K.active, line.line)
            return nil, 'empty'
        end
        local wf = tonumber(first[1])
        local state = G.workflow(wf).state
        local ready = call('ZRANGE', K.ready(line.line, wf), 0, 0, 'WITHSCORES')
        local may_run = state == WF.pending or state == WF.running or state == WF.cancelling or state == WF.standing
        if not may_run or #ready == 0 or tonumber(ready[2]) >= PARKED then
            call('ZADD', K.places(line.line), PARKED, wf)
        else
            -- What is damaged is parked for good: it must not keep anybody from claiming the rest.
            local sound, step = pcall(G.step, wf, tonumber(ready[1]))
            if not sound or state == WF.cancelling and not step.always or step.exceeded or is_at_limit(step) then
                call('ZADD', K.ready(line.line, wf), PARKED, ready[1])
            else
                local entry = G.first_entry(wf, step.step, line.suspect)
                if not entry then
                    G.leave_line(line.line, wf, step.step)
                else
                    local jobs = wanted(line, step, wishes)
                    if not jobs then return nil, 'not wanted' end
                    local lease = cut(line, step, entry, jobs, wishes)
                    if lease then
                        local count = M.len(lease.jobs)
                        wishes.lease = wishes.lease + 1
                        wishes.granted = wishes.granted + count
                        if take then take.budget = math.max(take.budget - count, 0) end
                        use_permits(line, wishes, count)
                        if G.is_limited(step) or permitted(line, wishes) then wishes.max_limited = math.max(wishes.max_limited - count, 0) end
                        return lease
                    end
                end
            end
        end
    end
    return nil, 'not now'
end

function DO.claim()
    local id = arg.session
    local row = call('HMGET', K.session(id), 'last_lease', 'idle_about', 'worker')
    if not row[1] then fail('not_found', 'session ' .. id .. ' is not known to the store (any more); join again') end
    local last_lease = tonumber(row[1])
    local slices, lease_time, forwards = {}, G.advance_lease_time(arg.lease), row[3] ~= '1'
    if arg.first_lease <= last_lease then
        -- Sent again: what it was given, as far as it still holds it.
        for number = arg.first_lease, math.min(arg.first_lease + arg.max_leases - 1, last_lease) do
            local lease = G.lease_named(id .. ':' .. number)
            if lease and not lease.replaced then slices[#slices + 1] = G.describe(lease) end
        end
        return { slices = slices, last_lease = last_lease, empty = false, idle = false, drain = false, held = 0, woken = {} }
    end
    local wishes = {
        lease = arg.first_lease, lease_time = lease_time, forwards = forwards, workers = math.max(call('ZCARD', K.workers), 1), takes = {},
        granted = 0, max_limited = arg.max_limited, permits = {},
    }
    for _, of in ipairs(arg.permits or {}) do wishes.permits[of[1]] = of[2] end
    local waits = {}
    for _, take in ipairs(arg.takes) do wishes.takes[take.job_type] = { jobs = take.jobs, budget = take.budget } end
    -- Whether there is more for another claim of this worker; what is there for others only must not make it ask again and again.
    local more, more_for_others, drain, leases, served = false, false, false, {}, {}
    local lines, turn = with_permits(lines_of(forwards), wishes, waits), 0
    for _, line in ipairs(lines) do turn = math.max(turn, line.turn) end
    local room, held = arg.max_leases, 0
    if arg.most_held then
        held = call('HLEN', K.lease(id))
        room = math.min(room, math.max(arg.most_held - held, 0))
    end
    while #lines > 0 do
        if #leases >= room or cost.calls >= SOFT_CALLS then
            more = true
            break
        end
        local line = table.remove(lines, 1)
        if line.suspect and not (arg.alone and #leases == 0) then
            drain = ask_to_drain(line) or drain
        else
            local lease, why = grant(line, wishes)
            if lease then
                turn = turn + 1
                served[line.line] = turn
                leases[#leases + 1] = lease
                if line.suspect then
                    -- It runs with nothing beside it.
                    call('HDEL', K.line(line.line), 'asked')
                    drain = true
                    break
                end
                local behind = #lines + 1
                for i, other in ipairs(lines) do
                    if other.priority < line.priority then
                        behind = i
                        break
                    end
                end
                table.insert(lines, behind, line)
            elseif why == 'not now' then
                more = true
            elseif why == 'not wanted' then
                tell_used_up(line, wishes, waits)
                more_for_others = true
                feed(line.line)
            end
        end
    end
    -- Where starts are limited, each of them decides when the next may come.
    G.admit()
    for line, at in pairs(served) do
        call('HSET', K.line(line), 'turn', at)
        feed(line)
    end
    for _, lease in ipairs(leases) do slices[#slices + 1] = G.describe(lease) end
    -- What it wants no more of now it may want again as soon as it is through with what it got.
    local empty = not more and (#leases == 0 or not more_for_others)
    local idle = empty and arg.free_slots > wishes.granted and not drain
    if #leases > 0 then call('HSET', K.session(id), 'last_lease', wishes.lease - 1) end
    if idle and row[2] then
        -- Who has been idle for longest is woken first.
        call('ZADD', K.idle, 'NX', call('HINCRBY', K.shard, 'idle_turn', 1), id)
        call('HSET', K.idle_about, id, row[2])
    else
        call('ZREM', K.idle, id)
    end
    G.flush()
    local woken = {}
    if more and #leases > 0 or more_for_others then woken = G.wake() end
    return {
        slices = slices, last_lease = wishes.lease - 1, empty = empty, idle = idle, drain = drain, woken = woken, waits = waits,
        held = held + #leases,
    }
end
