-- What follows when jobs settle: their steps settle, and what waits for those is released, skipped or cancelled.

-- From so many calls on an operation looks at no further batches.
local LOOKING_CALLS = 200

-- A step that has settled takes one call more, until its followers have been told.
local function has_used(calls)
    return cost.calls + dirty_rows() + #G.settled >= calls
end

local function is_at_bound()
    return G.released >= 128 or has_used(420)
end

-- Takes what is left in the lines of a step, of which no job is to run, of those that a person has skipped.
function G.clear_skipped(step)
    if step.state == STEP.running and step.skipped > 0 then while G.clear_lines(step.wf, step.step) do end end
end

-- A fed step whose source has failed, or a chained one whose predecessor has, is through with the jobs that it has: it waits, with what it
-- has, until that is repaired.
function G.rest(step)
    G.clear_skipped(step)
    local workflow = G.workflow(step.wf)
    step.state = STEP.waiting
    G.put_step(step)
    workflow.active = workflow.active - 1
    G.put_workflow(workflow)
    G.to_finish[step.wf] = true
    if step.leads then G.check_settled(step.wf, step.leads) end
end

-- A step that rests has something to do again.
function G.rouse(step)
    if step.state ~= STEP.waiting or not step.released_at then return end
    step.state = STEP.running
    G.put_step(step)
    local workflow = G.workflow(step.wf)
    workflow.active = workflow.active + 1
    G.put_workflow(workflow)
end

