-- Timers: jobs of a chunk, or whole steps, that are due at a time.

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
