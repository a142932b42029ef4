-- Ready work, chores, and what follows when jobs settle.

-- Chores -----------------------------------------------------------------------------------------------------------------------
-- What exceeds one operation's bound. Each has a cursor; a bite takes it off the list, does its share, and puts it back.

local function chore_name(kind, wf, step, argument)
    return kind .. ':' .. wf .. ':' .. step .. ':' .. argument
end

-- Puts a chore on the list; one that is there already starts from `cursor` again if that is before its own.
function G.leave_chore(kind, wf, step, cursor, argument)
    local name = chore_name(kind, wf, step, argument)
    local there = call('HGET', K.chore_state, name)
    if there then
        local state = cmsgpack.unpack(there)
        state.cursor = math.min(state.cursor, cursor)
        call('HSET', K.chore_state, name, cmsgpack.pack(state))
        return
    end
    local turn = call('HINCRBY', K.shard, 'chore_turn', 1)
    call('HSET', K.chore_state, name, cmsgpack.pack({ cursor = cursor }))
    call('ZADD', K.chores, turn, name)
    call('SADD', K.wf(wf, 'chores'), name)
    if kind ~= 'drop' then
        local workflow = G.workflow(wf)
        workflow.chores = workflow.chores + 1
        G.put_workflow(workflow)
    end
end

function G.has_chores()
    return #call('ZRANGE', K.chores, 0, 0) > 0
end

-- Lines ------------------------------------------------------------------------------------------------------------------------
-- A line has a place for each workflow, a place its ready steps, a step its entries. A claim goes to the place and the step with the
-- lowest turn and moves both behind the others. What may not run now is parked: its turn is PARKED until an event gives it another.

-- The line of that name, made if it is new.
function G.line(queue, priority, job_type, suspect)
    local name = table.concat({ queue, job_type, tostring(priority), suspect and '1' or '0' }, '\0')
    G.line_numbers = G.line_numbers or {}
    local line = G.line_numbers[name] or call('HGET', K.line_names, name)
    if line then
        G.line_numbers[name] = tonumber(line)
        return tonumber(line)
    end
    line = call('HINCRBY', K.shard, 'last_line', 1)
    call('HSET', K.line_names, name, line)
    call('HSET', K.line(line), 'queue', queue, 'priority', priority, 'type', job_type, 'suspect', suspect and 1 or 0, 'turn', 0,
        'next', 0)
    local index = queue .. '\0' .. job_type
    call('HSET', K.line_index, index, (call('HGET', K.line_index, index) or '') .. line .. ',')
    return line
end

local function next_turn(line)
    return call('HINCRBY', K.line(line), 'next', 1)
end

