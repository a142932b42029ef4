-- Reports: where jobs complete. Every part is checked before anything is written: a lease that is not held is refused, a report number
-- seen before changes nothing.

local DO = {}

local MAX_ATTEMPTS = 30

local function all_jobs(part)
    local all, named = '', 0
    for _, name in ipairs({ 'succeeded', 'failed', 'skipped', 'begun', 'returned', 'cancelled' }) do
        all, named = M.either(all, part[name]), named + M.len(part[name])
    end
    for _, name in ipairs({ 'retries', 'postponed' }) do
        for _, wait in ipairs(part[name]) do all, named = M.either(all, wait[2]), named + M.len(wait[2]) end
    end
    return all, named
end

-- Refuses a part that names a job twice, one that the lease does not hold, or one that has no attempt left.
local function check_part(lease, part, bytes)
    local all, named = all_jobs(part)
    local what = 'a report under lease ' .. part.lease
    if named ~= M.len(all) then fail('usage', what .. ' names a job twice') end
    if M.minus(all, lease.jobs) ~= '' then fail('usage', what .. ' names jobs that it does not hold') end
    if M.minus(all, M.where(bytes, function(byte) return state_of(byte) == OPEN end)) ~= '' then
        fail('corrupt', 'lease ' .. part.lease .. ' holds jobs that are not open')
    end
    local tried = M.minus(all, part.returned)
    for _, wait in ipairs(part.postponed) do tried = M.minus(tried, wait[2]) end
    if M.both(tried, M.where(bytes, function(byte) return byte >= MAX_ATTEMPTS * 8 end)) ~= '' then
        fail('usage', what .. ' goes beyond ' .. MAX_ATTEMPTS .. ' attempts')
    end
    M.each(part.begun, function(at)
        if not G.child_of(lease.wf, lease.step, lease.first + at) then
            fail('usage', 'job ' .. (lease.first + at) .. ' of step ' .. lease.step .. ' has no workflow that stands for it')
        end
    end)
    local step = G.step(lease.wf, lease.step)
    for _, added in ipairs(part.added) do
        if not step.grows then fail('usage', 'a job that is none of a batch reported jobs for one') end
        G.check_added(lease.wf, added.step, added.jobs)
    end
    for _, one in ipairs(step.grows and part.adopted or {}) do
        local draft = G.draft(arg.session .. ':' .. one[2])
        if not draft or draft.of_wf ~= lease.wf or not draft.spec then
            fail('refused', 'the draft of what a job adds to its batch is gone')
        end
        G.check_added(lease.wf, draft.spec, 1)
    end
    for _, one in ipairs(step.grows and {} or part.adopted) do
        local feeds = step.feeds
        if not feeds then fail('usage', 'a job that is no source reported emitted jobs') end
        local draft = G.draft(arg.session .. ':' .. one[2])
        if not draft or draft.of_wf ~= lease.wf or draft.of_step ~= feeds then fail('refused', "the source's draft is gone") end
    end
    return all
end

