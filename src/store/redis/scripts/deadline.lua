-- Deadlines of lone jobs: what has not settled by then is cancelled. A chunk has one row with all times that its jobs came with; it goes
-- when the last of them has come, or with the chunk. A lane counts such chunks, so that those without cost nothing.

local function deadline_member(wf, chunk, due)
    return wf .. ':' .. hex(chunk, 8) .. ':' .. hex(due, 14)
end

-- Notes until when jobs of a new chunk may settle: pairs of a time and a mask.
function G.add_deadlines(step, chunk, first, deadlines)
    if #deadlines == 0 then return end
    for _, one in ipairs(deadlines) do
        one[1] = math.min(math.max(one[1], 0), NEVER)
        batch('ZADD', K.deadlines, one[1], deadline_member(step.wf, chunk, one[1]))
    end
    batch('HSET', K.wf(step.wf, 'deadlines'), chunk, cmsgpack.pack({ first, deadlines }))
    step.deadlines = (step.deadlines or 0) + 1
    G.put_step(step)
end

-- Takes one deadline off the list; returns the first job of its chunk, and the jobs that it is for.
function G.take_deadline(member)
    local wf, chunk, due = member:match('^(%d+):(%x+):(%x+)$')
    wf, chunk, due = tonumber(wf), unhex(chunk), unhex(due)
    local text = call('HGET', K.wf(wf, 'deadlines'), chunk)
    call('ZREM', K.deadlines, member)
    if not text then return wf, chunk, nil, '' end
    local row, left, jobs = cmsgpack.unpack(text), {}, ''
    for _, one in ipairs(row[2]) do
        if one[1] == due then jobs = M.either(jobs, one[2]) else left[#left + 1] = one end
    end
    if #left > 0 then
        call('HSET', K.wf(wf, 'deadlines'), chunk, cmsgpack.pack({ row[1], left }))
    else
        call('HDEL', K.wf(wf, 'deadlines'), chunk)
        local step = G.step(wf, 0)
        step.deadlines = step.deadlines - 1
        G.put_step(step)
    end
    return wf, chunk, row[1], jobs
end
