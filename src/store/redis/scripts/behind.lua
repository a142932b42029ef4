-- What chores do for chained steps: jobs are skipped behind others that did not succeed, and settled steps reopened for a repair before them.

do

local CHAIN_HOLD = 'chain'

-- Skips a bite of the jobs of which those before them have settled without success, from job `from` on; returns where to go on.
function G.skip_behind(wf, number, from)
    local step = G.step(wf, number)
    -- When its predecessor has been repaired, the end of that looks again; so do the end of its being taken back to run again, and its release.
    local is_over = G.step(wf, step.follows).state ~= STEP.succeeded or call('HEXISTS', K.wf(wf, 'again-rows'), number) == 1
    if is_over or not step.released_at or step.decided or step.state >= STEP.succeeded then return nil end
    local chunks = G.chunks_from(wf, number, from, 40)
    for _, chunk in ipairs(chunks) do
        local before = G.bytes_before(step, chunk)
        local ended = M.where(before, function(byte) return state_of(byte) > SUCCEEDED end)
        local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
        local jobs = M.both(ended, M.where(bytes, function(byte) return state_of(byte) == OPEN end))
        G.settle_jobs(wf, number, chunk, bytes, jobs, SKIPPED_BEHIND)
        step.early = (step.early or 0) + M.len(jobs)
        G.put_step(step)
    end
    if #chunks == 40 then
        local last = chunks[#chunks]
        return last.first + last.jobs
    end
    G.check_settled(wf, number)
end

-- Whether a settled step behind one that is to be repaired has jobs that may come back by that: then it is reopened first.
function G.reopens_behind(step)
    local behind = step.leads and G.step(step.wf, step.leads)
    if not behind then return false end
    if behind.state < STEP.succeeded then
        -- Somebody may give up or skip jobs of it at the moment, which takes back nothing behind it: then it settles first.
        local holds = call('HGET', K.wf(step.wf, 'holds'), behind.step)
        for name in pairs(holds and cmsgpack.unpack(holds) or {}) do
            if name ~= CHAIN_HOLD then return true end
        end
        return false
    end
    if behind.decided or (behind.early or 0) == 0 then return false end
    G.leave_chore('reopen behind', step.wf, behind.step, 0, 0)
    return true
end

-- Tells the followers of a settled step, from step `from` on, to wait for it again; then it is running. Returns where to go on with that.
function G.take_back_to_running(step, from)
    local wf, number = step.wf, step.step
    local edges = G.edges_from(wf, number, from, 100)
    for _, edge in ipairs(edges) do
        local follower = G.step(wf, edge.down)
        local is_held_back = edge.kind == EDGE.feeds or edge.kind == EDGE.grows
        if follower.released_at and follower.state >= STEP.succeeded and not is_held_back then
            follower.outdated = true
            G.put_step(follower)
        end
        if G.is_asked(follower, edge.kind) then G.redecide(wf, edge, follower, nil) end
    end
    -- The last follower may have another edge behind this bite: the next one begins with it again, for what is undecided stays so.
    if #edges == 100 then
        local last = edges[#edges].down
        return last > from and last or last + 1
    end
    G.back_to_running(step)
    -- What is chained to it waits for it from here on, and needs no hold.
    if step.leads then G.change_holds(wf, step.leads, CHAIN_HOLD, false) end
end

-- Takes a settled step back to running, since what it is chained to is to be repaired; a hold keeps it so until that has begun.
function G.reopen_behind(wf, number, from)
    local function again(cursor) return G.leave_chore('reopen behind', wf, number, cursor, 0) end
    if G.is_running_again(wf) or G.is_on_list('stop rest', wf, number, 0) then return again(from) end
    local step = G.step(wf, number)
    if step.state < STEP.succeeded or step.decided then return end
    if G.reopens_behind(step) then return again(from) end
    local cursor = G.take_back_to_running(step, from)
    if cursor then return again(cursor) end
    G.forgive(step)
    G.change_holds(wf, number, CHAIN_HOLD, true)
end

end
