-- Running a step again, and what comes after it: one chore, which holds every step on its list until it has taken all of them back. The list
-- is the workflow's `again`, by what is to be done next with each step; what has been begun comes before what has not, and what a source
-- emitted goes after all leases of the source have. A hold keeps a step from settling, a gate (one more upstream that has not decided) from
-- being released.

-- In a block of its own, whose locals end with it: a script may have 200 of them at a time.
do

local STAGE = G.AGAIN
local AGAIN_HOLD = 'run again'
local AGAIN_CALLS, AGAIN_BYTES = 250, 128 * 1024
local AGAIN_EDGES, AGAIN_CHUNKS, AGAIN_LEASES, AGAIN_STEPS = 25, 30, 25, 20
-- So many outcome records go at once.
local AGAIN_RECORDS = 4000

-- A step on the list: where to go on, whether a gate holds it back, whether its source runs again, too.
local function taken_row(wf, number)
    local text = call('HGET', K.wf(wf, 'again-rows'), number)
    return text and cmsgpack.unpack(text)
end
local function put_taken(wf, number, row, stage, cursor)
    row.cursor = cursor
    call('HSET', K.wf(wf, 'again-rows'), number, cmsgpack.pack(row))
    call('ZADD', K.wf(wf, 'again'), stage, number)
end

local function put_on_list(wf, number, dropped)
    local row = taken_row(wf, number)
    if not row then
        put_taken(wf, number, { gated = false, dropped = dropped }, STAGE.tell, 0)
        return G.change_holds(wf, number, AGAIN_HOLD, true)
    end
    local stage = tonumber(call('ZSCORE', K.wf(wf, 'again'), number))
    if G.step(wf, number).follows then
        -- What it has been given to go on with is taken back when the step before it is, though it has been taken back itself.
        if stage ~= STAGE.tell then put_taken(wf, number, row, STAGE.lines, 0) end
        return
    end
    if not dropped or row.dropped then return end
    row.dropped = true
    put_taken(wf, number, row, stage == STAGE.done and STAGE.drop or stage, row.cursor)
end

local function is_at_work(wf, owner)
    local root, again = owner:match('^(%d+):(%d+)$')
    return G.is_on_list('run again', wf, root, again) or G.is_on_list('release again', wf, root, again)
end

-- Whether steps of a workflow are being taken back to run again.
function G.is_running_again(wf)
    local owner = call('HGET', K.wf(wf, 'again-rows'), 'owner')
    return owner and is_at_work(wf, owner)
end

-- Whether another chore changes the step's jobs, or tells its followers.
local function has_chore_under_way(step)
    local function on_list(kind, argument) return G.is_on_list(kind, step.wf, step.step, argument) end
    if step.state >= STEP.succeeded and on_list('release', 0) then return true end
    if step.decided and (on_list('fill', SKIPPED) or on_list('fill', CANCELLED)) then return true end
    if step.policy == FAIL_FAST and on_list('stop rest', 0) then return true end
    if step.follows and (on_list('skip behind', 0) or on_list('reopen behind', 0)) then return true end
    local text = call('HGET', K.wf(step.wf, 'holds'), step.step)
    for name in pairs(text and cmsgpack.unpack(text) or {}) do
        local mended = name:match('^retry (%d+)$') or name == 'retry' and 0 or name == 'discard' and -1 or name == 'child' and -2
            or name == 'skip' and G.SKIP_ALL
        local skipped, replaced = name:match('^skip #(%d+)$'), name:match('^replace #(%d+)$')
        if skipped then mended = -4 - 2 * skipped elseif replaced then mended = -5 - 2 * replaced end
        if mended and (on_list('retry jobs', mended) or on_list('revive', mended)) then return true end
    end
    return false
end

-- The next page of edges begins with the last step of a full one again: that may have another edge behind it.
local function next_page(edges, last, from)
    if #edges < AGAIN_EDGES then return nil end
    return last > from and last or last + 1
end

