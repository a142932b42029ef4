-- Occurrences of schedules, and starts that wait for their turn.

local OCCURRENCE = { due = 0, started = 1, enqueued = 2, skipped = 3, missed = 4, failed = 5 }
local SKIP_OTHER, CANCEL_OTHER, WAIT_FOR_OTHER, WAIT_ALONE = 0, 1, 2, 3

-- Whether a start of a workflow waits in a row.
local function waits(new)
    return new.key and new.overlap >= WAIT_FOR_OTHER
end

function G.occurrence(schedule, at)
    local text = call('HGET', K.schedule('rows', schedule), at)
    return text and cmsgpack.unpack(text) or nil
end

-- Records an occurrence that is new; one that is there stays as it is.
function G.note_occurrence(schedule, at, row)
    local member = hex(at, 14)
    if call('HEXISTS', K.schedule('rows', schedule), member) == 1 then return end
    call('HSET', K.schedule('rows', schedule), member, cmsgpack.pack(row))
    call('ZADD', K.schedule(row.state == OCCURRENCE.due and 'open' or 'decided', schedule), 0, member)
end

-- Whether what an occurrence comes to is known already. One whose start has failed may be tried again; without a row the schedule has been
-- removed since.
function G.is_decided(occurrence)
    local row = G.occurrence(occurrence.schedule, hex(occurrence.at, 14))
    return not row or row.state ~= OCCURRENCE.due and row.state ~= OCCURRENCE.failed
end

-- Records what an occurrence has come to.
function G.decide(occurrence, state, workflow)
    local schedule, member = occurrence.schedule, hex(occurrence.at, 14)
    local row = G.occurrence(schedule, member)
    row.state, row.workflow = state, workflow
    call('HSET', K.schedule('rows', schedule), member, cmsgpack.pack(row))
    call('ZREM', K.schedule('open', schedule), member)
    call('ZADD', K.schedule('decided', schedule), 0, member)
end

-- Whether a lone job has settled, or is not there any more.
function G.has_lone_ended(wf, index)
    if not wf or call('EXISTS', K.wf(wf, 'head')) == 0 then return true end
    local chunk = G.find_chunk(wf, 0, index)
    if not chunk then return true end
    local byte = G.bytes(wf, chunk.chunk, chunk.jobs):byte(index - chunk.first + 1)
    return not byte or state_of(byte) >= SUCCEEDED
end

-- A start waits for its turn behind all others of its type and key.
function G.wait_for_turn(waiting, lane, first)
    for i, id in ipairs(waiting.ids) do
        local row = { name = waiting.name, key = waiting.key, lane = lane, job = first + i - 1 }
        if call('HEXISTS', K.queued_about, id) == 0 then
            call('HSET', K.queued_about, id, cmsgpack.pack(row))
            call('ZADD', K.queued(waiting.name, waiting.key), call('HINCRBY', K.shard, 'last_queued', 1), id)
        end
    end
end

-- A start does not wait any more.
function G.stop_waiting(id)
    local text = call('HGET', K.queued_about, id)
    if not text then return end
    local row = cmsgpack.unpack(text)
    call('HDEL', K.queued_about, id)
    call('ZREM', K.queued(row.name, row.key), id)
end

-- How many wait before a start, and the first of them; all that do, if it does not wait itself.
local function ahead_of(new)
    local row, head = K.queued(new.name, new.key), nil
    for _ = 1, 30 do
        head = call('ZRANGE', row, 0, 0)[1]
        if not head or head == new.id then return 0 end
        local about = call('HGET', K.queued_about, head)
        about = about and cmsgpack.unpack(about)
        if about and not G.has_lone_ended(about.lane, about.job) then break end
        -- The job that would start it has failed for good.
        call('ZREM', row, head)
        call('HDEL', K.queued_about, head)
    end
    local turn = call('ZSCORE', row, new.id)
    return turn and #call('ZRANGEBYSCORE', row, '-inf', '(' .. turn, 'LIMIT', 0, 1000) or call('ZCARD', row), head
end

-- Whether a start that is made by a job has come to its decision: the job may run again after it.
local function has_been_decided(new)
    if new.occurrence then return G.is_decided(new.occurrence) end
    return waits(new) and new.generation == 0 and call('HEXISTS', K.ids, new.id) == 1
end

-- What keeps a workflow with a key from beginning to be built; nil if nothing does.
function G.what_is_in_the_way(new)
    if has_been_decided(new) then
        G.stop_waiting(new.id)
        return { decided = true }
    end
    local _, held_by = G.holder(new.name, new.key)
    -- A workflow that is started again, or repaired, was not among those that waited.
    local ahead, first = 0, nil
    if waits(new) and new.generation == 0 then ahead, first = ahead_of(new) end
    -- Who has the key stands in the row until it has been made.
    if first and first == held_by then ahead = ahead - 1 end
    local other
    if new.overlap == SKIP_OTHER then other = held_by end
    if new.overlap == WAIT_ALONE and ahead > 0 then other = held_by or ahead > 1 and first or nil end
    -- An attempt that died may hold the key in a draft of its own, which is no other start.
    if other and other ~= new.id then
        if new.occurrence then G.decide(new.occurrence, OCCURRENCE.skipped, other) end
        G.stop_waiting(new.id)
        return { held_by = other, ahead = ahead, decided = new.occurrence ~= nil or waits(new) }
    end
    if held_by or ahead > 0 then return { held_by = held_by, ahead = ahead } end
    return nil
end
