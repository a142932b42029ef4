-- What people decide about jobs in place of running them: they are skipped, or have succeeded with an output that somebody gives. It goes the
-- way of a retry. A job that is taken out of an entry or a timer by this stays there in name; a claim passes over it, and what is left of it
-- goes when the step settles.

-- The argument of a chore that skips all jobs of a step that have not succeeded; below it one job and what it becomes.
G.SKIP_ALL = -3
local function one_job(argument)
    local code = -4 - argument
    return math.floor(code / 2), code % 2 == 0 and SKIPPED or SUCCEEDED
end

-- The hold of such a chore.
function G.name_of_hand(argument)
    if argument == G.SKIP_ALL then return 'skip' end
    local index, state = one_job(argument)
    return (state == SKIPPED and 'skip #' or 'replace #') .. index
end

-- Whether a job is left as it is when its step is skipped.
function G.is_done(byte)
    local state = state_of(byte)
    return state == SUCCEEDED or state == SKIPPED or state == 7
end

-- Jobs of a chunk end so, whatever they were.
local function end_jobs(wf, number, chunk, bytes, jobs, state)
    local step = G.step(wf, number)
    if step.follows then
        G.count_early(step, chunk, M.both(jobs, M.where(bytes, function(byte) return state_of(byte) < SUCCEEDED end)), 1)
    end
    local failed = M.both(jobs, M.where(bytes, function(byte) return state_of(byte) == FAILED end))
    if failed ~= '' then G.forget_failed(wf, number, chunk.chunk, failed) end
    G.settle_jobs(wf, number, chunk, bytes, jobs, state)
    if state == SUCCEEDED then G.hand_on(step, chunk, jobs) end
end

-- Whether a chore of that argument gives a job an output.
function G.replaces(argument)
    local _, state = one_job(argument)
    return argument < G.SKIP_ALL and state == SUCCEEDED
end

local function decide_one(wf, number, argument)
    local index, state = one_job(argument)
    local chunk = G.find_chunk(wf, number, index)
    if not chunk then return end
    local job = M.range(index - chunk.first, index - chunk.first + 1)
    if state == SKIPPED then
        -- Its slice goes back as a whole, for a report counts as a whole.
        local prefix = hex(number, 8) .. hex(chunk.chunk, 8)
        local names = call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 1024)
        for _, member in ipairs(names) do
            local lease = G.lease_of(member)
            if lease and M.both(lease.jobs, job) ~= '' then
                G.take_back(lease, false)
                break
            end
        end
    end
    if G.step(wf, number).children then G.leave_chore('cancel children', wf, number, index, index + 1) end
    local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
    local changes = M.where(bytes, function(byte)
        if state == SKIPPED then return not G.is_done(byte) end
        return state_of(byte) == FAILED
    end)
    end_jobs(wf, number, chunk, bytes, M.both(job, changes), state)
end

-- A bite of what has been decided about the jobs of a held step; returns where to go on.
function G.decide_some(wf, number, from, argument)
    if argument ~= G.SKIP_ALL then return decide_one(wf, number, argument) end
    if G.clear_lines(wf, number) or G.end_leases_of(G.step(wf, number)) then return from end
    local chunks = G.chunks_from(wf, number, from, 25)
    for i, chunk in ipairs(chunks) do
        if i > 1 and cost.calls + dirty_rows() > 400 then return chunk.first end
        local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
        end_jobs(wf, number, chunk, bytes, M.where(bytes, function(byte) return not G.is_done(byte) end), SKIPPED)
    end
    local last = chunks[#chunks]
    if #chunks == 25 then return last.first + last.jobs end
    if G.step(wf, number).children then G.leave_chore('cancel children', wf, number, 0, 0) end
end