local function feed(line)
    if not G.lines_fed[line] then
        G.lines_fed[line] = true
        G.fed_order[#G.fed_order + 1] = line
    end
end

local function place(line, wf)
    call('ZADD', K.places(line), next_turn(line), wf)
    call('SADD', K.active, line)
end

-- Puts work of a step into its line. Work is a run {low, high} or jobs of one chunk {chunk, first, jobs}.
function G.enqueue(step, work, front, suspect, recoveries, alone)
    local line = step.line
    if suspect then
        if not step.suspect_line then
            local of = call('HMGET', K.line(step.line), 'queue', 'priority', 'type')
            step.suspect_line = G.line(of[1], of[2], of[3], true)
            G.put_step(step)
        end
        line = step.suspect_line
    end
    work.recoveries, work.alone = recoveries, alone
    call(front and 'LPUSH' or 'RPUSH', K.queue(step.wf, step.step, suspect), cmsgpack.pack(work))
    -- A step that has a turn, or is parked, keeps it.
    local new_step = call('ZADD', K.ready(line, step.wf), 'NX', next_turn(line), step.step) > 0
    feed(line)
    local name = line .. ':' .. step.wf
    if new_step and not G.placed[name] then
        G.placed[name] = true
        local there = call('ZSCORE', K.places(line), step.wf)
        -- A place that is parked because all of its steps were at their limits gets a turn for this new one.
        if not there or tonumber(there) >= PARKED then place(line, step.wf) end
        call('ZADD', K.wf(step.wf, 'lines'), line, line)
    end
end

-- Puts the jobs of a released step from index `low` on into its line.
function G.enqueue_all(step, low)
    if low < step.total then G.enqueue(step, { low = low, high = step.total }, false, false, 0, 0) end
end

local function unpark_place(wf, line)
    local there = call('ZSCORE', K.places(line), wf)
    if there and tonumber(there) >= PARKED then place(line, wf) end
    feed(line)
end

-- Puts what was parked of a step at its limit back into its lines.
function G.unpark_step(step)
    if not step.limit then return end
    for _, line in ipairs({ step.line, step.suspect_line }) do
        local score = call('ZSCORE', K.ready(line, step.wf), step.step)
        if score and tonumber(score) >= PARKED then
            call('ZADD', K.ready(line, step.wf), next_turn(line), step.step)
            unpark_place(step.wf, line)
        end
    end
end

-- Puts the parked places of a workflow back, from line `from` on; a chore goes on beyond the bound.
function G.unpark_places(wf, from)
    local lines = call('ZRANGEBYSCORE', K.wf(wf, 'lines'), from, '+inf', 'LIMIT', 0, 100)
    for _, line in ipairs(lines) do unpark_place(wf, tonumber(line)) end
    if #lines == 100 then G.leave_chore('resume', wf, 0, tonumber(lines[#lines]) + 1, 0) end
end

function G.first_entry(wf, step, suspect)
    local text = call('LINDEX', K.queue(wf, step, suspect), 0)
    return text and cmsgpack.unpack(text)
end

-- A workflow that has no ready step in a line any more loses its place there.
local function leave_place(line, wf)
    if call('ZCARD', K.ready(line, wf)) > 0 then return false end
    call('ZREM', K.places(line), wf)
    call('ZREM', K.wf(wf, 'lines'), line)
    local first = call('ZRANGE', K.places(line), 0, 0, 'WITHSCORES')[2]
    if not first or tonumber(first) >= PARKED then call('SREM', K.active, line) end
    -- A step that is released later in this operation needs a place again.
    G.placed[line .. ':' .. wf] = nil
    return true
end

-- Takes a step that has no entries out of its line.
function G.leave_line(line, wf, step)
    call('ZREM', K.ready(line, wf), step)
    return leave_place(line, wf)
end

-- Timers -----------------------------------------------------------------------------------------------------------------------

local function timer_name(step, due, chunk)
    return hex(step, 8) .. hex(due, 14) .. hex(chunk, 8)
end

-- Makes jobs of a chunk due at a time; chunk 0 stands for the whole step.
function G.set_timer(step, due, chunk, first, jobs)
    due = math.min(due, NEVER)
    local wf, name = step.wf, timer_name(step.step, due, chunk)
    local there = call('HGET', K.wf(wf, 'timer-jobs'), name)
    if there then jobs = M.either(jobs, cmsgpack.unpack(there)[2]) end
    call('HSET', K.wf(wf, 'timer-jobs'), name, cmsgpack.pack({ first, jobs }))
    if not there then
        call('ZADD', K.wf(wf, 'timers'), 0, name)
        call('ZADD', K.timers, due, wf .. ':' .. name)
    end
end

function G.drop_timer(wf, name)
    call('HDEL', K.wf(wf, 'timer-jobs'), name)
    call('ZREM', K.wf(wf, 'timers'), name)
    call('ZREM', K.timers, wf .. ':' .. name)
end

-- The retry of a job that failed now and waits: rounded up to an eighth of the wait, so that the jobs of a chunk share few timers.
function G.due_time(wait)
    local grain = 1
    while grain * 2 <= wait / 8 do grain = grain * 2 end
    return math.ceil((now() + wait) / grain) * grain
end

-- Settling ---------------------------------------------------------------------------------------------------------------------

local function is_at_bound()
    return G.released >= 128 or cost.calls + dirty_rows() >= 420
end

local function is_held(wf, step)
    return call('HEXISTS', K.wf(wf, 'holds'), step) == 1
end

-- Settles a step if it has no holds and every byte is final.
function G.check_settled(wf, number)
    local step = G.step(wf, number)
    local may = step.state == STEP.running or step.state == STEP.waiting and step.decided ~= nil
    if not may or unsettled_jobs(step) > 0 or is_held(wf, number) then return end
    local workflow = G.workflow(wf)
    workflow.unsettled = workflow.unsettled - 1
    if step.state == STEP.running then workflow.active = workflow.active - 1 end
    if step.decided == SKIP and step.total == 0 then
        step.state = STEP.skipped
    elseif step.decided == CANCEL and step.total == 0 then
        step.state = STEP.cancelled
    else
        step.state = settled_as(step)
    end
    if step.state == STEP.failed then workflow.failed_steps = workflow.failed_steps + 1 end
    step.finished_at = now()
    G.put_step(step)
    G.put_workflow(workflow)
    G.settled[#G.settled + 1] = { wf, number }
    G.to_finish[wf] = true
end

local function release(step)
    step.state, step.released_at = STEP.running, now()
    G.put_step(step)
    local workflow = G.workflow(step.wf)
    workflow.active = workflow.active + 1
    G.put_workflow(workflow)
    if step.total == 0 then return G.check_settled(step.wf, step.step) end
    if step.delay > 0 then return G.set_timer(step, now() + step.delay, 0, 0, '') end
    G.enqueue_all(step, 0)
end

-- Puts jobs of a chunk (its number, and its first job) into a state; their attempts stay as they are.
function G.settle_jobs(wf, step, chunk, bytes, jobs, state)
    if jobs == '' then return end
    bytes = M.change(bytes, jobs, function(byte)
        G.shift(wf, step, state_of(byte), state, 1)
        return byte - state_of(byte) + state
    end)
    G.note('settled', state, { wf = wf, step = step, first = chunk.first }, jobs)
    G.put_bytes(wf, chunk.chunk, bytes)
end

local function leased_of_chunk(wf, step, chunk)
    local prefix = hex(step, 8) .. hex(chunk, 8)
    local leased = ''
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 1024)) do
        local lease = G.lease_named(member:sub(17))
        if lease then leased = M.either(leased, lease.jobs) end
    end
    return leased
