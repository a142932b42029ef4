-- What people and workers read. Writes nothing; every query has a bound that does not depend on the size of a workflow or of the store.

local DO = {}
G.reads = true

local function workflow_row(wf)
    local head = call('HMGET', K.wf(wf, 'head'), 'numbers', 'id', 'name', 'arguments', 'retention', 'pinned', 'key', 'overlap',
        'parent', 'parent_step', 'parent_index')
    if not head[1] then return nil end
    cost.rows = cost.rows + 1
    local row = unpack_row(head[1], WORKFLOW_FIELDS)
    row.id, row.name, row.arguments, row.opened_by = head[2], head[3], head[4], nil
    row.retention, row.pinned, row.key, row.overlap = head[5] or nil, head[6] == '1', head[7] or nil, tonumber(head[8] or nil)
    local parent = head[9] and call('HGET', K.wf(head[9], 'head'), 'id')
    row.parent = parent and { parent, tonumber(head[10]), tonumber(head[11]) } or nil
    if is_finished(row.state) then
        local expires_at = tonumber(call('ZSCORE', K.expiry, wf) or nil)
        row.expires_at = expires_at and expires_at < NEVER and expires_at or nil
    end
    return row
end

function DO.time()
    return { time = now() }
end

function DO.workflow()
    return { row = workflow_row(G.find(arg.workflow)) }
end

