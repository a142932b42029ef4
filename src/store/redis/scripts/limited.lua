-- Lone jobs whose key limits them: those beyond the limit wait for their turn, in a sorted set that has them by key. One that has been
-- admitted is open; one that waits is deferred, without a timer. What is admitted next is decided at the end of an operation.

-- Which sorts of keys the jobs of a lane have: bits of `step.keyed`.
local LIMITED, SOLE = 1, 2
-- From this many commands on an operation leaves those that come next to ticks; so many of one key are admitted at once.
local ADMIT_CALLS, ADMITTED = 320, 16
-- As in `store/lanes.rs`: the most jobs of one slice.
local KEYED_SLICE = 32
local LIMITED_FIELDS = {
    'at_once', 'starts', 'period', 'admitted', 'unstarted', 'waiting', 'jobs', 'next', 'counted',
    -- Jobs (wf:chunk:position) whose workers have died and that a new start lets wait for their turn, until their attempt ends: how often, how
    -- often with nothing beside them, and the first of the jobs that they came back with: those, and no others, may be one entry again.
    'recovered',
}

G.limited, G.touched, G.touched_order, G.keys_read, G.sole_ended = {}, {}, {}, {}, {}

local function has_keys(step, kind)
    return step.keyed ~= nil and bit.band(step.keyed, kind) ~= 0
end