-- As long as a step counts as settled its followers are told to wait for it again: so none of them is released by what it was. Those that
-- are to run again, too, go on the list. Returns where to go on.
local function tell_to_wait_again(step, from, again)
    local wf = step.wf
    local edges = G.edges_from(wf, step.step, from, AGAIN_EDGES)
    for _, edge in ipairs(edges) do
        local follower = G.step(wf, edge.down)
        local has_run = follower.released_at and follower.state >= STEP.succeeded
        local is_fed = edge.kind == EDGE.feeds
        if is_fed or edge.kind == EDGE.chains or again or not has_run and not G.is_untouched(follower) then
            put_on_list(wf, edge.down, is_fed)
        elseif has_run then
            follower.outdated = true
            G.put_step(follower)
        end
        if G.is_asked(follower, edge.kind) then G.redecide(wf, edge, G.step(wf, edge.down), nil) end
    end
    return next_page(edges, #edges > 0 and edges[#edges].down or from, from)
end

-- Ends some leases of a step, so that a late report under them is refused; returns whether there may be more.
function G.end_leases_of(step)
    local prefix = hex(step.step, 8)
    local members = call('ZRANGEBYLEX', K.wf(step.wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, AGAIN_LEASES)
    for _, member in ipairs(members) do
        local lease = G.lease_of(member)
        if lease then
            G.note('taken_back', 0, lease, lease.jobs)
            step.leased = step.leased - M.len(lease.jobs)
            G.drop_lease(lease)
        else
            call('ZREM', K.wf(step.wf, 'leases'), member)
        end
    end
    G.put_step(step)
    return #members == AGAIN_LEASES
end

-- A step of which nothing is in a line or under a lease waits, as if it had never been released.
local function take_back_step(step)
    local workflow = G.workflow(step.wf)
    if step.state >= STEP.succeeded then workflow.unsettled = workflow.unsettled + 1 end
    if step.state == STEP.running then workflow.active = workflow.active - 1 end
    if step.state == STEP.failed then workflow.failed_steps = workflow.failed_steps - 1 end
    G.put_workflow(workflow)
    if step.succeeded > 0 then step.generation = step.generation + 1 end
    if step.awaits and not G.is_untouched(step) then
        local awaited = G.awaited(step.wf, step.step)
        awaited.signalled_at = nil
        call('HSET', K.wf(step.wf, 'awaited'), step.step, pack(awaited, AWAITED_FIELDS))
    end
    step.state, step.pending = STEP.waiting, step.pending + 1
    for _, name in ipairs({ 'decided', 'released_at', 'started_at', 'finished_at', 'exceeded', 'grace_until', 'forgiven', 'outdated', 'early' }) do
        step[name] = nil
    end
    G.put_step(step)
end

-- Each edge into a step decides anew: it may have been decided when the step before it was something else.
local function ask_again(wf, down, from)
    local prefix = hex(down, 8)
    local members = call('ZRANGEBYLEX', K.wf(wf, 'up'), '[' .. prefix .. hex(from, 8), '(' .. prefix .. '~', 'LIMIT', 0, AGAIN_EDGES)
    if #members == 0 then return nil end
    local names, ups = {}, {}
    for i, member in ipairs(members) do
        ups[i] = unhex(member:sub(9, 16))
        names[i] = member:sub(9, 16) .. prefix .. member:sub(17)
    end
    local decisions = call('HMGET', K.wf(wf, 'decisions'), unpack(names))
    local listed = call('HMGET', K.wf(wf, 'again-rows'), unpack(ups))
    for i, member in ipairs(members) do
        local edge = { name = names[i], down = down, kind = tonumber(member:sub(17)), decision = tonumber(decisions[i] or nil) }
        local after = nil
        if not listed[i] then after = decide(edge.kind, G.step(wf, ups[i])) end
        G.redecide(wf, edge, G.step(wf, down), after)
    end
    return next_page(members, ups[#ups], from)
end

-- Deletes the outcome records of chunks, as many as may go at once; returns of how many chunks all are gone.
local function forget_outcomes(wf, chunks)
    if #chunks == 0 then return 0 end
    local key, numbers, fields = K.wf(wf, 'outcomes'), {}, {}
    for i, chunk in ipairs(chunks) do numbers[i] = chunk.chunk end
    local done = #chunks
    for i, last in ipairs(call('HMGET', key, unpack(numbers))) do
        last = tonumber(last or 0)
        local first = math.max(last - (AGAIN_RECORDS - #fields) + 1, 1)
        for n = first, last do fields[#fields + 1] = numbers[i] .. ':' .. n end
        if first > 1 then
            call('HSET', key, numbers[i], first - 1)
            done = i - 1
            break
        elseif last > 0 then
            fields[#fields + 1] = numbers[i]
        end
    end
    for from = 1, #fields, 1000 do call('HDEL', key, unpack(fields, from, math.min(from + 999, #fields))) end
    return done
end

-- Mended parameters of chunks that are to be dropped.
local function forget_mended(wf, numbers)
    local key, fields = K.wf(wf, 'mended'), {}
    for i, text in ipairs(call('HMGET', key, unpack(numbers))) do
        if text then
            fields[#fields + 1] = numbers[i]
            for _, mend in ipairs(cmsgpack.unpack(text).valid) do fields[#fields + 1] = numbers[i] .. ':' .. mend[1] end
        end
    end
    for from = 1, #fields, 1000 do call('HDEL', key, unpack(fields, from, math.min(from + 999, #fields))) end
end

-- Sources run again: what they have emitted is taken out of the step that they feed.
local function forget_emitted(wf, chunks, done)
    local key = K.wf(wf, 'emitted')
    if call('EXISTS', key) == 0 then return end
    for i = 1, done do
        local fields = {}
        for at = 0, chunks[i].jobs - 1 do fields[at + 1] = chunks[i].chunk .. ':' .. at end
        call('HDEL', key, unpack(fields))
    end
end

-- Jobs of a bite of chunks are as they were created. Returns where to go on.
local function take_back_jobs(step, from, dropped)
    local wf, number = step.wf, step.step
    local chunks = G.chunks_from(wf, number, from, AGAIN_CHUNKS)
    local done, numbers = forget_outcomes(wf, chunks), {}
    for i = 1, done do numbers[i] = chunks[i].chunk end
    local found = done > 0 and call('HMGET', K.wf(wf, 'bytes'), unpack(numbers)) or {}
    for i = 1, done do
        local chunk, bytes = chunks[i], found[i]
        if i > 1 and cost.calls + dirty_rows() > AGAIN_CALLS + 100 then
            done = i - 1
            break
        end
        if bytes then
            count_bytes(#bytes)
            if #bytes ~= chunk.jobs then fail('corrupt', 'chunk ' .. chunk.chunk .. ' has ' .. chunk.jobs .. ' jobs but ' .. #bytes .. ' bytes') end
            local counts = M.states(bytes, M.range(0, #bytes))
            for state, jobs in pairs(counts) do G.shift(wf, number, state, OPEN, jobs) end
            if counts[FAILED] then
                G.forget_failed(wf, number, chunk.chunk, M.where(bytes, function(byte) return state_of(byte) == FAILED end))
            end
        end
        G.forget_checkpoints(wf, number, chunk.chunk, M.range(0, chunk.jobs))
        if step.follows then
            -- As before: it can go on with these as soon as it is released.
            local ready = G.succeeded_before(step, chunk)
            if ready ~= '' then G.put_behind(step, chunk, ready) end
        end
    end
    if done > 0 then
        for _, part in ipairs({ 'bytes', 'recovered', 'failed' }) do call('HDEL', K.wf(wf, part), unpack(numbers, 1, done)) end
        if step.feeds then forget_emitted(wf, chunks, done) end
        if dropped then forget_mended(wf, { unpack(numbers, 1, done) }) end
    end
    if done < #chunks then return chunks[done + 1].first end
    local last = chunks[#chunks]
    return #chunks == AGAIN_CHUNKS and last.first + last.jobs or nil
end

-- Takes what sources emitted out of a step, the last first; a chore deletes each part. Returns whether there may be more.
local function drop_emitted(step)
    local wf, prefix = step.wf, hex(step.step, 8)
    local workflow = G.workflow(wf)
    local members = call('ZREVRANGEBYLEX', K.wf(wf, 'segments'), '(' .. prefix .. '~', '[' .. prefix, 'LIMIT', 0, AGAIN_STEPS)
    for _, member in ipairs(members) do
        local segment = unhex(member:sub(21))
        local jobs = tonumber(call('HGET', K.wf(wf, 'lengths'), segment) or 0)
        step.total, workflow.total = step.total - jobs, workflow.total - jobs
        call('ZREM', K.wf(wf, 'segments'), member)
        G.lengthen_chain(step, 0, -jobs)
        G.leave_chore('drop', wf, segment, 0, segment)
    end
    G.put_step(step)
    G.put_workflow(workflow)
    return #members == AGAIN_STEPS
end

-- Does some of what is next with a step; returns false if it has to wait for another chore.
local function take_back_some(wf, number, stage, again)
    local step, row = G.step(wf, number), taken_row(wf, number)
    local behind = row.dropped and STAGE.drop or STAGE.done
    local function go_on(with, next_cursor, after) put_taken(wf, number, row, next_cursor and with or after, next_cursor or 0) end
    -- A cancel ends what is left as it is; what always runs is taken back whole.
    if G.workflow(wf).state == WF.cancelling and (not row.gated or step.decided) then
        put_taken(wf, number, row, STAGE.done, 0)
    elseif stage == STAGE.tell then
        if row.cursor == 0 and has_chore_under_way(step) then return false end
        go_on(STAGE.tell, tell_to_wait_again(step, row.cursor, again), STAGE.lines)
    elseif stage == STAGE.lines then
        if G.clear_lines(wf, number) or G.end_leases_of(step) then return true end
        local after = step.children and STAGE.children or STAGE.ask
        if G.is_untouched(step) and not step.follows then
            -- Somebody may have skipped some that are to go.
            after = row.dropped and G.settled_jobs(step) > 0 and STAGE.jobs or behind
        end
        if not row.gated then take_back_step(step) end
        row.gated = true
        put_taken(wf, number, row, after, 0)
    elseif stage == STAGE.children then
        go_on(STAGE.children, G.cancel_some_children(wf, number, row.cursor), STAGE.ask)
    elseif stage == STAGE.ask then
        go_on(STAGE.ask, ask_again(wf, number, row.cursor), STAGE.jobs)
    elseif stage == STAGE.jobs then
        go_on(STAGE.jobs, take_back_jobs(step, row.cursor, row.dropped), behind)
    elseif not drop_emitted(step) then
        put_taken(wf, number, row, STAGE.done, 0)
    end
    return true
end

-- One bite of taking back step `root` and what comes after it. In a workflow one such repair is at work at a time.
function G.run_again_bite(wf, root, again)
    local me, owner = root .. ':' .. again, call('HGET', K.wf(wf, 'again-rows'), 'owner')
    if owner and (owner ~= me or G.is_on_list('release again', wf, root, again)) then
        if not is_at_work(wf, owner) then
            fail('corrupt', 'step ' .. root .. ' cannot run again before what began with step ' .. owner:match('%d+') ..
                ' has come to its end, and that cannot be done')
        end
        return G.leave_chore('run again', wf, root, 0, again)
    end
    if not owner then
        call('HSET', K.wf(wf, 'again-rows'), 'owner', me)
        put_on_list(wf, root, false)
    end
    while cost.calls + dirty_rows() < AGAIN_CALLS and cost.bytes < AGAIN_BYTES do
        local first = call('ZRANGEBYSCORE', K.wf(wf, 'again'), '-inf', '(' .. STAGE.done, 'WITHSCORES', 'LIMIT', 0, 1)
        if not first[1] then return G.leave_chore('release again', wf, root, 0, again) end
        if not take_back_some(wf, tonumber(first[1]), tonumber(first[2]), again > 0) then break end
    end
    G.leave_chore('run again', wf, root, 0, again)
end

-- Whether the one edge that has not decided, or waits, comes from the source that feeds the step: then it may begin with what is there.
local function may_begin(step)
    if step.follows then return G.may_go_on(step) end
    local waits_for_one = step.pending + step.waits == 1 and step.skips + step.cancels == 0
    if step.state ~= STEP.waiting or step.released_at or not waits_for_one or step.delay > 0 or step.total == 0 then return false end
    local prefix = hex(step.step, 8)
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(step.wf, 'up'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, AGAIN_EDGES)) do
        if tonumber(member:sub(17)) == EDGE.feeds then
            local decision = tonumber(call('HGET', K.wf(step.wf, 'decisions'), member:sub(9, 16) .. prefix .. member:sub(17)) or nil)
            return not decision or decision == WAIT
        end
    end
    return false
end

-- Everything has been taken back: one gate after the other is opened, and what waits for nothing else is released.
function G.release_again(wf, root, again)
    local list
    repeat
        list = call('ZRANGE', K.wf(wf, 'again'), 0, AGAIN_STEPS - 1)
        for _, number in ipairs(list) do
            if is_at_bound() then return G.leave_chore('release again', wf, root, 0, again) end
            number = tonumber(number)
            local row, step = taken_row(wf, number), G.step(wf, number)
            call('ZREM', K.wf(wf, 'again'), number)
            call('HDEL', K.wf(wf, 'again-rows'), number)
            G.change_holds(wf, number, AGAIN_HOLD, false)
            if row.gated then
                step.pending = step.pending - 1
                G.put_step(step)
            end
            G.to_finish[wf] = true
            G.leave_behind(step)
            if not row.gated or step.decided then
                G.check_settled(wf, number)
            elseif may_begin(step) then
                G.release(step)
            elseif step.state == STEP.waiting and not step.released_at and step.pending == 0 then
                G.act_on_decisions(step)
            end
        end
    until #list < AGAIN_STEPS
    call('HDEL', K.wf(wf, 'again-rows'), 'owner')
end

end
