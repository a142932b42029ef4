-- Checkpoints: what a long job goes on from. That of a source says how much of which draft belongs to it: draft and cursor agree, whatever
-- was written behind it.

local DO = {}
G.reads = arg.verb == 'checkpoint'

-- How many chunks behind a checkpoint one call cuts.
local CUT = 300

-- The draft that a checkpoint is to cover.
local function draft_to_cover(lease, step)
    if not arg.covers then return nil end
    local draft = G.draft(arg.session .. ':' .. arg.covers[1])
    if not draft or draft.of_wf ~= lease.wf or draft.of_step ~= step.feeds then fail('refused', "the source's draft is gone") end
    if draft.next ~= arg.covers[2] then
        fail('usage', 'a checkpoint covers ' .. arg.covers[2] .. ' calls of a draft that ' .. draft.next .. ' have written')
    end
    return draft
end

-- Keeps what a job under a lease goes on from, in place of what it said before; and the draft that belongs to it.
function DO.save_checkpoint()
    local lease = G.lease_that_holds()
    local wf, step, field = lease.wf, G.step(lease.wf, lease.step), lease.chunk .. ':' .. arg.at
    local draft = draft_to_cover(lease, step)
    local before = step.feeds and call('HGET', K.wf(wf, 'covered'), field)
    local body = blob(arg.body)
    count_bytes(#body)
    if call('HSET', K.wf(wf, 'checkpoints'), field, body) == 1 then
        step.checkpoints = (step.checkpoints or 0) + 1
        G.put_step(step)
    end
    if draft then
        draft.kept = field
        G.put_draft(draft, NEVER)
        call('HSET', K.wf(wf, 'covered'), field, cmsgpack.pack({ draft.key, draft.next, draft.jobs }))
    elseif before then
        call('HDEL', K.wf(wf, 'covered'), field)
    end
    before = before and cmsgpack.unpack(before)[1]
    if before and before ~= (draft and draft.key) then call('ZADD', K.drafts, 'XX', 0, before) end
    G.flush()
    return {}
end

-- Takes over the draft that a job's checkpoint covers, and cuts what was written behind that.
function DO.take_draft()
    local lease = G.lease_that_holds()
    local wf, field = lease.wf, lease.chunk .. ':' .. arg.at
    local body = call('HGET', K.wf(wf, 'checkpoints'), field)
    if not body then return {} end
    count_bytes(#body)
    local covered = call('HGET', K.wf(wf, 'covered'), field)
    if not covered then return { body = put_blob(body) } end
    covered = cmsgpack.unpack(covered)
    local calls, jobs, draft = covered[2], covered[3], G.draft(covered[1])
    if not draft then
        -- What it covers is gone, so it counts for nothing.
        local step = G.step(wf, lease.step)
        step.checkpoints = step.checkpoints - call('HDEL', K.wf(wf, 'checkpoints'), field)
        call('HDEL', K.wf(wf, 'covered'), field)
        G.put_step(step)
        G.flush()
        return {}
    end
    local of = hex(draft.segment, 8)
    local beyond = call('ZRANGEBYLEX', K.wf(wf, 'chunks'), '[' .. of .. hex(jobs, 12), '(' .. of .. '~', 'LIMIT', 0, CUT)
    cost.rows = cost.rows + #beyond
    if #beyond > 0 then
        local chunks = {}
        for i, member in ipairs(beyond) do chunks[i] = unhex(member:sub(25)) end
        call('HDEL', K.wf(wf, 'params'), unpack(chunks))
        call('ZREM', K.wf(wf, 'chunks'), unpack(beyond))
    end
    local key = arg.session .. ':' .. arg.draft
    if draft.key ~= key then G.end_draft(draft) end
    draft.key, draft.next, draft.jobs = key, calls, jobs
    call('HSET', K.wf(wf, 'lengths'), draft.segment, jobs)
    G.put_draft(draft, NEVER)
    call('HSET', K.wf(wf, 'covered'), field, cmsgpack.pack({ key, calls, jobs }))
    return { body = put_blob(body), calls = calls, jobs = jobs, more = #beyond == CUT }
end

function DO.checkpoint()
    local body = call('HGET', K.wf(arg.wf, 'checkpoints'), arg.chunk .. ':' .. arg.at)
    if not body then return {} end
    count_bytes(#body)
    return { body = put_blob(body) }
end
