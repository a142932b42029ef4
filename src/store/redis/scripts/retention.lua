-- How long finished workflows are kept, and the keys that unfinished ones hold. When a workflow finishes it is noted from when on it may
-- be deleted; ticks delete what may be, a little at a time and with pauses, so that nobody else waits for it.

local DAY = 86400000
-- What holds unless a workflow's head says otherwise (src/retention.rs).
local STANDARD = { succeeded = { age = 7 * DAY }, failed = { age = 30 * DAY }, cancelled = { age = 30 * DAY } }

-- What a workflow's head says of it: how long it is kept, by how it ends; whether it is pinned; its key; which job it stands for.
function G.kept(workflow)
    local head = call('HMGET', K.wf(workflow.wf, 'head'), 'retention', 'pinned', 'key', 'parent', 'parent_step', 'parent_index')
    local retention = head[1] and cjson.decode(head[1]) or STANDARD
    local parent = head[4] and { wf = tonumber(head[4]), step = tonumber(head[5]), index = tonumber(head[6]) } or nil
    return { retention = retention, pinned = head[2] == '1', key = head[3] or nil, parent = parent }
end

-- When a workflow that is kept so and finished at a time may be deleted; nil if nothing but a person ends it.
local function expiry(keep, at)
    if keep.age then return math.min(at + keep.age, NEVER) end
    -- What is kept in limited number stands in the index of those that may have to go.
    return keep.most and NEVER or nil
end

function G.expire_at(workflow, at)
    if at then call('ZADD', K.expiry, at, workflow.wf) else call('ZREM', K.expiry, workflow.wf) end
end

-- A workflow is not to be deleted by its age any more: it is at work again, pinned, or being deleted already.
function G.forget_expiry(workflow)
    call('ZREM', K.expiry, workflow.wf)
    for _, state in ipairs({ 'succeeded', 'failed', 'cancelled' }) do
        if workflow.stored_state == WF[state] then call('ZREM', K.ended(state, workflow.name), workflow.wf) end
    end
end

-- A finished workflow may be deleted so long after a time; of those that are kept in limited number, the surplus may be at once.
function G.expire(workflow, keep, at)
    G.expire_at(workflow, expiry(keep, at))
    if not keep.most then return end
    local key = K.ended(WF_WORDS[workflow.state], workflow.name)
    call('ZADD', key, workflow.finished_at, workflow.wf)
    local surplus = math.min(call('ZCARD', key) - keep.most, 20)
    if surplus <= 0 then return end
    for _, wf in ipairs(call('ZRANGE', key, 0, surplus - 1)) do
        call('ZADD', K.expiry, 'XX', now(), wf)
        call('ZREM', key, wf)
    end
end

-- Notes of a workflow that has just finished from when on it may be deleted, and frees its key.
function G.note_end(workflow)
    local kept = G.kept(workflow)
    local parent = kept.parent
    -- What stands for a job is kept as long as the workflow that it belongs to.
    if parent then return G.leave_chore('child ended', parent.wf, parent.step, parent.index, workflow.wf) end
    if kept.key then G.free_key(workflow, kept.key) end
    if not kept.pinned then G.expire(workflow, kept.retention[WF_WORDS[workflow.state]], workflow.finished_at) end
end

-- Keys ---------------------------------------------------------------------------------------------------------------------------

local function held_name(name, key) return name .. '\0' .. key end

-- Who holds a key: its number and its id.
function G.holder(name, key)
    local text = call('HGET', K.held, held_name(name, key))
    if not text then return nil end
    local wf, id = text:match('^(%d+):(%x+)$')
    return tonumber(wf), id
end

function G.take_key(wf, id, name, key)
    call('HSET', K.held, held_name(name, key), wf .. ':' .. id)
end

function G.free_key(workflow, key)
    if G.holder(workflow.name, key) == workflow.wf then call('HDEL', K.held, held_name(workflow.name, key)) end
end

-- A draft that is given up frees the key that it holds.
function G.free_key_of(workflow)
    local key = call('HGET', K.wf(workflow.wf, 'head'), 'key')
    if key then G.free_key(workflow, key) end
end

-- A finished workflow that is repaired takes its key again; returns the id of who has it, if another does.
function G.take_key_again(workflow)
    local key = call('HGET', K.wf(workflow.wf, 'head'), 'key')
    if not key then return nil end
    local wf, id = G.holder(workflow.name, key)
    if wf and wf ~= workflow.wf then return id end
    G.take_key(workflow.wf, workflow.id, workflow.name, key)
end

