-- Jobs that come to a batch, from outside or with the report of one of its jobs.

-- The number of the step of that name to which jobs may be added, and the name that it has, or is to have: its own, unless a callback has it.
function G.growing_number(wf, part)
    G.grown = G.grown or {}
    local own = part.name
    for number = 1, BATCH.callbacks + 2 do
        local name = number == 1 and own or own .. '-' .. number
        local of = wf .. ':' .. name
        local step = G.grown[of] or tonumber(call('HGET', K.wf(wf, 'names'), name) or nil)
        if not step then return nil, name end
        if G.step(wf, step).grows and not G.step(wf, step).children == not part.children then
            G.grown[of] = step
            return step, name
        end
    end
    fail('corrupt', 'the callbacks of a batch have all the names that the step `' .. own .. '` could have')
end

-- Refuses jobs that a batch cannot take.
function G.check_added(wf, part, jobs)
    if jobs < 1 or jobs > 1024 then fail('usage', 'a chunk has ' .. jobs .. ' jobs; it may have 1 to 1024') end
    if not G.growing_number(wf, part) and G.workflow(wf).steps >= 20000 then
        fail('usage', 'the batch has jobs of 20000 types; at most 20000 are allowed')
    end
end

-- The step of a job type that comes to a batch for the first time, with its edges.
local function add_growing_step(wf, part, name)
    if part.name ~= name then
        -- The name comes first in what the step is created as.
        part.spec = '{"name":' .. cjson.encode(name) .. part.spec:sub(#('{"name":' .. part.quoted) + 1)
        part.name = name
    end
    local workflow, gate = G.workflow(wf), G.step(wf, BATCH.step)
    local number = workflow.steps
    -- Only while it is repaired does a batch that has settled get another step.
    local decision = decide(EDGE.grows, gate)
    part.upstreams = decision and 0 or 1
    add_step(wf, part)
    local function add_edge(up, down, kind)
        local member = hex(up, 8) .. hex(down, 8) .. kind
        batch('ZADD', K.wf(wf, 'down'), 0, member)
        batch('ZADD', K.wf(wf, 'up'), 0, hex(down, 8) .. hex(up, 8) .. kind)
        return member
    end
    local member = add_edge(BATCH.step, number, EDGE.grows)
    if decision then batch('HSET', K.wf(wf, 'decisions'), member, decision) end
    for _, edge in ipairs(G.callbacks(wf)) do
        local callback = G.step(wf, edge.down)
        if edge.kind ~= EDGE.death and G.is_untouched(callback) then
            add_edge(number, edge.down, edge.kind)
            callback.pending = callback.pending + 1
            G.put_step(callback)
        end
    end
    G.grown[wf .. ':' .. part.name] = number
    return G.step(wf, number)
end

-- A job that a repair has brought back adds jobs of a step that has settled: the callbacks that have not run wait for it again. They are few,
-- so that it takes no chore.
local function reopen_growing(step)
    for _, edge in ipairs(G.edges_from(step.wf, step.step, 0, BATCH.callbacks)) do
        local callback = G.step(step.wf, edge.down)
        if G.is_untouched(callback) then G.redecide(step.wf, edge, callback, nil) end
    end
    G.back_to_running(step)
end

-- Gives the jobs of a segment their place in the step that they are of; returns its number, and the index of the first of them.
function G.attach(wf, part, segment, jobs)
    local number, name = G.growing_number(wf, part)
    local step = number and G.step(wf, number) or add_growing_step(wf, part, name)
    if step.state >= STEP.succeeded then reopen_growing(step) end
    local workflow, first = G.workflow(wf), step.total
    batch('ZADD', K.wf(wf, 'segments'), 0, hex(step.step, 8) .. hex(first, 12) .. hex(segment, 8))
    batch('HSET', K.wf(wf, 'lengths'), segment, jobs)
    step.total, workflow.total = step.total + jobs, workflow.total + jobs
    G.put_step(step)
    G.put_workflow(workflow)
    if step.released_at then
        G.rouse(step)
        if not G.stands_for_batches(step) then G.enqueue_all(step, first) end
    else
        G.release(step)
    end
    -- They are there, so that a retry of their step runs them, too, and are cancelled with the rest.
    if is_failing_fast(step) then G.leave_chore('stop rest', wf, step.step, first, 0) end
    return step.step, first
end

-- A job comes to a batch that waits for the end of a batch within it; returns where it is.
function G.stand_for(wf, part)
    local segment = new_segment(wf)
    local chunk = add_chunk(wf, segment, 0, part)
    local step, first = G.attach(wf, part.step, segment, part.jobs)
    G.shift(wf, step, OPEN, DEFERRED, 1)
    G.put_bytes(wf, chunk, string.char(DEFERRED + 8))
    return { step = step, index = first }
end

-- Adopts what a job of a batch has added to it in a draft.
function G.adopt_added(key, wf)
    local draft = G.draft(key)
    if G.workflow(wf).state == WF.cancelling then return G.collect_draft(draft) end
    G.end_draft(draft)
    if draft.jobs == 0 then
        call('HDEL', K.wf(wf, 'lengths'), draft.segment)
        return
    end
    G.attach(wf, draft.spec, draft.segment, draft.jobs)
end

-- Takes what successful jobs of a batch have added to it, if it came with their report.
function G.add_from_inside(wf, added)
    if G.workflow(wf).state == WF.cancelling then return end
    local segment = new_segment(wf)
    add_chunk(wf, segment, 0, added)
    G.attach(wf, added.step, segment, added.jobs)
end
