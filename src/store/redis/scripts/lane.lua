-- Lanes. A lane is kept like a workflow of one step that runs from the start and never settles. Its only segment counts every job that
-- ever came. Chunks leave it: at once if all of their jobs have settled and none is to be kept, else when a timer without jobs says so.

function G.is_lane(wf)
    return G.workflow(wf).state == WF.standing
end

-- Whether a lane's chunk with these bytes is of no use any more.
function G.is_unwanted(wf, chunk, bytes)
    for at = 1, #bytes do
        if state_of(bytes:byte(at)) < SUCCEEDED then return false end
    end
    return call('HEXISTS', K.wf(wf, 'kept'), chunk.chunk) == 0
end

-- Keeps a lane's chunk for so long, unless it is kept for longer already.
function G.keep_chunk(step, chunk, keep)
    local wf, due = step.wf, math.min(now() + keep, NEVER)
    local there = tonumber(call('HGET', K.wf(wf, 'kept'), chunk.chunk) or nil)
    if there and there >= due then return end
    if there then G.drop_timer(wf, timer_name(step.step, there, chunk.chunk)) end
    call('HSET', K.wf(wf, 'kept'), chunk.chunk, due)
    G.set_timer(step, due, chunk.chunk, chunk.first, '')
end

-- With more error texts than that a lane's table loses those that no failed job has any more.
local TEXTS_KEPT = 500

local function forget_texts(wf, number)
    local numbers, names, kept, gone = {}, {}, {}, {}
    for error in (call('HGET', K.wf(wf, 'error-list'), number) or ''):gmatch('%d+') do
        numbers[#numbers + 1], names[#names + 1] = error, number .. ':' .. error
    end
    if #numbers <= TEXTS_KEPT then return end
    local size = cmsgpack.unpack(call('HGET', K.wf(wf, 'error-jobs'), number))
    local texts = call('HMGET', K.wf(wf, 'errors'), unpack(names))
    for i, jobs in ipairs(call('HMGET', K.wf(wf, 'error-jobs'), unpack(names))) do
        if tonumber(jobs or 0) > 0 then
            kept[#kept + 1] = numbers[i]
        else
            gone[#gone + 1] = names[i]
            if numbers[i] ~= '0' then size = { size[1] - 1, size[2] - #(texts[i] or '') } end
        end
    end
    if #gone == 0 then return end
    call('HDEL', K.wf(wf, 'errors'), unpack(gone))
    call('HDEL', K.wf(wf, 'error-jobs'), unpack(gone))
    call('HSET', K.wf(wf, 'error-jobs'), number, cmsgpack.pack(size))
    call('HSET', K.wf(wf, 'error-list'), number, table.concat(kept, ',') .. (#kept > 0 and ',' or ''))
end

-- Deletes a lane's chunk, whose jobs have all settled.
function G.drop_chunk(step, chunk, bytes)
    local wf, number, name = step.wf, step.step, chunk.chunk
    G.forget_keyed(step, name, #bytes)
    local failed = M.where(bytes, function(byte) return state_of(byte) == FAILED end)
    if failed ~= '' then
        G.forget_failed(wf, number, name, failed)
        forget_texts(wf, number)
    end
    local records = tonumber(call('HGET', K.wf(wf, 'outcomes'), name) or 0)
    if records > 0 then
        local fields = { name }
        for n = 1, records do fields[#fields + 1] = name .. ':' .. n end
        for from = 1, #fields, 1000 do
            call('HDEL', K.wf(wf, 'outcomes'), unpack(fields, from, math.min(from + 999, #fields)))
        end
    end
    local mended = call('HGET', K.wf(wf, 'mended'), name)
    if mended then
        local fields = { name }
        for _, one in ipairs(cmsgpack.unpack(mended).valid) do fields[#fields + 1] = name .. ':' .. one[1] end
        call('HDEL', K.wf(wf, 'mended'), unpack(fields))
    end
    local deadlines = (step.deadlines or 0) > 0 and call('HGET', K.wf(wf, 'deadlines'), name)
    if deadlines then
        local members = {}
        for i, one in ipairs(cmsgpack.unpack(deadlines)[2]) do members[i] = wf .. ':' .. hex(name, 8) .. ':' .. hex(one[1], 14) end
        call('ZREM', K.deadlines, unpack(members))
        call('HDEL', K.wf(wf, 'deadlines'), name)
        step.deadlines = step.deadlines - 1
    end
    call('HDEL', K.wf(wf, 'params'), name)
    call('HDEL', K.wf(wf, 'bytes'), name)
    call('HDEL', K.wf(wf, 'recovered'), name)
    -- The only segment of a lane is its first.
    call('ZREM', K.wf(wf, 'chunks'), hex(1, 8) .. hex(chunk.first, 12) .. hex(#bytes, 4) .. hex(name, 8))
    local workflow = G.workflow(wf)
    for at = 1, #bytes do
        local counter = G.COUNTERS[state_of(bytes:byte(at))]
        step[counter], workflow[counter] = step[counter] - 1, workflow[counter] - 1
    end
    step.total, workflow.total = step.total - #bytes, workflow.total - #bytes
    G.put_step(step)
    G.put_workflow(workflow)
end

-- The time is over for which a lane's chunk was to be kept. If jobs of it have not settled, the last of them takes it away.
function G.stop_keeping(step, name, first)
    call('HDEL', K.wf(step.wf, 'kept'), name)
    local chunk = G.find_chunk(step.wf, step.step, first)
    if not chunk or chunk.chunk ~= name then return end
    local bytes = G.bytes(step.wf, name, chunk.jobs)
    if G.is_unwanted(step.wf, chunk, bytes) then G.drop_chunk(step, chunk, bytes) end
end
