-- Writing workflows, their steps and jobs, and lone jobs into their lanes.

-- The head of a workflow that nobody can see yet: it has no id before it is whole.
local function begin_workflow(new)
    local wf = call('HINCRBY', K.shard, 'last_wf', 1)
    local row = { wf = wf, dirty = true, name = new.name, stored_state = WF.building }
    for _, name in ipairs(COUNTS) do row[name] = 0 end
    row.state, row.unsettled, row.active, row.failed_steps, row.chores, row.steps = WF.building, 0, 0, 0, 0, 0
    row.generation, row.created_at = new.generation, now()
    count_bytes(#new.arguments)
    call('HSET', K.wf(wf, 'head'), 'name', new.name, 'arguments', new.arguments, 'numbers', pack(row, WORKFLOW_FIELDS))
    if new.retention then call('HSET', K.wf(wf, 'head'), 'retention', new.retention) end
    if new.key then call('HSET', K.wf(wf, 'head'), 'key', new.key, 'overlap', new.overlap) end
    G.workflows[wf] = row
    return wf
end

local function add_jobs(wf, part)
    local step, workflow = G.step(wf, part.step), G.workflow(wf)
    -- All jobs that a step is created with are one segment.
    local segment = step.total > 0 and (step.new_segment or segment_at(wf, part.step, 0).segment)
    if not segment then
        segment = new_segment(wf)
        batch('ZADD', K.wf(wf, 'segments'), 0, hex(part.step, 8) .. hex(0, 12) .. hex(segment, 8))
    end
    step.new_segment = segment
    add_chunk(wf, segment, step.total, part)
    batch('HSET', K.wf(wf, 'lengths'), segment, step.total + part.jobs)
    -- Steps that are chained to this one have as many.
    while step do
        step.total, workflow.total = step.total + part.jobs, workflow.total + part.jobs
        G.put_step(step)
        step = step.leads and G.step(wf, step.leads)
    end
    G.put_workflow(workflow)
end

local function check_parts(parts, into_step)
    for _, part in ipairs(parts) do
        if part.t == 'jobs' and (part.jobs < 1 or part.jobs > 1024) then
            fail('usage', 'a chunk has ' .. part.jobs .. ' jobs; it may have 1 to 1024')
        elseif into_step and (part.t == 'step' or part.t == 'edge' or part.t == 'open' or part.t == 'within') then
            fail('usage', 'steps and edges cannot be added to a step')
        elseif part.t == 'within' and arg.number then
            fail('usage', 'that a batch is within another one is said when it is created, not in a draft')
        elseif not into_step and part.t == 'mended' then
            fail('usage', 'a workflow being built has no jobs to mend')
        end
    end
end

local function add_parts(wf, parts)
    for _, part in ipairs(parts) do
        if part.t == 'step' then
            add_step(wf, part)
        elseif part.t == 'edge' then
            batch('ZADD', K.wf(wf, 'down'), 0, hex(part.up, 8) .. hex(part.down, 8) .. part.kind)
            batch('ZADD', K.wf(wf, 'up'), 0, hex(part.down, 8) .. hex(part.up, 8) .. part.kind)
        elseif part.t == 'jobs' then
            add_jobs(wf, part)
        end
    end
end

-- A lane, made if it is new: its workflow, and the index of the next job.
local function lane_of(lane)
    local wf = tonumber(call('HGET', K.ids, lane.id) or nil)
    if wf then return wf, tonumber(call('HGET', K.wf(wf, 'lengths'), 1) or 0) end
    wf = begin_workflow({ name = lane.step.type, arguments = lane.arguments, generation = 0 })
    add_step(wf, lane.step)
    batch('ZADD', K.wf(wf, 'segments'), 0, hex(0, 8) .. hex(0, 12) .. hex(new_segment(wf), 8))
    call('HSET', K.wf(wf, 'head'), 'id', lane.id)
    call('HSET', K.ids, lane.id, wf)
    local step, workflow = G.step(wf, 0), G.workflow(wf)
    step.state, step.released_at = STEP.running, now()
    workflow.id, workflow.state, workflow.active = lane.id, WF.standing, 1
    return wf, 0
end

-- Puts new jobs into a lane's line, behind all others: with those that came just before, if they have not been claimed, as one entry.
local function enqueue_behind(step, low, high)
    local queue = K.queue(step.wf, step.step, false)
    local text = call('LINDEX', queue, -1)
    local last = text and cmsgpack.unpack(text)
    if last and last.high == low and last.recoveries == 0 then
        last.high = high
        call('LSET', queue, -1, cmsgpack.pack(last))
        feed(step.line)
    else
        G.enqueue(step, { low = low, high = high }, false, false, 0, 0)
    end
end

local function check_lone(jobs)
    if jobs.jobs < 1 or jobs.jobs > 1024 then fail('usage', 'a chunk has ' .. jobs.jobs .. ' jobs; it may have 1 to 1024') end
    for _, name in ipairs({ 'due', 'deadlines' }) do
        for _, one in ipairs(jobs[name] or {}) do
            if M.minus(blob(one[2]), M.range(0, jobs.jobs)) ~= '' then
                fail('usage', 'jobs that have a time are not among those that come')
            end
        end
    end
    for _, one in ipairs(jobs.keyed) do
        if one.at >= jobs.jobs then fail('usage', 'jobs with a key are not among those that come') end
    end
end

-- Takes jobs into a lane; returns the index of the first, and which have not been taken, since there is one of their key. `nexts`: the next
-- index of each lane that this call has added to.
local function add_lone(jobs, nexts)
    local wf, first = lane_of(jobs.lane)
    first = nexts[wf] or first
    local step, workflow = G.step(wf, 0), G.workflow(wf)
    local refused, not_taken = G.who_may_not_come(jobs, first)
    if #not_taken == jobs.jobs then return first, not_taken end
    if jobs.waits then G.wait_for_turn(jobs.waits, wf, first) end
    local chunk = add_chunk(wf, 1, first, jobs)
    nexts[wf] = first + jobs.jobs
    batch('HSET', K.wf(wf, 'lengths'), 1, nexts[wf])
    step.total, workflow.total = step.total + jobs.jobs, workflow.total + jobs.jobs
    G.put_step(step)
    G.put_workflow(workflow)
    local deadlines = {}
    for _, one in ipairs(jobs.deadlines or {}) do
        local mask = M.minus(blob(one[2]), refused)
        if mask ~= '' then deadlines[#deadlines + 1] = { one[1], mask } end
    end
    G.add_deadlines(step, chunk, first, deadlines)
    local deferred = ''
    for _, one in ipairs(jobs.due) do
        local mask = M.minus(blob(one[2]), refused)
        deferred = M.either(deferred, mask)
        if mask ~= '' then G.set_timer(step, one[1], chunk, first, mask) end
    end
    if #jobs.keyed > 0 then
        G.take_sole(wf, chunk, first, jobs, refused)
        deferred = M.either(deferred, G.add_keyed(step, chunk, first, jobs, deferred, refused))
    end
    local ready = M.minus(M.minus(M.range(0, jobs.jobs), deferred), refused)
    if M.len(ready) == jobs.jobs then
        enqueue_behind(step, first, nexts[wf])
        return first, not_taken
    end
    -- A chunk is immutable, so those of it that are refused are in it as settled.
    local bytes = M.change(string.rep('\0', jobs.jobs), deferred, function() return DEFERRED end)
    G.put_bytes(wf, chunk, M.change(bytes, refused, function() return SKIPPED end))
    G.shift(wf, 0, OPEN, DEFERRED, M.len(deferred))
    G.shift(wf, 0, OPEN, SKIPPED, M.len(refused))
    if ready ~= '' then G.enqueue(step, { chunk = chunk, first = first, jobs = ready }, false, false, 0, 0) end
    return first, not_taken
end