local function touch(name)
    if not G.touched[name] then
        G.touched[name] = true
        G.touched_order[#G.touched_order + 1] = name
    end
end

-- Reads the rows of keys that are not in memory.
local function load_limited(names)
    local missing, is_missing = {}, {}
    for _, name in ipairs(names) do
        if G.limited[name] == nil and not is_missing[name] then
            is_missing[name] = true
            missing[#missing + 1] = name
        end
    end
    for from = 1, #missing, 1000 do
        local till = math.min(from + 999, #missing)
        for i, text in ipairs(call('HMGET', K.limited, unpack(missing, from, till))) do
            count_bytes(#(text or ''))
            G.limited[missing[from + i - 1]] = text and unpack_row(text, LIMITED_FIELDS) or false
        end
    end
end

-- A key's row, to be changed; made if it is new.
local function limited_row(name)
    local row = G.limited[name]
    if not row then
        row = { admitted = 0, unstarted = 0, waiting = 0, jobs = 0, next = 0, counted = {} }
        G.limited[name] = row
    end
    row.dirty = true
    return row
end

local function room_of(row)
    local room = row.at_once and row.at_once - row.admitted or 1e9
    if row.starts then
        forget_starts(row)
        room = math.min(room, row.starts - sum_of_starts(row) - row.unstarted)
    end
    return math.max(room, 0)
end

-- When a tick is to look at it again, if no event does so before.
local function limited_due(row)
    if not row.starts then return nil end
    if row.jobs == 0 then
        forget_starts(row)
        return row.counted[#row.counted] and row.counted[#row.counted][1]
    end
    if row.waiting == 0 or row.at_once and row.admitted >= row.at_once then return nil end
    return G.next_start(row, row.unstarted)
end

local function admit_one(row)
    row.admitted = row.admitted + 1
    if row.starts then row.unstarted = row.unstarted + 1 end
end

-- What a lane's chunk has of jobs with keys: a list of {at, key or false, turn, key of which it is the only one or false, until}.
local function keys_of(wf, chunk)
    local name = wf .. ':' .. chunk
    if not G.keys_read[name] then
        local text = call('HGET', K.wf(wf, 'keys'), chunk)
        count_bytes(#(text or ''))
        G.keys_read[name] = text and cmsgpack.unpack(text) or {}
    end
    return G.keys_read[name]
end

local function name_of(wf, key)
    return G.workflow(wf).name .. '\0' .. key
end

-- The jobs of a mask that have a key that limits them, with their keys' rows in memory.
local function keyed_jobs(wf, chunk, jobs)
    local in_mask, list, names = {}, {}, {}
    M.each(jobs, function(at) in_mask[at] = true end)
    for _, one in ipairs(keys_of(wf, chunk)) do
        if one[2] and in_mask[one[1]] then
            local name = name_of(wf, one[2])
            list[#list + 1] = { at = one[1], name = name, turn = one[3] }
            names[#names + 1] = name
        end
    end
    load_limited(names)
    return list
end

-- Where a job waits among those of its key: its turn, and where it is found.
local function turn_of(name, turn, wf, first, chunk, at)
    return name .. '\0' .. hex(turn, 12) .. ':' .. wf .. ':' .. first .. ':' .. chunk .. ':' .. at
end

-- What a deferred job waits for, if that is the turn of its key.
function G.turn_told(step, chunk, at)
    if not has_keys(step, LIMITED) then return nil end
    for _, one in ipairs(keys_of(step.wf, chunk.chunk)) do
        if one[1] == at and one[2] then
            local name = name_of(step.wf, one[2])
            load_limited({ name })
            local row = G.limited[name]
            return row and { key = one[2], admitted = row.admitted, waiting = row.waiting }
        end
    end
end

local function mask_of(list, jobs)
    local set = {}
    for _, one in ipairs(list) do set[one.at] = true end
    return M.of(set, jobs)
end

-- Which of the jobs that come may not, since there is one of their key: a mask, and a list of {at, lane, index of the one that is there}.
function G.who_may_not_come(jobs, first)
    local names, of, is_refused, list = {}, {}, {}, {}
    for _, one in ipairs(jobs.keyed) do
        if one.sole then
            names[#names + 1] = jobs.lane.step.type .. '\0' .. one.sole
            of[#of + 1] = one.at
        end
    end
    if #names == 0 then return '', list end
    local here = {}
    for i, text in ipairs(call('HMGET', K.sole, unpack(names))) do
        local there = text and cmsgpack.unpack(text)
        if there and there.due and there.due <= now() then there = nil end
        there = there or here[names[i]]
        if there then
            is_refused[of[i]] = true
            list[#list + 1] = { at = of[i], lane = there.lane, index = there.index }
        else
            here[names[i]] = { lane = jobs.lane.id, index = first + of[i] }
        end
    end
    return M.of(is_refused, jobs.jobs), list
end

-- Jobs that come take their keys.
function G.take_sole(wf, chunk, first, jobs, refused)
    local is_refused, rows, times = {}, {}, {}
    M.each(refused, function(at) is_refused[at] = true end)
    for _, one in ipairs(jobs.keyed) do
        if one.sole and not is_refused[one.at] then
            local name = jobs.lane.step.type .. '\0' .. one.sole
            local due = one.time and now() + one.time
            -- One that was so for a time, and whose time is over, may still be listed.
            if not due then batch('ZREM', K.sole_due, name) end
            rows[#rows + 1] = name
            rows[#rows + 1] =
                cmsgpack.pack({ lane = jobs.lane.id, index = first + one.at, wf = wf, chunk = chunk, at = one.at, due = due })
            if due then
                times[#times + 1] = due
                times[#times + 1] = name
            end
        end
    end
    for from = 1, #rows, 2000 do call('HSET', K.sole, unpack(rows, from, math.min(from + 1999, #rows))) end
    for from = 1, #times, 2000 do call('ZADD', K.sole_due, unpack(times, from, math.min(from + 1999, #times))) end
end

-- Decides which of the jobs that come may stand in line at once, and writes down the others' turns. `later`, `refused`: masks of those that
-- are due later, and of those that are not taken. Returns a mask of those that wait.
function G.add_keyed(step, chunk, first, jobs, later, refused)
    local wf, list, names, waits = step.wf, {}, {}, {}
    local is_later, is_refused = {}, {}
    M.each(later, function(at) is_later[at] = true end)
    M.each(refused, function(at) is_refused[at] = true end)
    for _, one in ipairs(jobs.keyed) do
        if one.key and not is_refused[one.at] then names[#names + 1] = name_of(wf, one.key) end
    end
    load_limited(names)
    local keyed = step.keyed or 0
    for _, one in ipairs(jobs.keyed) do
        if not is_refused[one.at] then
            local turn = 0
            if one.key then
                local name = name_of(wf, one.key)
                local row = limited_row(name)
                row.at_once, row.starts, row.period = one.at_once, one.starts, one.period
                row.jobs, turn, row.next = row.jobs + 1, row.next, row.next + 1
                if not is_later[one.at] then
                    -- Those that wait already come first.
                    if row.waiting == 0 and room_of(row) > 0 then
                        admit_one(row)
                    else
                        row.waiting = row.waiting + 1
                        waits[one.at] = true
                        batch('ZADD', K.turns, 0, turn_of(name, turn, wf, first, chunk, one.at))
                        if room_of(row) > 0 then touch(name) end
                    end
                end
                keyed = bit.bor(keyed, LIMITED)
            end
            if one.sole then keyed = bit.bor(keyed, SOLE) end
            list[#list + 1] = { one.at, one.key or false, turn, one.sole or false, one['until'] or 0 }
        end
    end
    if #list > 0 then
        batch('HSET', K.wf(wf, 'keys'), chunk, cmsgpack.pack(list))
        G.keys_read[wf .. ':' .. chunk] = list
    end
    step.keyed = keyed
    return M.of(waits, jobs.jobs)
end

-- Jobs that had been admitted have settled, or go on later: others may come next. `started`: a worker had been given them.
function G.leave_turn(step, chunk, jobs, started)
    if jobs == '' or not has_keys(step, LIMITED) then return end
    for _, job in ipairs(keyed_jobs(step.wf, chunk, jobs)) do
        local row = limited_row(job.name)
        row.admitted = math.max(row.admitted - 1, 0)
        if not started then row.unstarted = math.max(row.unstarted - 1, 0) end
        if row.recovered then row.recovered[step.wf .. ':' .. chunk .. ':' .. job.at] = nil end
        touch(job.name)
    end
end

-- Jobs of a chunk that are not open come into the rows of their keys. Returns which have one: they are to be deferred, the others may stand
-- in line.
function G.wait_for_their_turn(step, chunk, first, jobs)
    if jobs == '' or not has_keys(step, LIMITED) then return '' end
    local keyed = keyed_jobs(step.wf, chunk, jobs)
    for _, job in ipairs(keyed) do
        local row = limited_row(job.name)
        row.waiting = row.waiting + 1
        batch('ZADD', K.turns, 0, turn_of(job.name, job.turn, step.wf, first, chunk, job.at))
        touch(job.name)
    end
    return mask_of(keyed, 1024)
end

-- What goes back to its line although it has counted as a start waits for its turn once more; how often its worker died stays known. Returns
-- which of these open jobs do, and the chunk's bytes with them deferred.
function G.start_anew(step, chunk, first, bytes, jobs)
    if jobs == '' or not has_keys(step, LIMITED) then return '', bytes end
    local rated = {}
    for _, job in ipairs(keyed_jobs(step.wf, chunk, jobs)) do
        if G.limited[job.name] and G.limited[job.name].starts then rated[#rated + 1] = job end
    end
    local anew = mask_of(rated, 1024)
    if anew == '' then return '', bytes end
    for _, job in ipairs(rated) do
        local row = limited_row(job.name)
        row.admitted = math.max(row.admitted - 1, 0)
    end
    G.wait_for_their_turn(step, chunk, first, anew)
    G.shift(step.wf, step.step, OPEN, DEFERRED, M.len(anew))
    return anew, M.change(bytes, anew, function(byte) return byte + DEFERRED end)
end

-- Jobs of a chunk that wait for their turn once more take with them how often their workers have died.
function G.keep_recoveries(step, chunk, jobs, recoveries, alone)
    if jobs == '' or recoveries == 0 then return end
    local with
    for _, job in ipairs(keyed_jobs(step.wf, chunk, jobs)) do
        local row = limited_row(job.name)
        with = with or job.at
        row.recovered = row.recovered or {}
        row.recovered[step.wf .. ':' .. chunk .. ':' .. job.at] = { recoveries, alone, with }
    end
end

-- Jobs of a chunk need not be the only ones of their keys any more: they have started (0), or settled (1). The end of the operation lets
-- go of all of them.
local function end_sole(wf, chunk, jobs, event)
    local in_mask = {}
    M.each(jobs, function(at) in_mask[at] = true end)
    for _, one in ipairs(keys_of(wf, chunk)) do
        if one[4] and in_mask[one[1]] and one[5] <= event then
            G.sole_ended[#G.sole_ended + 1] = { name = name_of(wf, one[4]), wf = wf, chunk = chunk, at = one[1] }
        end
    end
end

local function flush_sole()
    local ended = G.sole_ended
    G.sole_ended = {}
    for from = 1, #ended, 1000 do
        local names = {}
        for i = from, math.min(from + 999, #ended) do names[#names + 1] = ended[i].name end
        for i, text in ipairs(call('HMGET', K.sole, unpack(names))) do
            local there, mine = text and cmsgpack.unpack(text), ended[from + i - 1]
            if there and there.wf == mine.wf and there.chunk == mine.chunk and there.at == mine.at then
                batch('HDEL', K.sole, names[i])
            end
        end
    end
end

-- A worker has been given these jobs.
function G.note_start(step, chunk, jobs)
    -- All lanes of a type share the row: it knows whether starts are limited, the lane need not.
    if has_keys(step, LIMITED) then
        for _, job in ipairs(keyed_jobs(step.wf, chunk, jobs)) do
            local there = G.limited[job.name]
            if there and (there.starts or there.unstarted > 0) then
                local row = limited_row(job.name)
                row.unstarted = math.max(row.unstarted - 1, 0)
                note_starts(row, 1)
                touch(job.name)
            end
        end
    end
    if has_keys(step, SOLE) then end_sole(step.wf, chunk, jobs, 0) end
end

-- These jobs have settled: others of their keys may come.
function G.end_sole_of_settled(step, chunk, jobs)
    if jobs ~= '' and has_keys(step, SOLE) then end_sole(step.wf, chunk, jobs, 1) end
end

-- A lane's chunk is deleted: its jobs are no longer counted under their keys.
function G.forget_keyed(step, chunk, jobs)
    if not step.keyed or step.keyed == 0 then return end
    for _, job in ipairs(keyed_jobs(step.wf, chunk, M.range(0, jobs))) do
        local row = limited_row(job.name)
        row.jobs = math.max(row.jobs - 1, 0)
        touch(job.name)
    end
    call('HDEL', K.wf(step.wf, 'keys'), chunk)
    G.keys_read[step.wf .. ':' .. chunk] = nil
end

-- Whether ticks are to admit the rest. Each entry that those make which are admitted takes up to ten commands.
local function is_full(order)
    return cost.calls + dirty_rows() + 10 * #order >= ADMIT_CALLS
end

-- Takes those that come next out of a key's row.
local function choose(name, chosen, order)
    while true do
        local row = G.limited[name]
        if not row then return end
        local room = math.min(room_of(row), row.waiting, ADMITTED)
        if room == 0 then return end
        row = limited_row(name)
        local of_key = name .. '\0'
        local members = call('ZRANGEBYLEX', K.turns, '[' .. of_key, '(' .. of_key .. '~', 'LIMIT', 0, room)
        if #members == 0 then
            row.waiting = 0
            return
        end
        call('ZREM', K.turns, unpack(members))
        for _, member in ipairs(members) do
            local of, at = member:match('^%x+:(.*):(%d+)$', #of_key + 1)
            if row.recovered then
                -- Apart by what they take with them.
                local wf, chunk = of:match('^(%d+):%d+:(%d+)$')
                local recovered = row.recovered[wf .. ':' .. chunk .. ':' .. at]
                if recovered then of = of .. ':' .. table.concat(recovered, ':') end
            end
            admit_one(row)
            row.waiting = row.waiting - 1
            if not chosen[of] then
                chosen[of] = {}
                order[#order + 1] = of
            end
            chosen[of][tonumber(at)] = name
        end
        if is_full(order) then return touch(name) end
    end
end

-- Puts jobs of a chunk behind all others of their lane: with those of the chunk that came just before, if no worker has them yet, as one entry.
local function enqueue_admitted(step, chunk, first, jobs)
    local queue = K.queue(step.wf, step.step, false)
    local text = call('LINDEX', queue, -1)
    local last = text and cmsgpack.unpack(text)
    if last and last.chunk == chunk and last.first == first and last.recoveries == 0 then
        last.jobs = M.either(last.jobs, jobs)
        call('LSET', queue, -1, cmsgpack.pack(last))
        return feed(step.line)
    end
    G.enqueue(step, { chunk = chunk, first = first, jobs = jobs }, false, false, 0, 0)
end

-- Puts jobs that have been admitted (each with the name of its key) into their line; if their workers have died, as an entry that knows it
-- (`recovered`: what they take with them, or empty). Those that have been cancelled while they waited leave at once.
local function let_in(wf, first, chunk, names, recovered)
    local step, jobs = G.step(wf, 0), M.of(names, 1024)
    local at = G.find_chunk(wf, 0, first)
    if not at or at.chunk ~= chunk then
        for position, name in pairs(names) do
            local row = limited_row(name)
            row.admitted, row.unstarted = math.max(row.admitted - 1, 0), math.max(row.unstarted - 1, 0)
            if row.recovered then row.recovered[wf .. ':' .. chunk .. ':' .. position] = nil end
            touch(name)
        end
        return
    end
    local bytes = G.bytes(wf, chunk, at.jobs)
    local deferred = M.both(jobs, M.where(bytes, function(byte) return state_of(byte) == DEFERRED end))
    G.leave_turn(step, chunk, M.minus(jobs, deferred), false)
    if deferred == '' then return end
    G.put_bytes(wf, chunk, M.change(bytes, deferred, function(byte) return byte - DEFERRED end))
    G.shift(wf, 0, DEFERRED, OPEN, M.len(deferred))
    local recoveries, alone = recovered:match('^:(%d+):(%d+):')
    if not recoveries then return enqueue_admitted(step, chunk, first, deferred) end
    recoveries, alone = tonumber(recoveries), tonumber(alone)
    G.enqueue(step, { chunk = chunk, first = first, jobs = deferred }, false, recoveries > 1, recoveries, alone)
end

-- Admits those that come next of the keys of which this operation has made room.
function G.admit()
    if #G.touched_order == 0 then return end
    -- What waits is read from here on.
    G.write_batches()
    local left = {}
    -- Those that were cancelled while they waited make room for others once more.
    while #G.touched_order > 0 do
        local names, chosen, order = G.touched_order, {}, {}
        G.touched, G.touched_order = {}, {}
        load_limited(names)
        for _, name in ipairs(names) do
            if is_full(order) then
                left[#left + 1] = name
            else
                choose(name, chosen, order)
            end
        end
        for _, of in ipairs(order) do
            local wf, first, chunk, recovered = of:match('^(%d+):(%d+):(%d+)(.*)$')
            -- What is damaged is left as it is, for the doctor to find: it must not keep anybody from the rest.
            local ok, why = pcall(let_in, tonumber(wf), tonumber(first), tonumber(chunk), chosen[of], recovered)
            if not ok and not (type(why) == 'table' and why.gusher) then error(why, 0) end
        end
    end
    for _, name in ipairs(left) do touch(name) end
end

-- Writes the rows of keys that have changed; those of which others may still come next are due at once.
function G.flush_limited()
    flush_sole()
    for name, row in pairs(G.limited) do
        if row and row.dirty then
            local due = limited_due(row)
            if G.touched[name] and row.waiting > 0 then due = now() end
            -- Of one that was cancelled while it waited, and is gone, the turn is left.
            if row.jobs == 0 and row.waiting == 0 and not due then
                batch('HDEL', K.limited, name)
            else
                batch('HSET', K.limited, name, pack(row, LIMITED_FIELDS))
            end
            if due then
                batch('ZADD', K.limited_due, due, name)
            elseif row.starts or row.was_due then
                batch('ZREM', K.limited_due, name)
            end
        end
    end
    G.limited = {}
end

-- Looks at the keys whose time has come. Tells whether there are more.
function G.look_at_keys()
    local names = call('ZRANGEBYSCORE', K.limited_due, '-inf', now(), 'LIMIT', 0, 16)
    local damaged = G.damage_in(load_limited, names) ~= nil
    for _, name in ipairs(names) do
        if damaged and G.damage_in(load_limited, { name }) then
            call('ZADD', K.limited_due, now() + G.SET_ASIDE, name)
        elseif G.limited[name] then
            limited_row(name).was_due = true
            touch(name)
        else
            call('ZREM', K.limited_due, name)
        end
    end
    local ended = call('ZRANGEBYSCORE', K.sole_due, '-inf', now(), 'LIMIT', 0, 100)
    if #ended > 0 then
        call('HDEL', K.sole, unpack(ended))
        call('ZREM', K.sole_due, unpack(ended))
    end
    G.admit()
    return #names == 16 or #ended == 100 or #G.touched_order > 0
end
