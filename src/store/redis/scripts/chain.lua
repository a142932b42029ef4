-- Element-wise chains: a step whose jobs go on from those of the step before it, one to one. It has the chunks of the first step of its chain,
-- under numbers of its own. An entry is made in the operation that reports the predecessor's jobs; while the step has not been released its
-- entries are in no line. `early` counts its settled jobs whose predecessors have not succeeded.

-- The same chunk as that of a step which is chained to its own.
function G.chunk_behind(chunk, number)
    return { chunk = G.chained_chunk(chunk.chunk, number), first = chunk.first, jobs = chunk.jobs }
end

-- Counts jobs of a chained step that have settled, or have not any more, although their predecessors have not succeeded.
function G.count_early(step, chunk, jobs, by)
    if not step.follows or step.decided or jobs == '' then return end
    local early = M.len(M.minus(jobs, G.succeeded_before(step, chunk)))
    step.early = (step.early or 0) + by * early
    G.put_step(step)
end

-- Makes an entry of jobs of a chained step, or adds them to its last one, if that is of the same chunk. It is in a line once the step is.
function G.put_behind(step, chunk, jobs)
    local queue = K.queue(step.wf, step.step, false)
    local last = call('LINDEX', queue, -1)
    local entry = last and cmsgpack.unpack(last)
    if entry and entry.chunk == chunk.chunk and entry.recoveries == 0 and (entry.published or 0) == 0 then
        entry.jobs = M.either(entry.jobs, jobs)
        return call('LSET', queue, -1, cmsgpack.pack(entry))
    end
    G.put_entry(step, { chunk = chunk.chunk, first = chunk.first, jobs = jobs }, false, false, 0, 0)
end

-- A chained step has been released: what it has entries for goes into its line, after its delay.
function G.begin_behind(step)
    if call('LLEN', K.queue(step.wf, step.step, false)) == 0 then return end
    if step.delay > 0 then return G.set_timer(step, now() + step.delay, 0, 0, '') end
    G.line_up(step, step.line)
end

-- Of jobs whose predecessors have succeeded after all: those that were skipped for these are open again. Returns those that are open.
local function bring_back(step, chunk, jobs)
    local bytes = G.bytes(step.wf, chunk.chunk, chunk.jobs)
    local settled = M.both(jobs, M.where(bytes, function(byte) return state_of(byte) >= SUCCEEDED end))
    local back = M.both(jobs, M.where(bytes, function(byte) return state_of(byte) == SKIPPED_BEHIND end))
    if back ~= '' then
        G.put_bytes(step.wf, chunk.chunk, M.change(bytes, back, function() return OPEN end))
        G.shift(step.wf, step.step, SKIPPED_BEHIND, OPEN, M.len(back))
    end
    step.early = step.early - M.len(settled)
    G.put_step(step)
    return M.minus(jobs, M.minus(settled, back))
end

-- Jobs of a chunk of a step have succeeded: those that are chained to them go into their line.
function G.hand_on(up, chunk, jobs)
    if not up.leads or jobs == '' then return end
    local wf, step = up.wf, G.step(up.wf, up.leads)
    local cancelling = G.workflow(wf).state == WF.cancelling and not step.always
    if cancelling or step.decided or step.state >= STEP.succeeded then return end
    chunk = G.chunk_behind(chunk, step.step)
    if (step.early or 0) > 0 then jobs = bring_back(step, chunk, jobs) end
    -- The chore that cancels the rest of it comes to these, too.
    if jobs == '' or is_failing_fast(step) then return end
    if step.released_at then
        G.rouse(step)
        if step.delay > 0 then
            local bytes = M.change(G.bytes(wf, chunk.chunk, chunk.jobs), jobs, function() return DEFERRED end)
            G.put_bytes(wf, chunk.chunk, bytes)
            G.shift(wf, step.step, OPEN, DEFERRED, M.len(jobs))
            return G.set_timer(step, now() + step.delay, chunk.chunk, chunk.first, jobs)
        end
        G.put_behind(step, chunk, jobs)
        return G.line_up(step, step.line)
    end
    -- While the step is taken back to run again, its entries are made chunk by chunk.
    local row = call('HGET', K.wf(wf, 'again-rows'), step.step)
    local stage = row and tonumber(call('ZSCORE', K.wf(wf, 'again'), step.step))
    if not row or stage == G.AGAIN.done or stage == G.AGAIN.jobs and chunk.first < cmsgpack.unpack(row).cursor then
        G.put_behind(step, chunk, jobs)
    end
    if step.state == STEP.waiting and step.pending + step.waits == 1 and step.skips + step.cancels == 0 then G.release(step) end
end

-- Leaves a chore for jobs of a chained step that have nothing to go on from: those before them have settled otherwise, and their step has
-- succeeded nevertheless. As long as the step waits for something else, too, that may skip all of it.
function G.leave_behind(step)
    if not step.follows or not step.released_at or step.decided or step.state >= STEP.succeeded then return end
    if G.step(step.wf, step.follows).state ~= STEP.succeeded or unsettled_jobs(step) <= G.going(step) then return end
    G.leave_chore('skip behind', step.wf, step.step, 0, 0)
end

-- A chained step of which nothing can move rests, if the step before it cannot move either, until that has been repaired.
function G.rest_behind(step)
    if not step.follows or step.decided or step.state ~= STEP.running then return end
    local up = G.step(step.wf, step.follows).state
    if up ~= STEP.waiting and up ~= STEP.failed or G.workflow(step.wf).state == WF.cancelling then return end
    if G.going(step) > 0 or call('HEXISTS', K.wf(step.wf, 'holds'), step.step) == 1 then return end
    G.rest(step)
end

-- Whether the one edge that has not decided, or waits, comes from the step that a chained one goes on from, and it can go on with something.
function G.may_go_on(step)
    if step.state ~= STEP.waiting or step.released_at or step.decided then return false end
    if step.pending + step.waits ~= 1 or step.skips + step.cancels > 0 or G.going(step) == 0 then return false end
    local decision = tonumber(call('HGET', K.wf(step.wf, 'decisions'), hex(step.follows, 8) .. hex(step.step, 8) .. EDGE.chains) or nil)
    return not decision or decision == WAIT
end

-- What more jobs of the first step of a chain mean for the steps behind it: they have as many more.
function G.lengthen_chain(up, first, jobs)
    local wf, workflow = up.wf, G.workflow(up.wf)
    -- A chain goes on to later steps: one that is damaged must not go round.
    while up.leads and up.leads > up.step do
        local step = G.step(wf, up.leads)
        step.total, workflow.total = step.total + jobs, workflow.total + jobs
        G.put_step(step)
        G.put_workflow(workflow)
        -- What has been passed over stays so, however long it grows.
        local state = step.decided and (step.decided == SKIP and SKIPPED or CANCELLED) or
            workflow.state == WF.cancelling and not step.always and CANCELLED
        if jobs > 0 and state then
            G.leave_chore('fill', wf, step.step, first, state)
        elseif jobs > 0 and is_failing_fast(step) then
            G.leave_chore('stop rest', wf, step.step, first, 0)
        end
        up = step
    end
end
