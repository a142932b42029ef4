-- Rows of workflows and steps: read once, changed in memory, written at the end. And chunks, by their place in a step.

local COUNTS = { 'total', 'succeeded', 'failed', 'skipped', 'cancelled', 'retrying', 'deferred' }
local WORKFLOW_FIELDS = {
    'state', 'unsettled', 'active', 'failed_steps', 'chores', 'grace_until', 'total', 'succeeded', 'failed', 'skipped',
    'cancelled', 'retrying', 'created_at', 'started_at', 'finished_at', 'steps', 'generation', 'deferred',
    'batch', 'opened_by',
}
local STEP_FIELDS = {
    'line', 'suspect_line', 'feeds', 'always', 'tolerate_jobs', 'tolerate_fraction', 'limit', 'max_recoveries', 'delay',
    'state', 'decided', 'pending', 'skips', 'waits', 'cancels', 'total', 'succeeded', 'failed', 'skipped', 'cancelled',
    'retrying', 'leased', 'released_at', 'started_at', 'finished_at', 'generation', 'deferred', 'keyed',
    'deadlines', 'checkpoints', 'awaits', 'policy', 'exceeded', 'forgiven', 'grace_until', 'children', 'outdated', 'grows',
    'follows', 'root', 'leads', 'early',
}
-- The type of the signal, if it is one; the time or the wait until its end, if it has one; what it becomes then; its error; when its signal came.
local AWAITED_FIELDS = { 'type', 'at', 'wait', 'state', 'number', 'text', 'signalled_at' }
local LEASE_FIELDS = {
    'wf', 'step', 'chunk', 'first', 'jobs', 'deadline', 'claimed_at', 'last_report', 'outcome', 'record', 'recoveries', 'alone',
    'suspect', 'stop', 'published', 'replaced',
}

local function pack(row, fields)
    local list = {}
    for i, name in ipairs(fields) do
        local value = row[name]
        if value == nil then value = false end
        list[i] = value
    end
    return cmsgpack.pack(list)
end
local function unpack_row(text, fields)
    local sound, list = pcall(cmsgpack.unpack, text)
    if not sound or type(list) ~= 'table' then
        fail('corrupt', 'a row that begins with ' .. table.concat(fields, ', ', 1, 3) .. ' does not decode')
    end
    local row = {}
    for i, name in ipairs(fields) do
        if list[i] ~= false then row[name] = list[i] end
    end
    return row
end

function G.no_workflow(shown)
    fail('not_found', 'there is no workflow ' .. (shown or arg.shown) ..
        ' in this store: it was never created here, or it has been deleted (`list` shows what there is)')
end

-- The number of a workflow, by its id; `shown` is how people know it, if it is not the one that the call is about.
function G.find(id, shown)
    local wf = call('HGET', K.ids, id)
    if not wf then G.no_workflow(shown) end
    return tonumber(wf)
end

function G.workflow(wf)
    local cached = G.workflows[wf]
    if cached then return cached end
    local head = call('HMGET', K.wf(wf, 'head'), 'numbers', 'id', 'name')
    if not head[1] then fail('corrupt', 'workflow ' .. wf .. ' has rows but no head') end
    cost.rows = cost.rows + 1
    local row = unpack_row(head[1], WORKFLOW_FIELDS)
    row.wf, row.id, row.name, row.stored_state = wf, head[2], head[3], row.state
    G.workflows[wf] = row
    return row
end

function G.put_workflow(row)
    row.dirty = true
end

function G.step(wf, number)
    local name = wf .. ':' .. number
    local cached = G.steps[name]
    if cached then return cached end
    local text = call('HGET', K.wf(wf, 'steps'), number)
    if not text then fail('corrupt', 'step ' .. number .. ' of workflow ' .. wf .. ' is missing') end
    cost.rows = cost.rows + 1
    local row = unpack_row(text, STEP_FIELDS)
    row.wf, row.step, row.had_failed = wf, number, row.failed > 0
    G.steps[name] = row
    return row
end

function G.put_step(row)
    row.dirty = true
end

local function shift_counts(row, from, to, jobs)
    local a, b = G.COUNTERS[from], G.COUNTERS[to]
    if a then row[a] = (row[a] or 0) - jobs end
    if b then row[b] = (row[b] or 0) + jobs end
end

-- Counts jobs of a step from one state to another, in the step and in its workflow.
function G.shift(wf, number, from, to, jobs)
    if from == to or jobs == 0 then return end
    local step, workflow = G.step(wf, number), G.workflow(wf)
    shift_counts(step, from, to, jobs)
    if step.forgiven then step.forgiven = math.min(step.forgiven, step.failed) end
    shift_counts(workflow, from, to, jobs)
    G.put_step(step)
    G.put_workflow(workflow)
