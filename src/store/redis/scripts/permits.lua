-- Permits: units of a limit, held by sessions. A limit's row has the sums; what a session has of each limit stands in a hash of its own.

-- As in `store/permits.rs` and `sqlite/permit.rs`. Only when a session leaves, an operation ends as many of its permits here as a tick does;
-- there it ends twice as many.
local WAITS_FOR, WAITING_LOOKED_AT = 5000, 8
local PERMITS_ENDED, PERMITS_WOKEN, ASK_AGAIN = 20, 4, 250

local LIMIT_FIELDS = { 'at_once', 'starts', 'period', 'since', 'taken', 'reserved', 'turn', 'counted' }
local PERMIT_FIELDS = { 'hold', 'reserved', 'used', 'waiting' }

local function permit_of(id, name)
    local text = call('HGET', K.permits(id), name)
    return text and unpack_row(text, PERMIT_FIELDS) or { hold = 0, reserved = 0, used = 0, is_new = true }
end

-- A row that does not decode: the next one that asks says what the limit is. What sessions hold stays counted, for they will give it back.
local function begun_anew(name)
    local row = { since = 0, taken = 0, reserved = 0, turn = 0, counted = {} }
    for _, id in ipairs(call('ZRANGE', K.permit_ends, 0, 199)) do
        local mine = permit_of(id, name)
        row.taken, row.reserved = row.taken + mine.hold, row.reserved + mine.reserved
    end
    row.turn = tonumber(call('ZREVRANGE', K.waiting_for(name), 0, 0, 'WITHSCORES')[2] or 0)
    return row
end

