-- Schedules: kept, changed, and fired when they are due.

local DO = {}

-- So many decided occurrences of a schedule are kept; of so many that are open it is looked whether their start job has ended.
local HISTORY, LOOKED_AT = 1000, 8

local function find_schedule(name)
    return G.schedule_row(call('HGET', K.schedules, name))
end

local function put_row(name, row)
    call('HSET', K.schedules, name, cmsgpack.pack(row))
    if row.next and not row.paused then
        call('ZADD', K.schedules_due, row.next, name)
    else
        call('ZREM', K.schedules_due, name)
    end
end

local function as_told(name, row)
    return row and { name = name, definition = row.definition, next = row.next and text_of(row.next) or nil, paused = row.paused }
end

-- Keeps a schedule, or changes the one that is there: with the same rule it goes on where it was.
function DO.put_schedule()
    local before = find_schedule(arg.name)
    local row = { rule = arg.rule, definition = arg.definition, next = arg.next, paused = before and before.paused or false }
    if before and before.rule == arg.rule and before.next then row.next = before.next end
    count_bytes(#arg.definition)
    put_row(arg.name, row)
    call('ZADD', K.schedule_names, 0, arg.name)
    return { before = as_told(arg.name, before) }
end

function DO.change_schedule()
    local before = find_schedule(arg.name)
    local row = find_schedule(arg.name)
    if row and arg.change == 'pause' then
        row.paused = true
        put_row(arg.name, row)
    elseif row and arg.change == 'resume' then
        if row.paused then row.next, row.paused = arg.next, false end
        put_row(arg.name, row)
    elseif arg.change == 'remove' or arg.change == 'move' then
        call('HDEL', K.schedules, arg.name)
        call('ZREM', K.schedules_due, arg.name)
        call('ZREM', K.schedule_names, arg.name)
    end
    if arg.change == 'remove' then
        for _, part in ipairs({ 'rows', 'open', 'decided' }) do call('UNLINK', K.schedule(part, arg.name)) end
    end
    return { before = as_told(arg.name, before) }
end

-- Of what has been decided only so much is kept.
local function forget_occurrences(schedule)
    local open, rows = K.schedule('open', schedule), K.schedule('rows', schedule)
    for _, member in ipairs(call('ZRANGE', open, 0, LOOKED_AT - 1)) do
        local row = G.occurrence(schedule, member)
        local lane = row and row.lane and tonumber(call('HGET', K.ids, row.lane) or nil)
        if row and G.has_lone_ended(lane, row.job) then
            G.decide({ schedule = schedule, at = unhex(member) }, OCCURRENCE.failed, nil)
        end
    end
    local decided = K.schedule('decided', schedule)
    local surplus = math.min(call('ZCARD', decided) - HISTORY, 100)
    if surplus <= 0 then return end
    local gone = call('ZRANGE', decided, 0, surplus - 1)
    call('HDEL', rows, unpack(gone))
    call('ZREM', decided, unpack(gone))
end

-- Records occurrences and enqueues their jobs, unless somebody else has moved the schedule on.
function DO.fire()
    local name = arg.schedule
    local row = find_schedule(name)
    if not row then return { fired = false, woken = {} } end
    if arg.jobs then check_lone(arg.jobs) end
    if arg.from then
        if row.paused or row.next ~= arg.from then return { fired = false, woken = {} } end
    elseif G.occurrence(name, hex(arg.instants[1], 14)) then
        return { fired = true, woken = {} }
    end
    if arg.missed then
        G.note_occurrence(name, arg.missed.from,
            { to = arg.missed.to, count = arg.missed.count, state = OCCURRENCE.missed, fired_at = now() })
    end
    if arg.jobs then
        local state = arg.starts and OCCURRENCE.due or OCCURRENCE.enqueued
        local first = add_lone(arg.jobs, {})
        for i, at in ipairs(arg.instants) do
            G.note_occurrence(name, at,
                { to = at, count = 1, state = state, fired_at = now(), lane = arg.jobs.lane.id, job = first + i - 1 })
        end
    end
    -- What could still find something damaged comes before this, and what is only tidied up behind it.
    if arg.from then
        row.next = arg.to
        put_row(name, row)
    end
    write_numbers()
    G.flush()
    forget_occurrences(name)
    return { fired = true, woken = G.wake() }
end