end

function G.settled_jobs(row)
    return row.succeeded + row.failed + row.skipped + row.cancelled
end
local function unsettled_jobs(row)
    return math.max(row.total - G.settled_jobs(row), 0)
end

-- How many jobs of a step have all that they need, in a chain that of their predecessors, and have not settled.
function G.going(step)
    if not step.follows then return unsettled_jobs(step) end
    return math.max(G.step(step.wf, step.follows).succeeded + (step.early or 0) - G.settled_jobs(step), 0)
end
local function ready_jobs(step)
    return math.max(G.going(step) - step.retrying - (step.deferred or 0) - math.max(step.leased, 0), 0)
end
local function is_at_limit(step)
    return step.limit ~= nil and step.leased >= step.limit
end

-- How many of its jobs may fail.
function G.tolerated(step)
    if step.tolerate_jobs then return step.tolerate_jobs end
    -- The product of two exact numbers may fall a hair below a whole one.
    if step.tolerate_fraction then return math.floor(step.tolerate_fraction * step.total + 1e-9) end
    return 0
end

-- Whether it has begun while its sources may still emit: it may not settle yet.
function G.is_held_by_source(step)
    return step.state == STEP.running and not step.decided and step.pending + step.waits > 0
end

-- Whether its rest is being cancelled, since more have failed.
local function is_failing_fast(step)
    return step.exceeded and step.policy == FAIL_FAST
end

-- Whether what runs of a step is to come to its end, and nothing of it runs again: its workflow is cancelled, or it fails fast.
local function stops(step)
    return G.workflow(step.wf).state == WF.cancelling and not step.always or is_failing_fast(step)
end

function G.settled_as(step)
    if step.failed > G.tolerated(step) then return STEP.failed end
    if step.cancelled > 0 then return STEP.cancelled end
    if step.total > 0 and step.skipped == step.total then return STEP.skipped end
    return STEP.succeeded
end

-- Where a workflow stands in the lists: by the time of its creation.
function G.list_member(workflow)
    return hex(workflow.created_at, 12) .. workflow.id
end
function G.each_list(workflow, state, visit)
    -- Lanes are no workflows, although they are kept like them.
    if state ~= WF.deleting and state ~= WF.standing then
        visit(K.list(nil, nil))
        visit(K.list(nil, workflow.name))
    end
    visit(K.list(state, nil))
    visit(K.list(state, workflow.name))
end

function G.finish_workflows()
    for wf in pairs(G.to_finish) do
        local workflow = G.workflow(wf)
        local state = workflow.state
        local at_work = state >= WF.pending and state <= WF.cancelling
        if at_work and workflow.active == 0 and workflow.chores == 0 then
            if state == WF.cancelling then
                workflow.state = WF.cancelled
            elseif workflow.failed_steps > 0 or workflow.unsettled > 0 then
                workflow.state = WF.failed
            else
                workflow.state = WF.succeeded
            end
            workflow.finished_at = now()
            workflow.grace_until = nil
            G.put_workflow(workflow)
            G.note_end(workflow)
        end
    end
    G.to_finish = {}
end

-- Writes what has changed in memory. The last thing an operation does.
function G.flush()
    G.finish_workflows()
    if G.flush_limited then G.flush_limited() end
    for _, step in pairs(G.steps) do
        if step.dirty then
            batch('HSET', K.wf(step.wf, 'steps'), step.step, pack(step, STEP_FIELDS))
            if (step.failed > 0) ~= step.had_failed then
                if step.had_failed then
                    call('ZREM', K.wf(step.wf, 'failing'), step.step)
                else
                    call('ZADD', K.wf(step.wf, 'failing'), step.step, step.step)
                end
            end
        end
    end
    for wf, workflow in pairs(G.workflows) do
        if workflow.dirty then
            call('HSET', K.wf(wf, 'head'), 'numbers', pack(workflow, WORKFLOW_FIELDS))
            if is_finished(workflow.stored_state) and not is_finished(workflow.state) and not workflow.expired then
                G.forget_expiry(workflow)
            end
            if workflow.id and workflow.state ~= workflow.stored_state then
                local member = G.list_member(workflow)
                if workflow.stored_state ~= WF.building then
                    G.each_list(workflow, workflow.stored_state, function(key) call('ZREM', key, member) end)
                end
                G.each_list(workflow, workflow.state, function(key) call('ZADD', key, 0, member) end)
            end
        end
    end
    G.steps, G.workflows = {}, {}
    G.write_batches()
end

local function dirty_rows()
    local rows = 0
    for _, step in pairs(G.steps) do
        if step.dirty then rows = rows + 1 end
    end
    for _, workflow in pairs(G.workflows) do
        if workflow.dirty then rows = rows + 9 end
    end
    return rows