-- What a report comes to if jobs are to be stopped: what would run again does not. What was given back or put off uses up no attempt.
local function heed_stop(part, stop)
    part.unstarted = M.both(part.returned, stop)
    part.returned = M.minus(part.returned, stop)
    local tried = ''
    for _, name in ipairs({ 'retries', 'postponed' }) do
        local left = {}
        for _, wait in ipairs(part[name]) do
            local ends, rest = M.both(wait[2], stop), M.minus(wait[2], stop)
            if name == 'retries' then tried = M.either(tried, ends) else part.unstarted = M.either(part.unstarted, ends) end
            if rest ~= '' then left[#left + 1] = { wait[1], rest } end
        end
        part[name] = left
    end
    part.cancelled = M.either(part.cancelled, tried)
    if part.keep == 0 and (tried ~= '' or part.unstarted ~= '') then part.keep = arg.killed.cancelled_keep end
end

local function settle_part(step, lease, part, chunk, bytes, is_stopped)
    local wf, number = lease.wf, lease.step
    local function put(mask, state, attempt)
        if mask == '' then return end
        bytes = M.change(bytes, mask, function(byte) return byte - state_of(byte) + state + attempt * 8 end)
        G.shift(wf, number, OPEN, state, M.len(mask))
    end
    local function settle(mask, state, attempt)
        put(mask, state, attempt)
        G.note('settled', state, lease, mask)
    end
    settle(part.succeeded, SUCCEEDED, 1)
    settle(part.failed, FAILED, 1)
    settle(part.skipped, SKIPPED, 1)
    settle(part.cancelled, CANCELLED, 1)
    settle(part.unstarted or '', CANCELLED, 0)
    if part.begun ~= '' then
        put(part.begun, DEFERRED, 1)
        G.note('returned', 0, lease, part.begun)
        G.begin_children(step, chunk.first, part.begun)
    end
    for _, wait in ipairs(part.postponed) do
        if is_stopped then
            settle(wait[2], CANCELLED, 0)
        else
            put(wait[2], DEFERRED, 0)
            G.note('returned', 0, lease, wait[2])
            G.set_timer(step, now() + math.max(wait[1], 0), chunk.chunk, chunk.first, wait[2])
        end
    end
    for _, retry in ipairs(part.retries) do
        if is_stopped then
            settle(retry[2], CANCELLED, 1)
        else
            put(retry[2], RETRYING, 1)
            G.note('retrying', 0, lease, retry[2])
            G.set_timer(step, G.due_time(math.max(retry[1], 0)), chunk.chunk, chunk.first, retry[2])
        end
    end
    if is_stopped then
        settle(part.returned, CANCELLED, 0)
    elseif part.returned ~= '' then
        G.note('returned', 0, lease, part.returned)
        local anew
        anew, bytes = G.start_anew(step, chunk.chunk, chunk.first, bytes, part.returned)
        local jobs = M.minus(part.returned, anew)
        if jobs ~= '' then
            G.enqueue(step, { chunk = chunk.chunk, first = chunk.first, jobs = jobs }, not lease.suspect, lease.suspect,
                lease.recoveries, lease.alone)
        end
    end
    return bytes
end

-- Keeps the lease's outcome record: in place of the one it replaces, or as the next.
local function put_record(lease, part)
    if part.record == '' then return end
    count_bytes(#part.record)
    local key = K.wf(lease.wf, 'outcomes')
    if not lease.outcome or part.record_number ~= lease.record then
        lease.outcome = call('HINCRBY', key, lease.chunk, 1)
    end
    lease.record = part.record_number
    call('HSET', key, lease.chunk .. ':' .. lease.outcome, part.record)
end

function DO.report()
    local refused, cancelled, stopped, known, parts, bytes = {}, {}, {}, {}, {}, {}
    for _, part in ipairs(arg.leases) do
        for _, name in ipairs({ 'succeeded', 'failed', 'skipped', 'begun', 'returned', 'cancelled', 'record' }) do
            part[name] = part[name] and blob(part[name]) or ''
        end
        for _, name in ipairs({ 'retries', 'postponed' }) do
            for _, wait in ipairs(part[name]) do wait[2] = blob(wait[2]) end
        end
        for _, error in ipairs(part.errors) do error.jobs = error.jobs and blob(error.jobs) or '' end
        local lease = G.lease_named(arg.session .. ':' .. part.lease)
        if not lease then
            refused[#refused + 1] = part.lease
            G.note_refused(arg.session, part.lease)
        elseif part.number > lease.last_report then
            local chunk = G.chunk_at(lease.wf, lease.step, lease.first)
            local name = lease.wf .. ':' .. chunk.chunk
            bytes[name] = bytes[name] or G.bytes(lease.wf, chunk.chunk, chunk.jobs)
            part.all = check_part(lease, part, bytes[name])
            parts[#parts + 1] = { part, lease, chunk, name }
        end
    end
    for _, one in ipairs(parts) do
        local part, lease, chunk, name = one[1], one[2], one[3], one[4]
        local wf, number = lease.wf, lease.step
        local step = G.step(wf, number)
        local is_stopped = stops(step)
        if is_stopped then cancelled[#cancelled + 1] = part.lease end
        if lease.stop then heed_stop(part, lease.stop) end
        if not is_stopped and step.policy == FAIL_FAST then
            -- Attempts that were cut off since the step failed fast, which has been repaired meanwhile: their jobs go back.
            part.returned, part.cancelled = M.either(part.returned, part.cancelled), ''
        end
        local before = bytes[name]
        bytes[name] = settle_part(step, lease, part, chunk, before, is_stopped)
        if step.keyed then G.leave_turn(step, chunk.chunk, M.minus(part.all, part.returned), true) end
        -- What has been adopted is no draft any more when its checkpoint is forgotten.
        for _, one in ipairs(part.adopted) do
            local key = arg.session .. ':' .. one[2]
            if step.grows then G.adopt_added(key, wf) else G.adopt(key, wf, step.feeds) end
        end
        for _, added in ipairs(part.added) do G.add_from_inside(wf, added) end
        for _, dropped in ipairs(part.dropped) do G.drop_draft(arg.session .. ':' .. dropped) end
        if has_keys(step, SOLE) or (step.checkpoints or 0) > 0 then
            local ended = M.both(part.all, M.where(bytes[name], function(byte) return state_of(byte) >= SUCCEEDED end))
            G.end_sole_of_settled(step, chunk.chunk, ended)
            G.forget_checkpoints(wf, number, chunk.chunk, ended)
        end
        local is_lane = G.is_lane(wf)
        if is_lane and part.keep == 0 and G.is_unwanted(wf, chunk, bytes[name]) then
            G.drop_chunk(step, chunk, bytes[name])
        else
            if bytes[name] ~= before then G.put_bytes(wf, chunk.chunk, bytes[name]) end
            put_record(lease, part)
            if step.leads then
                local is = function(byte) return state_of(byte) == SUCCEEDED end
                G.hand_on(step, chunk, M.both(part.succeeded, M.where(bytes[name], is)))
            end
            for _, error in ipairs(G.note_errors(wf, number, chunk.chunk, part.errors)) do
                known[#known + 1] = { part.lease, error }
            end
            if is_lane and part.keep > 0 then G.keep_chunk(step, chunk, part.keep) end
        end
        local was_at_limit = is_at_limit(step)
        step.leased = step.leased - M.len(part.all)
        G.put_step(step)
        if was_at_limit and not is_at_limit(step) then G.unpark_step(step) end
        lease.jobs = M.minus(lease.jobs, part.all)
        local stop = M.both(lease.jobs, lease.stop or '')
        if stop ~= '' then stopped[#stopped + 1] = { part.lease, put_blob(stop) } end
        if lease.jobs == '' then
            G.drop_lease(lease)
        else
            lease.last_report = part.number
            G.put_lease(lease)
        end
        G.check_settled(wf, number)
        if not is_stopped and lease.jobs ~= '' and is_failing_fast(step) then cancelled[#cancelled + 1] = part.lease end
    end
    G.cascade()
    G.admit()
    write_numbers()
    G.flush()
    return { refused = refused, cancelled = cancelled, stopped = stopped, known_errors = known, more = G.has_chores(), woken = G.wake() }
end