-- Newest first.
function DO.workflows()
    local key = K.list(arg.state, arg.name)
    local high, low = '+', '-'
    if arg.created_before then high = '(' .. hex(math.max(arg.created_before, 0), 12) end
    if arg.after then
        local after = '(' .. hex(arg.after[1], 12) .. arg.after[2]
        if high == '+' or after < high then high = after end
    end
    if arg.created_from then low = '[' .. hex(math.max(arg.created_from, 0), 12) end
    local list = {}
    for _, member in ipairs(call('ZREVRANGEBYLEX', key, high, low, 'LIMIT', 0, arg.limit)) do
        local wf = call('HGET', K.ids, member:sub(13))
        list[#list + 1] = wf and workflow_row(wf)
    end
    return { list = list }
end

local function step_row(number, numbers, spec)
    cost.rows = cost.rows + 1
    local row = unpack_row(numbers, STEP_FIELDS)
    row.number, row.spec = number, put_blob(spec)
    return row
end

function DO.steps()
    local wf, list, numbers = G.find(arg.workflow), {}, {}
    for number = arg.from, math.min(arg.from + arg.limit, G.workflow(wf).steps) - 1 do numbers[#numbers + 1] = number end
    if #numbers == 0 then return { list = list } end
    local rows, specs = call('HMGET', K.wf(wf, 'steps'), unpack(numbers)), call('HMGET', K.wf(wf, 'specs'), unpack(numbers))
    for i, number in ipairs(numbers) do list[i] = step_row(number, rows[i], specs[i]) end
    return { list = list }
end

function DO.step_named()
    local wf = G.find(arg.workflow)
    local number = call('HGET', K.wf(wf, 'names'), arg.name)
    if not number then return {} end
    return { row = step_row(tonumber(number), call('HGET', K.wf(wf, 'steps'), number), call('HGET', K.wf(wf, 'specs'), number)) }
end

function DO.edges()
    local wf, list = G.find(arg.workflow), {}
    local prefix = hex(arg.step, 8)
    local key = K.wf(wf, arg.upstream and 'up' or 'down')
    for _, member in ipairs(call('ZRANGEBYLEX', key, '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, arg.limit)) do
        local number = unhex(member:sub(9, 16))
        local row = unpack_row(call('HGET', K.wf(wf, 'steps'), number), STEP_FIELDS)
        cost.rows = cost.rows + 1
        row.number, row.kind, row.passed_over = number, tonumber(member:sub(17)), row.decided ~= nil
        row.name = cmsgpack.unpack(call('HGET', K.wf(wf, 'about'), number))[1]
        list[#list + 1] = row
    end
    return { list = list }
end

-- The workflows that stand for jobs of a step, of each job the last one.
function DO.children()
    local wf, list, of = G.find(arg.workflow), {}, hex(arg.step, 8)
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'children'), '[' .. of .. hex(arg.from, 12), '(' .. of .. '~', 'LIMIT', 0, arg.limit)) do
        local child, index = G.workflow(unhex(member:sub(22))), unhex(member:sub(9, 20))
        cost.rows = cost.rows + 1
        if #list > 0 and list[#list][1] == index then list[#list] = nil end
        if child.id and child.state ~= WF.deleting then list[#list + 1] = { index, child.id, child.state } end
    end
    return { list = list }
end

function DO.parameters()
    local wf, chunk = arg.wf, arg.chunk
    local body = call('HGET', K.wf(wf, 'params'), chunk)
    if not body then fail('not_found', 'chunk ' .. chunk .. ' is gone: its workflow has been deleted') end
    count_bytes(#body)
    local mended = {}
    local list = call('HGET', K.wf(wf, 'mended'), chunk)
    if list then
        for _, one in ipairs(cmsgpack.unpack(list).valid) do
            local parameters = call('HGET', K.wf(wf, 'mended'), chunk .. ':' .. one[1])
            mended[#mended + 1] = { put_blob(one[2]), put_blob(parameters) }
        end
    end
    return { body = put_blob(body), mended = mended }
end

local OUTCOME_PAGE, OUTCOME_RECORDS = 256 * 1024, 400

function DO.outcomes()
    local wf, page, room, after, from = G.find(arg.workflow), {}, OUTCOME_PAGE, arg.after, arg.from
    if from > 0 then from = (G.find_chunk(wf, arg.step, from) or { first = from }).first end
    local records_left = OUTCOME_RECORDS
    for _, chunk in ipairs(G.chunks_from(wf, arg.step, from, arg.limit or 80)) do
        local key = K.wf(wf, 'outcomes')
        local highest = tonumber(call('HGET', key, chunk.chunk) or 0)
        local records, last, whole = {}, after, true
        while last < highest do
            if records_left == 0 then
                whole = false
                break
            end
            local field = chunk.chunk .. ':' .. (last + 1)
            local size = call('HSTRLEN', key, field)
            if size > room and (#records > 0 or #page > 0) then
                whole = false
                break
            end
            if size > 0 then
                records[#records + 1] = put_blob(call('HGET', key, field))
                count_bytes(size)
                room = math.max(room - size, 0)
                records_left = records_left - 1
            end
            last = last + 1
        end
        if not whole and #records == 0 then break end
        local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
        local recovered = call('HGET', K.wf(wf, 'recovered'), chunk.chunk)
        room = math.max(room - #bytes, 0)
        page[#page + 1] = {
            wf = wf, chunk = chunk.chunk, first = chunk.first, bytes = put_blob(bytes), recovered = recovered and put_blob(recovered) or nil,
            records = records, more_after = not whole and last or nil,
        }
        after = 0
        if not whole or room == 0 or cost.calls > 450 then break end
    end
    return { page = page }
end

function DO.errors()
    local wf, list, names, numbers = G.find(arg.workflow), {}, {}, {}
    for number in (call('HGET', K.wf(wf, 'error-list'), arg.step) or ''):gmatch('%d+') do
        numbers[#numbers + 1] = number
        names[#names + 1] = arg.step .. ':' .. number
    end
    if #names == 0 then return { list = list } end
    local texts, jobs = call('HMGET', K.wf(wf, 'errors'), unpack(names)), call('HMGET', K.wf(wf, 'error-jobs'), unpack(names))
    for i, number in ipairs(numbers) do
        list[i] = { number, put_blob(texts[i] or ''), math.max(tonumber(jobs[i] or 0), 0) }
    end
    return { list = list }
end

-- What the server itself says of each key; of a hash it looks at some values and takes the others to be like them.
local SIZED = {
    params = 'parameter_bytes', mended = 'parameter_bytes', mends = 'parameter_bytes', chunks = 'parameter_bytes',
    outcomes = 'outcome_bytes', errors = 'outcome_bytes',
}
function DO.size()
    local wf, size = G.find(arg.workflow), { parameter_bytes = 0, outcome_bytes = 0, state_bytes = 0 }
    for _, part in ipairs(G.PARTS) do
        local kind = SIZED[part] or 'state_bytes'
        size[kind] = size[kind] + (call('MEMORY', 'USAGE', K.wf(wf, part)) or 0)
    end
    return size
end

function DO.paused()
    return { list = call('SMEMBERS', K.paused) }
end

local function worker_about(session)
    local row = call('HMGET', K.session(session), 'about', 'since')
    return row[1], row[2]
end

-- Live workers, oldest first.
local function live_workers(limit)
    local list, ids = {}, call('ZRANGE', K.workers, 0, limit - 1)
    if #ids == 0 then return list end
    -- Lease time stands still while nobody looks after the store.
    local shard = call('HMGET', K.shard, 'lease_time', 'lease_time_at')
    local time = tonumber(shard[1] or 0) + math.max(now() - tonumber(shard[2] or now()), 0)
    local deadlines = call('ZMSCORE', K.sessions, unpack(ids))
    for i, id in ipairs(ids) do
        local about, since = worker_about(id)
        if about and tonumber(deadlines[i] or 0) > time then list[#list + 1] = { id = id, about = about, since = tonumber(since), leases = call('HLEN', K.lease(id)) } end
    end
    return list
end

function DO.workers()
    return { list = live_workers(math.min(arg.limit, 250)) }
end

-- What a session holds, in the order in which it was claimed.
function DO.held()
    local list, numbers = {}, call('HKEYS', K.lease(arg.session))
    table.sort(numbers, function(a, b) return tonumber(a) < tonumber(b) end)
    for i = 1, math.min(#numbers, arg.limit) do
        local lease = G.lease_named(arg.session .. ':' .. numbers[i])
        local workflow, about = G.workflow(lease.wf), call('HGET', K.wf(lease.wf, 'about'), lease.step)
        if not about then fail('corrupt', 'step ' .. lease.step .. ' of workflow ' .. lease.wf .. ' is missing') end
        list[i] = {
            workflow = workflow.id, workflow_name = workflow.name, step = lease.step, step_name = cmsgpack.unpack(about)[1],
            first = lease.first, jobs = put_blob(lease.jobs), claimed_at = lease.claimed_at,
        }
    end
    return { list = list }
end

function DO.waiting()
    local wf = G.find(arg.workflow)
    local step = G.step(wf, arg.step)
    local of = call('HMGET', K.line(step.line), 'queue', 'type')
    local answer = { paused = {}, able = 0, queue = 0, holds = {}, leases = {}, suspect = G.first_entry(wf, arg.step, true) and true or false }
    for _, worker in ipairs(live_workers(150)) do
        local about = cjson.decode(worker.about)
        local function has(names, name)
            for _, other in ipairs(names) do
                if other == name then return true end
            end
            return false
        end
        if has(about.queues, of[1]) then
            answer.queue = answer.queue + 1
            if has(about.types, of[2]) then answer.able = answer.able + 1 end
        end
    end
    for _, name in ipairs({ 'q:' .. of[1], 't:' .. of[2] }) do
        if call('SISMEMBER', K.paused, name) == 1 then answer.paused[#answer.paused + 1] = name end
    end
    local prefix = hex(arg.step, 8)
    -- A lane has timers, too, that tell how long something is kept.
    for _, timer in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'timers'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 100)) do
        local jobs = cmsgpack.unpack(call('HGET', K.wf(wf, 'timer-jobs'), timer))[2]
        if jobs ~= '' or unhex(timer:sub(23)) == 0 then
            answer.next_due = unhex(timer:sub(9, 22))
            break
        end
    end
    local function is_parked(score) return score and tonumber(score) >= PARKED or false end
    answer.parked = is_parked(call('ZSCORE', K.ready(step.line, wf), arg.step)) or is_parked(call('ZSCORE', K.places(step.line), wf))
    local holds = call('HGET', K.wf(wf, 'holds'), arg.step)
    for name in pairs(holds and cmsgpack.unpack(holds) or {}) do
        if #answer.holds < 20 then answer.holds[#answer.holds + 1] = name end
    end
    table.sort(answer.holds)
    for _, name in ipairs(call('SRANDMEMBER', K.wf(wf, 'chores'), 50)) do
        local kind, of_step = name:match('^([%a ]+):%d+:(%d+)')
        if tonumber(of_step) == arg.step or kind == 'start' or kind == 'cancel' or kind == 'retry' or kind == 'run again' or
            kind == 'release again' then answer.chore = kind end
    end
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 50)) do
        local lease = G.lease_of(member)
        if lease then answer.leases[#answer.leases + 1] = { worker_about(lease.session) or '', M.len(lease.jobs) } end
    end
    answer.of_queue, answer.of_type = of[1], of[2]
    answer.behind = not step.decided and unsettled_jobs(step) - G.going(step) or 0
    return answer
end

local function holds_job(mask, at)
    local byte = mask:byte(math.floor(at / 8) + 1) or 0
    return math.floor(byte / 2 ^ (at % 8)) % 2 == 1
end

-- How limits stand.
function DO.limits()
    local list = {}
    for _, name in ipairs(arg.names) do
        if call('HEXISTS', K.limits, name) == 1 then
            local row = G.limit_row(name)
            local at = row.starts and G.next_start(row, 0)
            list[#list + 1] = {
                name = name, at_once = row.at_once, starts = row.starts, period = row.period, taken = math.max(row.taken, 0),
                next_start = at and at > now() and at or nil,
            }
        end
    end
    return { list = list }
end

function DO.whereabouts()
    local wf = G.find(arg.workflow)
    local chunk, answer = G.find_chunk(wf, arg.step, arg.index), { ready = false }
    if not chunk then return answer end
    local at = arg.index - chunk.first
    local prefix = hex(arg.step, 8) .. hex(chunk.chunk, 8)
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 200)) do
        local lease = G.lease_of(member)
        if lease and holds_job(lease.jobs, at) then
            answer.worker = worker_about(lease.session) or ''
            local told = call('HGET', K.progress(lease.session), lease.number)
            answer.progress = told and put_blob(told) or nil
            answer.at = at
        end
    end
    local of_step = hex(arg.step, 8)
    local timers = call('ZRANGEBYLEX', K.wf(wf, 'timers'), '[' .. of_step, '(' .. of_step .. '~', 'LIMIT', 0, 5000)
    local names = {}
    for _, timer in ipairs(timers) do
        if unhex(timer:sub(23)) == chunk.chunk then names[#names + 1] = timer end
    end
    local state = state_of(G.bytes(wf, chunk.chunk, chunk.jobs):byte(at + 1))
    -- A timer of one that was cancelled may still be there.
    local waits_for_time = state == DEFERRED or state == RETRYING
    for from = 1, waits_for_time and math.min(#names, 300) or 0 do
        local jobs = cmsgpack.unpack(call('HGET', K.wf(wf, 'timer-jobs'), names[from]))[2]
        if holds_job(jobs, at) then answer.due = unhex(names[from]:sub(9, 22)) end
    end
    local step = G.step(wf, arg.step)
    -- If the job before it has settled, it waits with its step, which has not begun.
    local awaits_it = step.follows and (step.released_at or G.step(wf, step.follows).state ~= STEP.succeeded)
    answer.behind = state == OPEN and awaits_it and not holds_job(G.succeeded_before(step, chunk), at) or false
    answer.ready = state == OPEN and not answer.worker and step.state == STEP.running and not answer.behind
    if state == DEFERRED and not answer.due then answer.turn = G.turn_told(step, chunk, at) end
    return answer
end

function DO.schedules()
    local list = {}
    for i, name in ipairs(call('ZRANGEBYLEX', K.schedule_names, '(' .. arg.behind, '+', 'LIMIT', 0, arg.limit)) do
        -- One that is damaged is shown, that it can be removed.
        local row = G.schedule_row(call('HGET', K.schedules, name)) or { definition = '', paused = true }
        list[i] = { name = name, definition = row.definition, next = row.next and text_of(row.next), paused = row.paused }
    end
    return { list = list }
end

-- The last first.
function DO.occurrences()
    local list = {}
    local before = arg.before < 2 ^ 53 and '(' .. hex(math.max(arg.before, 0), 14) or '+'
    for _, part in ipairs({ 'open', 'decided' }) do
        local members = call('ZREVRANGEBYLEX', K.schedule(part, arg.name), before, '-', 'LIMIT', 0, arg.limit)
        for i, text in ipairs(#members > 0 and call('HMGET', K.schedule('rows', arg.name), unpack(members)) or {}) do
            local row, member = cmsgpack.unpack(text), members[i]
            row.at, row.to, row.lane, row.workflow = text_of(unhex(member)), text_of(row.to), row.lane or nil, row.workflow or nil
            list[#list + 1] = row
        end
    end
    return { list = list }
end
