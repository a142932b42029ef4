-- Steps that are added to a workflow, and chunks of jobs that are written into its segments.

local function add_step(wf, part)
    local workflow = G.workflow(wf)
    local number = workflow.steps
    local row = {
        wf = wf, step = number, line = G.line(part.queue, part.priority, part.type, false), feeds = part.feeds,
        always = part.always, tolerate_jobs = part.tolerate_jobs, tolerate_fraction = part.tolerate_fraction, limit = part.limit,
        policy = part.policy, max_recoveries = part.max_recoveries, delay = part.delay, state = STEP.waiting, pending = part.upstreams, skips = 0,
        grows = part.grows, children = part.children,
        waits = 0, cancels = 0, leased = 0, generation = workflow.generation, dirty = true, had_failed = false,
    }
    for _, name in ipairs(COUNTS) do row[name] = 0 end
    if part.follows then
        local before = part.follows < number and G.step(wf, part.follows)
        if not before or before.leads then fail('usage', 'step ' .. number .. ' is chained to step ' .. part.follows .. ', which cannot be') end
        before.leads = number
        G.put_step(before)
        row.follows, row.root = part.follows, part.root
    end
    local awaits = part.awaits
    if awaits then
        row.awaits = true
        batch('HSET', K.wf(wf, 'awaited'), number, pack(awaits, AWAITED_FIELDS))
        if awaits.record then
            count_bytes(#blob(awaits.record))
            batch('HSET', K.wf(wf, 'awaited'), number .. ':record', blob(awaits.record))
        end
    end
    count_bytes(#part.spec + #part.options)
    batch('HSET', K.wf(wf, 'about'), number, cmsgpack.pack({ part.name, part.type, part.options }))
    batch('HSET', K.wf(wf, 'specs'), number, part.spec)
    batch('HSET', K.wf(wf, 'names'), part.name, number)
    if part.upstreams == 0 then batch('ZADD', K.wf(wf, 'roots'), number, number) end
    G.steps[wf .. ':' .. number] = row
    workflow.steps, workflow.unsettled = workflow.steps + 1, workflow.unsettled + 1
    G.put_workflow(workflow)
end

-- The next number of a workflow's segments or chunks.
local function next_number(wf, name)
    G.numbers = G.numbers or {}
    local of = wf .. name
    local number = G.numbers[of]
    if not number then
        number = { at = tonumber(call('HGET', K.wf(wf, 'head'), name) or 0), wf = wf, name = name }
        G.numbers[of] = number
    end
    number.at = number.at + 1
    return number.at
end
local function write_numbers()
    for _, number in pairs(G.numbers or {}) do batch('HSET', K.wf(number.wf, 'head'), number.name, number.at) end
end

local function new_segment(wf)
    return next_number(wf, 'last_segment')
end

local function add_chunk(wf, segment, first, part)
    if part.jobs < 1 or part.jobs > 1024 then
        fail('usage', 'a chunk has ' .. part.jobs .. ' jobs; it may have 1 to 1024')
    end
    local body = blob(part.body)
    count_bytes(#body)
    local chunk = next_number(wf, 'last_chunk')
    batch('HSET', K.wf(wf, 'params'), chunk, body)
    batch('ZADD', K.wf(wf, 'chunks'), 0, hex(segment, 8) .. hex(first, 12) .. hex(part.jobs, 4) .. hex(chunk, 8))
    return chunk
end
