-- Ready work. A line has a place for each workflow, a place its ready steps, a step its entries. A claim goes to the place and the step
-- with the lowest turn and moves both behind the others. What may not run now is parked: its turn is PARKED until an event gives it
-- another.

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
    G.line_up(step, G.put_entry(step, work, front, suspect, recoveries, alone))
end

-- Makes an entry of a step; returns the line that it is for.
function G.put_entry(step, work, front, suspect, recoveries, alone)
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
    return line
end

-- Gives a step that has entries a turn in its line.
function G.line_up(step, line)
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
    if step.limit and not step.exceeded then G.unpark_step_now(step) end
end

-- Puts what was parked of a step back into its lines.
function G.unpark_step_now(step)
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