end

-- Gives every job of a bite of chunks that is neither settled nor under a lease its final state. Returns where to go on.
function G.fill(wf, step, from, state)
    local chunks = G.chunks_from(wf, step, from, 30)
    for _, chunk in ipairs(chunks) do
        local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
        local open = M.where(bytes, function(byte) return state_of(byte) < SUCCEEDED end)
        G.settle_jobs(wf, step, chunk, bytes, M.minus(open, leased_of_chunk(wf, step, chunk.chunk)), state)
    end
    if #chunks == 30 then
        local last = chunks[#chunks]
        return last.first + last.jobs
    end
    G.check_settled(wf, step)
    return nil
end

-- Skips or cancels a step that has not been released: at once if it is small, else as a chore.
function G.pass_over(step, decision)
    step.decided = decision
    G.put_step(step)
    G.to_finish[step.wf] = true
    if step.total == 0 then return G.check_settled(step.wf, step.step) end
    local state = decision == SKIP and SKIPPED or CANCELLED
    if step.total == 1 then
        G.fill(step.wf, step.step, 0, state)
    else
        G.leave_chore('fill', step.wf, step.step, 0, state)
    end
end

-- Releases, skips or cancels a step of which every upstream edge has decided; the strongest decides.
function G.act_on_decisions(step)
    local cancelling = G.workflow(step.wf).state == WF.cancelling
    G.released = G.released + 1
    -- Nothing will be repaired in a cancelled workflow, so there an `always` step does not wait either.
    if step.cancels > 0 or cancelling and (not step.always or step.waits > 0) then
        G.pass_over(step, CANCEL)
    elseif step.waits > 0 then
        G.to_finish[step.wf] = true
    elseif step.skips > 0 then
        G.pass_over(step, SKIP)
    else
        release(step)
    end
end

local DECIDED = { [SKIP] = 'skips', [WAIT] = 'waits', [CANCEL] = 'cancels' }

-- Notes what one edge decided, and acts once the last one has.
local function note_decision(wf, edge, before, decision)
    local step = G.step(wf, edge.down)
    -- A step that has run, or is decided otherwise, is not asked again: repairs of its upstream leave it as it is.
    if before == decision or step.state ~= STEP.waiting or step.decided then return end
    call('HSET', K.wf(wf, 'decisions'), edge.name, decision)
    if before == nil then
        step.pending = step.pending - 1
    elseif DECIDED[before] then
        step[DECIDED[before]] = step[DECIDED[before]] - 1
    end
    if DECIDED[decision] then step[DECIDED[decision]] = step[DECIDED[decision]] + 1 end
    G.put_step(step)
    if step.pending == 0 then G.act_on_decisions(step) end
end

-- Edges out of `up` from follower `from` on, with what they have decided.
function G.edges_from(wf, up, from, limit)
    local members = call('ZRANGEBYLEX', K.wf(wf, 'down'), '[' .. hex(up, 8) .. hex(from, 8), '(' .. hex(up, 8) .. '~', 'LIMIT', 0,
        limit)
    if #members == 0 then return {} end
    cost.rows = cost.rows + #members
    local decisions = call('HMGET', K.wf(wf, 'decisions'), unpack(members))
    local edges = {}
    for i, member in ipairs(members) do
        edges[i] = {
            name = member,
            down = unhex(member:sub(9, 16)),
            kind = tonumber(member:sub(17)),
            decision = decisions[i] and tonumber(decisions[i]) or nil,
        }
    end
    return edges
end

-- Tells the followers of a settled step from step `from` on; leaves a chore for those beyond the bound.
function G.tell_followers(wf, up, from)
    local state = G.step(wf, up).state
    while true do
        if is_at_bound() then return G.leave_chore('release', wf, up, from, 0) end
        local edges = G.edges_from(wf, up, from, 33)
        local whole = #edges < 33
        -- A follower may have several edges from the same step: never stop between them.
        local last = #edges > 0 and edges[#edges].down or from
        for _, edge in ipairs(edges) do
            if not whole and edge.down == last and edge.down > from then break end
            if edge.down > from and is_at_bound() then return G.leave_chore('release', wf, up, edge.down, 0) end
            from = edge.down
            local decision = decide(edge.kind, state)
            if decision then note_decision(wf, edge, edge.decision, decision) end
        end
        if whole then return end
        from = last
    end
end

-- Tells the followers of every step that settled in this operation, up to the bound.
function G.cascade()
    while #G.settled > 0 do
        local step = table.remove(G.settled)
        G.tell_followers(step[1], step[2], 0)
    end
end

-- Releases steps without upstream, from step `from` on.
function G.release_roots(wf, from)
    for _, number in ipairs(call('ZRANGEBYSCORE', K.wf(wf, 'roots'), from, '+inf', 'LIMIT', 0, 130)) do
        number = tonumber(number)
        if is_at_bound() then return G.leave_chore('start', wf, 0, number, 0) end
        local step = G.step(wf, number)
        if step.state == STEP.waiting and not step.decided then G.act_on_decisions(step) end
    end
end

-- Leases -----------------------------------------------------------------------------------------------------------------------

local function lease_member(lease)
    return hex(lease.step, 8) .. hex(lease.chunk, 8) .. lease.name
end

function G.lease_named(name)
    local session, number = name:match('^(%x+):(%d+)$')
    local text = call('HGET', K.lease(session), number)
    if not text then return nil end
    local lease = unpack_row(text, LEASE_FIELDS)
    lease.name, lease.session, lease.number = name, session, tonumber(number)
    return lease
end

function G.put_lease(lease)
    call('HSET', K.lease(lease.session), lease.number, pack(lease, LEASE_FIELDS))
end

function G.drop_lease(lease)
    call('HDEL', K.lease(lease.session), lease.number)
    call('HDEL', K.progress(lease.session), lease.number)
    call('ZREM', K.leases, lease.name)
    call('ZREM', K.wf(lease.wf, 'leases'), lease_member(lease))
end

-- Moves lease time on by the time since it last moved: not back, and by at most half of the shortest lease, so that neither an outage
-- nor a jump of the clock costs anybody a lease.
function G.advance_lease_time(lease)
    local there = call('HMGET', K.shard, 'lease_time', 'lease_time_at')
    local shortest = tonumber(call('ZRANGE', K.shortest, 0, 0, 'WITHSCORES')[2] or lease)
    local half = math.floor(math.max(math.min(shortest, lease), 2) / 2)
    local time, at = tonumber(there[1] or 0), tonumber(there[2] or now())
    time = time + math.min(math.max(now() - at, 0), half)
    G.lease_time = time
    call('HSET', K.shard, 'lease_time', time, 'lease_time_at', now())
    return time
end

function G.errors_of(wf, chunk)
    local text = call('HGET', K.wf(wf, 'failed'), chunk)
    return text and cmsgpack.unpack(text) or {}
end
function G.put_errors_of(wf, chunk, failed)
    if next(failed) then
        local text = cmsgpack.pack(failed)
        count_bytes(#text)
        call('HSET', K.wf(wf, 'failed'), chunk, text)
    else
        call('HDEL', K.wf(wf, 'failed'), chunk)
    end
end

-- Counts failed jobs by their texts, as far as the step's table has room and the operation's bound is not reached; the others are
-- counted together as number 0. Returns which texts the table holds.
function G.note_errors(wf, step, chunk, errors)
    local known = {}
    if #errors == 0 then return known end
    local jobs_key, list_key = K.wf(wf, 'error-jobs'), K.wf(wf, 'error-list')
    local size = call('HGET', jobs_key, step)
    size = size and cmsgpack.unpack(size) or { 0, 0 }
    local failed, other, listed = G.errors_of(wf, chunk), 0, ''
    local names, counts, changed, texts = {}, {}, {}, {}
    for i = 1, math.min(#errors, 100 - G.errors_noted) do names[i] = step .. ':' .. errors[i].number end
    if #names > 0 then
        for i, count in ipairs(call('HMGET', jobs_key, unpack(names))) do counts[names[i]] = count and tonumber(count) or nil end
    end
    for i, error in ipairs(errors) do
        local row, count, name = error.number, M.len(error.jobs), names[i]
        if not name or G.errors_noted >= 100 then
            row = '0'
        elseif counts[name] then
            counts[name] = counts[name] + count
            changed[name] = true
            known[#known + 1] = error.number
        elseif size[1] < 1000 and size[2] + #error.text < 300 * 1024 then
            count_bytes(#error.text)
            texts[#texts + 1], texts[#texts + 2] = name, error.text
            counts[name], changed[name] = count, true
            size = { size[1] + 1, size[2] + #error.text }
            listed = listed .. error.number .. ','
            known[#known + 1] = error.number
        else
            row = '0'
        end
        failed[row] = M.either(failed[row] or '', error.jobs)
        if failed[row] == '' then failed[row] = nil end
        if row == '0' then other = other + count else G.errors_noted = G.errors_noted + 1 end
    end
    local values = {}
    for name in pairs(changed) do values[#values + 1], values[#values + 2] = name, counts[name] end
    if #values > 0 then call('HSET', jobs_key, unpack(values)) end
    if #texts > 0 then call('HSET', K.wf(wf, 'errors'), unpack(texts)) end
    if other > 0 then
        if call('HINCRBY', jobs_key, step .. ':0', other) == other and call('HEXISTS', K.wf(wf, 'errors'), step .. ':0') == 0 then
            call('HSET', K.wf(wf, 'errors'), step .. ':0', '')
            listed = listed .. '0,'
        end
    end
    if listed ~= '' then
        call('HSET', jobs_key, step, cmsgpack.pack(size))
        call('HSET', list_key, step, (call('HGET', list_key, step) or '') .. listed)
    end
    G.put_errors_of(wf, chunk, failed)
    return known
end

-- Ends a lease and puts what is open of it back into its line. `expired`: its worker may have died of these jobs.
function G.take_back(lease, expired)
    -- What a forwarder held has run nowhere.
    if lease.published then expired = false end
    local wf, number = lease.wf, lease.step
    local chunk = G.chunk_at(wf, number, lease.first)
    local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
    local step = G.step(wf, number)
    G.drop_lease(lease)
    local open = M.both(lease.jobs, M.where(bytes, function(byte) return state_of(byte) == OPEN end))
    G.note('taken_back', expired and 1 or 0, lease, open)
    step.leased = step.leased - M.len(lease.jobs)
    G.put_step(step)
    G.unpark_step(step)
    if G.workflow(wf).state == WF.cancelling and not step.always then
        G.settle_jobs(wf, number, chunk, bytes, open, CANCELLED)
        return G.check_settled(wf, number)
    end
    if open == '' then return end
    local function back(jobs) return { chunk = chunk.chunk, first = chunk.first, jobs = jobs } end
    if not expired then
        local work = back(open)
        work.published = lease.published
        return G.enqueue(step, work, not lease.suspect, lease.suspect, lease.recoveries, lease.alone)
    end
    local recovered = call('HGET', K.wf(wf, 'recovered'), chunk.chunk) or string.rep('\0', chunk.jobs)
    count_bytes(#recovered)
    call('HSET', K.wf(wf, 'recovered'), chunk.chunk,
        M.change(recovered, open, function(count) return math.min(count + 1, 255) end))
    local recoveries = lease.recoveries + 1
    if recoveries == 1 then
        -- Whatever killed the worker, most of what it held is innocent: the first time costs no delay.
        return G.enqueue(step, back(open), true, false, recoveries, 0)
    end
    local count = M.len(open)
    if count == 1 then
        local alone = lease.alone + (lease.suspect and 1 or 0)
        if alone >= step.max_recoveries then
            G.settle_jobs(wf, number, chunk, bytes, open, FAILED)
            G.note_errors(wf, number, chunk.chunk, { { number = arg.killed.number, text = arg.killed.text, jobs = open } })
            return G.check_settled(wf, number)
        end
        return G.enqueue(step, back(open), false, true, recoveries, alone)
    end
    local one, rest = M.split(open, math.ceil(count / 2))
    G.enqueue(step, back(one), false, true, recoveries, 0)
    G.enqueue(step, back(rest), false, true, recoveries, 0)
end

-- Picks an idle worker for each of the first lines that got work in this operation, one for all that it knows.
function G.wake()
    local woken = {}
    if #G.fed_order == 0 then return woken end
    local ids = call('ZRANGE', K.idle, 0, 31)
    if #ids == 0 then return woken end
    local abouts = call('HMGET', K.idle_about, unpack(ids))
    local idle, chosen = {}, {}
    for i, id in ipairs(ids) do
        if abouts[i] then
            local about = cmsgpack.unpack(abouts[i])
            about.id = id
            idle[#idle + 1] = about
        end
    end
    for i = 1, math.min(#G.fed_order, 4) do
        local of = call('HMGET', K.line(G.fed_order[i]), 'queue', 'type')
        local function able(about) return about.queues[of[1]] and about.types[of[2]] end
        local found = false
        for _, about in ipairs(chosen) do found = found or able(about) end
        for at, about in ipairs(idle) do
            if not found and able(about) then
                found = true
                table.remove(idle, at)
                chosen[#chosen + 1] = about
                call('ZREM', K.idle, about.id)
                if about.host == arg.host then
                    woken[#woken + 1] = about.port
                else
                    call('PUBLISH', about.channel, '')
                end
                break
            end
        end
    end
    return woken
end

-- Drafts -----------------------------------------------------------------------------------------------------------------------

function G.draft(key)
    local text = call('HGET', K.draft(key), 'row')
    if not text then return nil end
    local draft = cmsgpack.unpack(text)
    draft.key = key
    return draft
end

function G.end_draft(draft)
    call('UNLINK', K.draft(draft.key))
    call('ZREM', K.drafts, draft.key)
end

-- Leaves a draft, which is dead, to a chore.
function G.collect_draft(draft)
    G.end_draft(draft)
    if draft.wf then
        local workflow = G.workflow(draft.wf)
        workflow.state = WF.deleting
        G.put_workflow(workflow)
        G.leave_chore('delete', draft.wf, 0, 0, 0)
    elseif call('EXISTS', K.wf(draft.of_wf, 'head')) == 1 then
        G.leave_chore('drop', draft.of_wf, draft.segment, 0, draft.segment)
    end
end

function G.abandon(key)
    local draft = key and G.draft(key)
    if draft then G.collect_draft(draft) end
end

-- Moves a source's draft into the step that it feeds.
function G.adopt(key, wf, number)
    local draft = G.draft(key)
    if not draft or draft.of_wf ~= wf or draft.of_step ~= number then fail('refused', "the source's draft is gone") end
    local fed, workflow = G.step(wf, number), G.workflow(wf)
    local first = fed.total
    if workflow.state == WF.cancelling and not fed.always or fed.state >= STEP.succeeded or fed.decided then
        -- The workflow was cancelled while the source ran: a settled step gets no further jobs.
        return G.collect_draft(draft)
    end
    G.end_draft(draft)
    if draft.jobs == 0 then
        call('HDEL', K.wf(wf, 'lengths'), draft.segment)
        return
    end
    call('ZADD', K.wf(wf, 'segments'), 0, hex(number, 8) .. hex(first, 12) .. hex(draft.segment, 8))
    fed.total, workflow.total = fed.total + draft.jobs, workflow.total + draft.jobs
    G.put_step(fed)
    G.put_workflow(workflow)
    if fed.released_at then G.enqueue_all(fed, first) end
end