-- Removes a bite of a step's timers and all of its entries; returns whether there are more.
function G.clear_lines(wf, number)
    local prefix = hex(number, 8)
    local timers = call('ZRANGEBYLEX', K.wf(wf, 'timers'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 60)
    for _, timer in ipairs(timers) do G.drop_timer(wf, timer) end
    if #timers == 60 then return true end
    local step = G.step(wf, number)
    call('UNLINK', K.queue(wf, number, false), K.queue(wf, number, true))
    for _, line in ipairs({ step.line, step.suspect_line }) do
        if call('ZREM', K.ready(line, wf), number) > 0 then G.leave_line(line, wf, number) end
    end
    return false
end

-- Settles a step if it has no holds and every byte is final. One that is fed waits for its source to succeed.
function G.check_settled(wf, number)
    G.act_on_failures(wf, number)
    local step = G.step(wf, number)
    -- A report may be of the last jobs of as many batches as it has leases: what these mean to their batches is left to chores then.
    local is_left = step.grows and cost.calls + dirty_rows() >= LOOKING_CALLS
    if is_left then G.leave_batch(step) elseif step.grows then G.act_on_death(step) end
    local may = step.state == STEP.running or step.state == STEP.waiting and step.decided ~= nil
    local workflow = G.workflow(wf)
    if may and step.follows and unsettled_jobs(step) > 0 then return G.rest_behind(step) end
    if not may or unsettled_jobs(step) > 0 or workflow.state == WF.standing or is_held(wf, number) then return end
    if step.grows and step.pending > 0 and not step.decided then
        if not is_left then G.settle_batch(wf) end
        return
    end
    if step.state == STEP.running and not step.decided then
        if step.follows and step.pending + step.waits > 0 then G.rest_behind(step) end
        if step.pending > 0 then return end
        -- In a cancelled workflow nothing is repaired, so nothing waits for that.
        if step.waits > 0 and workflow.state ~= WF.cancelling then
            if not step.follows then G.rest(step) end
            return
        end
    end
    G.clear_skipped(step)
    workflow.unsettled = workflow.unsettled - 1
    if step.state == STEP.running then workflow.active = workflow.active - 1 end
    if step.decided == SKIP and step.total == 0 then
        step.state = STEP.skipped
    elseif step.decided == CANCEL and step.total == 0 then
        step.state = STEP.cancelled
    else
        step.state = G.settled_as(step)
    end
    if step.state == STEP.failed then workflow.failed_steps = workflow.failed_steps + 1 end
    step.exceeded, step.grace_until = nil, nil
    step.finished_at = now()
    G.put_step(step)
    G.put_workflow(workflow)
    G.settled[#G.settled + 1] = { wf, number }
    G.to_finish[wf] = true
end

-- What a step waits for that no worker runs.
function G.awaited(wf, number)
    local text = call('HGET', K.wf(wf, 'awaited'), number)
    if not text then fail('corrupt', 'step ' .. number .. ' of workflow ' .. wf .. ' waits for nothing that is known') end
    return unpack_row(text, AWAITED_FIELDS)
end

-- Keeps an outcome record of a chunk behind those that are there.
function G.add_record(wf, chunk, record)
    count_bytes(#record)
    local key = K.wf(wf, 'outcomes')
    call('HSET', key, chunk .. ':' .. call('HINCRBY', key, chunk, 1), record)
end

-- The job of a released step that waits does so from now on; unless its signal has come before, which settles it. What that carries is
-- its outcome already: so a release moves no payload.
function G.wait_anew(step, chunk, bytes)
    local wf, number, all = step.wf, step.step, M.range(0, chunk.jobs)
    local awaited = G.awaited(wf, number)
    if awaited.signalled_at then
        G.settle_jobs(wf, number, chunk, bytes, all, SUCCEEDED)
        return G.check_settled(wf, number)
    end
    for state, jobs in pairs(M.states(bytes, all)) do G.shift(wf, number, state, DEFERRED, jobs) end
    bytes = M.change(bytes, all, function() return DEFERRED end)
    G.put_bytes(wf, chunk.chunk, bytes)
    local due = awaited.at or awaited.wait and now() + awaited.wait
    if due then G.set_timer(step, due, chunk.chunk, chunk.first, all) end
end

-- Lets a step run. One that has begun before its source had succeeded has its jobs in its line already.
function G.release(step)
    if step.released_at then
        G.rouse(step)
        return G.check_settled(step.wf, step.step)
    end
    step.state, step.released_at = STEP.running, now()
    G.put_step(step)
    local workflow = G.workflow(step.wf)
    workflow.active = workflow.active + 1
    G.put_workflow(workflow)
    -- It is empty, or somebody has skipped all of its jobs one by one.
    if unsettled_jobs(step) == 0 then return G.check_settled(step.wf, step.step) end
    if step.awaits then
        local chunk = G.chunk_at(step.wf, step.step, 0)
        -- Nobody has reported anything of it.
        return G.wait_anew(step, chunk, string.rep('\0', chunk.jobs))
    end
    if step.follows then
        G.leave_behind(step)
        return G.begin_behind(step)
    end
    if G.stands_for_batches(step) then return end
    if step.delay > 0 then return G.set_timer(step, now() + step.delay, 0, 0, '') end
    G.enqueue_all(step, 0)
end

-- Jobs of a chunk have settled: they go on from nothing. Their step counts who has a checkpoint, so that those without pay nothing.
function G.forget_checkpoints(wf, number, chunk, jobs)
    local step = G.step(wf, number)
    if (step.checkpoints or 0) == 0 or jobs == '' then return end
    local fields = {}
    M.each(jobs, function(at) fields[#fields + 1] = chunk .. ':' .. at end)
    if step.feeds then
        local dead = {}
        for _, text in ipairs(call('HMGET', K.wf(wf, 'covered'), unpack(fields))) do
            if text then
                dead[#dead + 1] = 0
                dead[#dead + 1] = cmsgpack.unpack(text)[1]
            end
        end
        if #dead > 0 then
            -- A tick collects them; what has been adopted is no draft any more.
            call('ZADD', K.drafts, 'XX', unpack(dead))
            call('HDEL', K.wf(wf, 'covered'), unpack(fields))
        end
    end
    step.checkpoints = step.checkpoints - call('HDEL', K.wf(wf, 'checkpoints'), unpack(fields))
    G.put_step(step)
end

-- Puts jobs of a chunk (its number, and its first job) into a state; their attempts stay as they are.
function G.settle_jobs(wf, step, chunk, bytes, jobs, state)
    if jobs == '' then return end
    for before, count in pairs(M.states(bytes, jobs)) do G.shift(wf, step, before, state, count) end
    bytes = M.change(bytes, jobs, function(byte) return byte - state_of(byte) + state end)
    G.forget_checkpoints(wf, step, chunk.chunk, jobs)
    G.note('settled', state, { wf = wf, step = step, first = chunk.first }, jobs)
    G.put_bytes(wf, chunk.chunk, bytes)
end

local function leased_of_chunk(wf, step, chunk)
    local prefix = hex(step, 8) .. hex(chunk, 8)
    local leased = ''
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 1024)) do
        local lease = G.lease_of(member)
        if lease then leased = M.either(leased, lease.jobs) end
    end
    return leased
end

-- Gives every job of a bite of chunks that is neither settled nor under a lease its final state. Returns where to go on.
function G.fill(wf, step, from, state)
    local of = G.step(wf, step)
    -- What came too early for a step that is not to run.
    if of.follows and of.decided and from == 0 and G.clear_lines(wf, step) then return 0 end
    local chunks, has_children = G.chunks_from(wf, step, from, 30), of.children
    for _, chunk in ipairs(chunks) do
        local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
        -- What waits for its child ends with that.
        local open = M.where(bytes, function(byte)
            local state = state_of(byte)
            return state < SUCCEEDED and not (has_children and state == DEFERRED)
        end)
        local ends = M.minus(open, leased_of_chunk(wf, step, chunk.chunk))
        G.settle_jobs(wf, step, chunk, bytes, ends, state)
        G.count_early(of, chunk, ends, 1)
    end
    if #chunks == 30 then
        local last = chunks[#chunks]
        return last.first + last.jobs
    end
    G.check_settled(wf, step)
    return nil
end

-- Fills a step: at once if it has one job, else as a chore.
function G.fill_all(step, state)
    if step.total == 1 then
        G.fill(step.wf, step.step, 0, state)
    else
        G.leave_chore('fill', step.wf, step.step, 0, state)
    end
end

-- Skips or cancels a step that has not been released.
function G.pass_over(step, decision)
    step.decided = decision
    G.put_step(step)
    G.to_finish[step.wf] = true
    if step.total == 0 then return G.check_settled(step.wf, step.step) end
    G.fill_all(step, decision == SKIP and SKIPPED or CANCELLED)
end

-- Releases, skips or cancels a step of which every upstream edge has decided; the strongest decides.
function G.act_on_decisions(step)
    local cancelling = G.workflow(step.wf).state == WF.cancelling
    G.released = G.released + 1
    -- Nothing will be repaired in a cancelled workflow, so there an `always` step does not wait either.
    if step.cancels > 0 or cancelling and (not step.always or step.waits > 0) then
        G.pass_over(step, CANCEL)
    elseif step.waits > 0 then
        G.to_finish[step.wf] = true
    elseif step.skips > 0 then
        G.pass_over(step, SKIP)
    else
        G.release(step)
    end
end

-- Changes what an edge into a step has decided; nothing stands for an edge that has not.
local DECIDED = { [SKIP] = 'skips', [WAIT] = 'waits', [CANCEL] = 'cancels' }
function G.redecide(wf, edge, step, after)
    if edge.decision == after then return end
    local function count(decision, by)
        local name = not decision and 'pending' or DECIDED[decision]
        if name then step[name] = step[name] + by end
    end
    count(edge.decision, -1)
    count(after, 1)
    G.put_step(step)
    if after then
        call('HSET', K.wf(wf, 'decisions'), edge.name, after)
    else
        call('HDEL', K.wf(wf, 'decisions'), edge.name)
    end
end

-- A settled step is running again, since there is something to repair in it.
function G.back_to_running(step)
    local workflow = G.workflow(step.wf)
    if step.state == STEP.failed then workflow.failed_steps = workflow.failed_steps - 1 end
    workflow.unsettled, workflow.active = workflow.unsettled + 1, workflow.active + 1
    G.put_workflow(workflow)
    step.state, step.finished_at = STEP.running, nil
    G.put_step(step)
end

-- Notes what one edge decided, and acts once the last one has.
local function note_decision(wf, edge, decision)
    local step = G.step(wf, edge.down)
    -- A step that has run, or is decided otherwise, is not asked again: repairs of its upstream leave it as it is. But one that is fed
    -- settles once its source says so, also if it has begun.
    local is_new = edge.decision ~= decision and G.is_asked(step, edge.kind)
    if is_new then G.redecide(wf, edge, step, decision) end
    -- Also if it is not new: a repair may have brought jobs of it back while the step before it had not settled again.
    if edge.kind == EDGE.chains and decision == RELEASE then G.leave_behind(step) end
    if not is_new then return end
    if step.state == STEP.running then return G.check_settled(wf, edge.down) end
    if step.follows and G.workflow(wf).state ~= WF.cancelling and G.may_go_on(step) then return G.release(step) end
    if step.pending == 0 then G.act_on_decisions(step) end
end

-- Edges out of `up` from follower `from` on, with what they have decided.
function G.edges_from(wf, up, from, limit)
    local members = call('ZRANGEBYLEX', K.wf(wf, 'down'), '[' .. hex(up, 8) .. hex(from, 8), '(' .. hex(up, 8) .. '~', 'LIMIT', 0,
        limit)
    if #members == 0 then return {} end
    cost.rows = cost.rows + #members
    local decisions = call('HMGET', K.wf(wf, 'decisions'), unpack(members))
    local edges = {}
    for i, member in ipairs(members) do
        edges[i] = {
            name = member,
            down = unhex(member:sub(9, 16)),
            kind = tonumber(member:sub(17)),
            decision = decisions[i] and tonumber(decisions[i]) or nil,
        }
    end
    return edges
end

-- Tells the followers of a settled step from step `from` on; leaves a chore for those beyond the bound.
function G.tell_followers(wf, up, from)
    local upstream = G.step(wf, up)
    while true do
        -- Beyond the bound it is still looked whether there are any: else each of many that settle there would leave a chore.
        if has_used(480) then return G.leave_chore('release', wf, up, from, 0) end
        local edges = G.edges_from(wf, up, from, 33)
        local whole = #edges < 33
        -- A follower may have several edges from the same step: never stop between them.
        local last = #edges > 0 and edges[#edges].down or from
        for _, edge in ipairs(edges) do
            if not whole and edge.down == last and edge.down > from then break end
            if edge.down > from and is_at_bound() then return G.leave_chore('release', wf, up, edge.down, 0) end
            from = edge.down
            local decision = decide(edge.kind, upstream)
            if decision then note_decision(wf, edge, decision) end
        end
        if whole then return end
        from = last
    end
end

-- Tells the followers of every step that settled in this operation, up to the bound.
function G.cascade()
    while #G.settled > 0 do
        local step = table.remove(G.settled)
        G.tell_followers(step[1], step[2], 0)
    end
end

-- Releases steps without upstream, from step `from` on.
function G.release_roots(wf, from)
    for _, number in ipairs(call('ZRANGEBYSCORE', K.wf(wf, 'roots'), from, '+inf', 'LIMIT', 0, 130)) do
        number = tonumber(number)
        if is_at_bound() then return G.leave_chore('start', wf, 0, number, 0) end
        local step = G.step(wf, number)
        if step.state == STEP.waiting and not step.decided then G.act_on_decisions(step) end
    end
end