end

-- Chunks -----------------------------------------------------------------------------------------------------------------------

-- The bytes of a chunk's jobs; all zero as long as nobody has reported any.
function G.bytes(wf, chunk, jobs)
    local found = call('HGET', K.wf(wf, 'bytes'), chunk)
    count_bytes(jobs)
    if not found then return string.rep('\0', jobs) end
    if #found ~= jobs then fail('corrupt', 'chunk ' .. chunk .. ' has ' .. jobs .. ' jobs but ' .. #found .. ' bytes') end
    return found
end
function G.put_bytes(wf, chunk, bytes)
    count_bytes(#bytes)
    call('HSET', K.wf(wf, 'bytes'), chunk, bytes)
end

local function segment_at(wf, step, index)
    local found = call('ZREVRANGEBYLEX', K.wf(wf, 'segments'), '[' .. hex(step, 8) .. hex(index, 12) .. '~', '[' .. hex(step, 8),
        'LIMIT', 0, 1)[1]
    if not found then return nil end
    return { first = unhex(found:sub(9, 20)), segment = unhex(found:sub(21)) }
end
local function chunk_of(member, first)
    return {
        first = first + unhex(member:sub(9, 20)),
        jobs = unhex(member:sub(21, 24)),
        chunk = unhex(member:sub(25)),
    }
end

-- A chained step has the chunks of the first step of its chain, under numbers of its own: above 32 bits is the step; 0 for that chunk itself.
local CHAINED = 2 ^ 32
function G.chained_chunk(chunk, step)
    return chunk % CHAINED + step * CHAINED
end
-- The bytes of the step before a chained one, of the chunk that both have.
function G.bytes_before(step, chunk)
    local up = G.step(step.wf, step.follows)
    return G.bytes(step.wf, G.chained_chunk(chunk.chunk, up.follows and up.step or 0), chunk.jobs)
end
function G.succeeded_before(step, chunk)
    return M.where(G.bytes_before(step, chunk), function(byte) return state_of(byte) == SUCCEEDED end)
end

-- The chunk that holds a job: its number, its first job, how many it has. Nil if there is none.
function G.find_chunk(wf, step, index)
    local root = G.step(wf, step).root
    local segment = segment_at(wf, root or step, index)
    if segment then
        local of = hex(segment.segment, 8)
        local member = call('ZREVRANGEBYLEX', K.wf(wf, 'chunks'), '[' .. of .. hex(index - segment.first, 12) .. '~', '[' .. of,
            'LIMIT', 0, 1)[1]
        if member then
            local chunk = chunk_of(member, segment.first)
            if root then chunk.chunk = G.chained_chunk(chunk.chunk, step) end
            if index < chunk.first + chunk.jobs then return chunk end
        end
    end
end

function G.chunk_at(wf, step, index)
    local chunk = G.find_chunk(wf, step, index)
    if chunk then return chunk end
    fail('corrupt', 'job ' .. index .. ' of step ' .. step .. ' of workflow ' .. wf .. ' is in no chunk')
end

-- At most `limit` chunks of a step whose jobs begin at `index` or behind it.
function G.chunks_from(wf, number, index, limit)
    local chunks, root = {}, G.step(wf, number).root
    local step = root or number
    while #chunks < limit do
        local segment = segment_at(wf, step, index)
        local length = segment and tonumber(call('HGET', K.wf(wf, 'lengths'), segment.segment) or 0)
        if not segment or index >= segment.first + length then
            local behind = call('ZRANGEBYLEX', K.wf(wf, 'segments'), '(' .. hex(step, 8) .. hex(index, 12) .. '~',
                '(' .. hex(step, 8) .. '~', 'LIMIT', 0, 1)[1]
            if not behind then break end
            segment = { first = unhex(behind:sub(9, 20)), segment = unhex(behind:sub(21)) }
            length = tonumber(call('HGET', K.wf(wf, 'lengths'), segment.segment) or 0)
        end
        local of = hex(segment.segment, 8)
        local from = math.max(index - segment.first, 0)
        local members = call('ZRANGEBYLEX', K.wf(wf, 'chunks'), '[' .. of .. hex(from, 12), '(' .. of .. '~', 'LIMIT', 0,
            limit - #chunks)
        for _, member in ipairs(members) do
            local chunk = chunk_of(member, segment.first)
            if root then chunk.chunk = G.chained_chunk(chunk.chunk, number) end
            chunks[#chunks + 1] = chunk
        end
        cost.rows = cost.rows + #members
        if #members == 0 and length == 0 then break end
        index = segment.first + length
    end
    return chunks
end