function G.limit_row(name)
    local text = call('HGET', K.limits, name)
    if not text then return { since = 0, taken = 0, reserved = 0, turn = 0, counted = {} } end
    count_bytes(#text)
    local sound, row = pcall(unpack_row, text, LIMIT_FIELDS)
    return sound and row or begun_anew(name)
end

local function put_limit(name, row)
    local text = pack(row, LIMIT_FIELDS)
    count_bytes(#text)
    call('HSET', K.limits, name, text)
end

-- How many more jobs may start now.
local function free_of(row)
    local free = 4294967295
    if row.at_once then free = math.max(row.at_once - math.max(row.taken, 0), 0) end
    if row.starts then
        forget_starts(row)
        free = math.min(free, math.max(row.starts - math.max(row.reserved, 0) - sum_of_starts(row), 0))
    end
    return free
end

local function free_in(row)
    if row.at_once and row.taken >= row.at_once then return nil end
    if not row.starts then return ASK_AGAIN end
    local at = G.next_start(row, math.max(row.reserved, 0))
    if not at then return nil end
    return at > now() and at - now() or ASK_AGAIN
end

-- Who waits for a limit, with the lowest turns: id, when it asked last, and where it is told.
local function who_waits(name, but, till)
    local ids = call('ZRANGEBYSCORE', K.waiting_for(name), '-inf', till, 'LIMIT', 0, WAITING_LOOKED_AT)
    if #ids == 0 then return {} end
    local list, abouts = {}, call('HMGET', K.waiting_about(name), unpack(ids))
    for i, id in ipairs(ids) do
        local about = abouts[i] and cmsgpack.unpack(abouts[i])
        if about and id ~= but then
            list[#list + 1] = { waits_still = math.abs(now() - about[1]) <= WAITS_FOR, told_at = about[2] }
        end
    end
    return list
end

-- How many others asked before, and ask again and again since.
local function waits_ahead(name, id, turn)
    local count = 0
    for _, other in ipairs(who_waits(name, id, turn and '(' .. turn or '+inf')) do
        if other.waits_still then count = count + 1 end
    end
    return count
end

-- Wakes those who have waited longest for what has become free. If it is not, the first one is to know from when on it will be.
local function wake_waiting(name, but, row, is_time_known, woken)
    local left = math.min(math.max(free_of(row), is_time_known and 1 or 0), PERMITS_WOKEN)
    if left == 0 then return end
    for _, other in ipairs(who_waits(name, but, '+inf')) do
        if left == 0 then return end
        -- One that has not asked for long may be dead: it is woken, but it is not counted on.
        if other.waits_still then left = left - 1 end
        local about = other.told_at and cmsgpack.unpack(other.told_at)
        if about and about.host ~= arg.host then
            call('PUBLISH', about.channel, '')
        elseif about and not woken.told[about.port] then
            woken.told[about.port] = true
            woken.ports[#woken.ports + 1] = about.port
        end
    end
end

function G.nobody_woken()
    return { ports = {}, told = {} }
end

local function waits_no_more(name, id)
    call('ZREM', K.waiting_for(name), id)
    call('HDEL', K.waiting_about(name), id)
end

-- Sets what a session has of a limit, and grants what is free of what more it wants.
function G.permit(id, since, told_at, wanted, woken)
    local name, row = wanted.name, G.limit_row(wanted.name)
    local mine = permit_of(id, name)
    -- Old and new programs run side by side for a while: what the newest says counts.
    if since >= row.since then
        row.at_once, row.starts, row.period, row.since = wanted.at_once, wanted.starts, wanted.period, since
    end
    -- Of a session that had been forgotten nobody knows when it used them.
    if not mine.is_new then note_starts(row, wanted.used - mine.used) end
    local held, unstarted = row.at_once and wanted.held or 0, row.starts and wanted.unstarted or 0
    row.taken, row.reserved = row.taken + held - mine.hold, row.reserved + unstarted - mine.reserved
    local more, ask_in = 0, nil
    if wanted.more > 0 then
        local free = free_of(row)
        if free > 0 then more = math.min(wanted.more, math.max(free - waits_ahead(name, id, mine.waiting), 0)) end
    end
    local hold, reserved = held + (row.at_once and more or 0), unstarted + (row.starts and more or 0)
    row.taken, row.reserved = row.taken + hold - held, row.reserved + reserved - unstarted
    local waiting
    if more < wanted.more then
        ask_in = free_in(row)
        -- Who got something goes behind the others.
        waiting = more == 0 and mine.waiting or nil
        if not waiting then
            row.turn = row.turn + 1
            waiting = row.turn
        end
    end
    call('HSET', K.permits(id), name, pack({
        hold = hold, reserved = reserved, used = math.max(wanted.used, mine.used), waiting = waiting,
    }, PERMIT_FIELDS))
    if waiting then
        call('ZADD', K.waiting_for(name), waiting, id)
        call('HSET', K.waiting_about(name), id, cmsgpack.pack({ now(), told_at or false }))
    elseif mine.waiting then
        waits_no_more(name, id)
    end
    put_limit(name, row)
    -- One that does not wait any more may have been the one that was woken for what is free.
    local withdraws = mine.waiting and not waiting and more == 0
    if hold < mine.hold or reserved < mine.reserved or withdraws then
        wake_waiting(name, id, row, reserved < mine.reserved, woken)
    end
    return { more = more, free_in = ask_in }
end

-- Takes back what a session has of a limit: starts that were reserved for it count, since it may have used them. What it has used stays
-- known as long as its session.
local function end_permit(id, name, mine, woken)
    if mine.waiting then waits_no_more(name, id) end
    call('HSET', K.permits(id), name, pack({ hold = 0, reserved = 0, used = mine.used }, PERMIT_FIELDS))
    if mine.hold == 0 and mine.reserved == 0 then return end
    local row = G.limit_row(name)
    note_starts(row, mine.reserved)
    row.taken, row.reserved = row.taken - mine.hold, row.reserved - mine.reserved
    put_limit(name, row)
    wake_waiting(name, id, row, true, woken)
end

function G.each_permit(id, visit)
    local cursor = '0'
    repeat
        local page = call('HSCAN', K.permits(id), cursor, 'COUNT', 1000)
        cursor = page[1]
        for i = 1, #page[2], 2 do visit(page[2][i], unpack_row(page[2][i + 1], PERMIT_FIELDS)) end
    until cursor == '0'
end

-- Takes back what a session has of all limits; returns whether there is more.
function G.end_permits_of(id, woken)
    local count = 0
    G.each_permit(id, function(name, mine)
        if mine.hold == 0 and mine.reserved == 0 and not mine.waiting then return end
        if count < PERMITS_ENDED then end_permit(id, name, mine, woken) end
        count = count + 1
    end)
    if count > PERMITS_ENDED then return true end
    call('ZREM', K.permit_ends, id)
    return false
end
