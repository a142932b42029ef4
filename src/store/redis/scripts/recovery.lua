-- What becomes of a slice whose worker has gone.

-- Ends a lease and puts what is open of it back into its line. `expired`: its worker may have died of these jobs.
function G.take_back(lease, expired)
    -- What a forwarder held has run nowhere; and what it gave back nobody failed to take over.
    local published = lease.published and (expired and lease.published or lease.published - 1)
    if published then expired = false end
    local wf, number = lease.wf, lease.step
    local chunk = G.chunk_at(wf, number, lease.first)
    local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
    local step = G.step(wf, number)
    G.drop_lease(lease)
    local open = M.both(lease.jobs, M.where(bytes, function(byte) return state_of(byte) == OPEN end))
    G.note('taken_back', expired and 1 or 0, lease, open)
    step.leased = step.leased - M.len(lease.jobs)
    G.put_step(step)
    G.unpark_step(step)
    if stops(step) then
        G.settle_jobs(wf, number, chunk, bytes, open, CANCELLED)
        return G.check_settled(wf, number)
    end
    local stopped = M.both(open, lease.stop or '')
    if stopped ~= '' then
        -- What is to be stopped runs nowhere else.
        G.settle_jobs(wf, number, chunk, bytes, stopped, CANCELLED)
        G.leave_turn(step, chunk.chunk, stopped, true)
        G.end_sole_of_settled(step, chunk.chunk, stopped)
        G.keep_chunk(step, chunk, arg.killed.cancelled_keep)
        bytes, open = G.bytes(wf, chunk.chunk, chunk.jobs), M.minus(open, stopped)
    end
    if open == '' then return end
    -- Puts these parts of the open jobs back into their line, each as an entry of its own; a suspect one goes to the back. Jobs whose starts
    -- are limited wait for the turn of their key first.
    local function back(parts, suspect, recoveries, alone)
        local anew
        anew, bytes = G.start_anew(step, chunk.chunk, chunk.first, bytes, open)
        if anew ~= '' then G.put_bytes(wf, chunk.chunk, bytes) end
        for _, part in ipairs(parts) do
            if anew ~= '' then G.keep_recoveries(step, chunk.chunk, M.both(part, anew), recoveries, alone) end
            local jobs = M.minus(part, anew)
            if jobs ~= '' then
                local work = { chunk = chunk.chunk, first = chunk.first, jobs = jobs, published = published }
                G.enqueue(step, work, not suspect, suspect, recoveries, alone)
            end
        end
    end
    if not expired then return back({ open }, lease.suspect, lease.recoveries, lease.alone) end
    local recovered = call('HGET', K.wf(wf, 'recovered'), chunk.chunk) or string.rep('\0', chunk.jobs)
    count_bytes(#recovered)
    call('HSET', K.wf(wf, 'recovered'), chunk.chunk,
        M.change(recovered, open, function(count) return math.min(count + 1, 255) end))
    local recoveries = lease.recoveries + 1
    if recoveries == 1 then
        -- Whatever killed the worker, most of what it held is innocent: the first time costs no delay.
        return back({ open }, false, recoveries, 0)
    end
    local count = M.len(open)
    if count == 1 then
        local alone = lease.alone + (lease.suspect and 1 or 0)
        if alone >= step.max_recoveries then
            G.settle_jobs(wf, number, chunk, bytes, open, FAILED)
            G.leave_turn(step, chunk.chunk, open, true)
            G.end_sole_of_settled(step, chunk.chunk, open)
            G.note_errors(wf, number, chunk.chunk, { { number = arg.killed.number, text = arg.killed.text, jobs = open } })
            if G.is_lane(wf) then G.keep_chunk(step, chunk, arg.killed.keep) end
            return G.check_settled(wf, number)
        end
        return back({ open }, true, recoveries, alone)
    end
    local one, rest = M.split(open, math.ceil(count / 2))
    back({ one, rest }, true, recoveries, 0)
end
