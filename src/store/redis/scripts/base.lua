-- What every script begins with: the arguments, the keys, counted commands, and the rows of workflows and steps that an operation
-- changes in memory and writes once, at its end.
--
-- KEYS[1]  the shard's own key: its base, with the hash tag, begins every key
-- KEYS[2]  a key that is never there
-- ARGV[1]  the parameters as JSON; ARGV[2...] the binary ones, named in the JSON by their number from 1

local base = KEYS[1]:match('^(.*):shard$')
local arg = cjson.decode(ARGV[1])
local cost = { calls = 0, rows = 0, bytes = 0 }
-- Most of what is below is a field of this table: a script may have no globals, and a function 200 locals and 60 of those around it.
local G = {
    settled = {}, released = 0, errors_noted = 0, lines_fed = {}, fed_order = {}, placed = {}, to_finish = {},
    workflows = {}, steps = {}, reply = {},
    -- Whether this script only reads, and the verbs that bring new work.
    reads = false,
    grows = {
        append = true, begin = true, create = true, enqueue = true, put_schedule = true, fire = true,
        save_checkpoint = true, adopt = true, signal = true, add_jobs = true,
    },
}

local function call(...)
    cost.calls = cost.calls + 1
    return redis.call(...)
end

-- Many values for one key, written by few commands: at the operation's end, or before it reads them.
G.batches, G.batch_order = {}, {}
local function batch(command, key, ...)
    local name = command .. key
    local values = G.batches[name]
    if not values then
        values = { command = command, key = key }
        G.batches[name] = values
        G.batch_order[#G.batch_order + 1] = name
    end
    for _, value in ipairs({ ... }) do values[#values + 1] = value end
end
function G.write_batches()
    for _, name in ipairs(G.batch_order) do
        local values = G.batches[name]
        for from = 1, #values, 2000 do call(values.command, values.key, unpack(values, from, math.min(from + 1999, #values))) end
    end
    G.batches, G.batch_order = {}, {}
end

local function blob(number)
    return ARGV[number + 1] or ''
end

local function count_bytes(count)
    cost.bytes = cost.bytes + count
end

-- Ends the script with an error that the caller understands. Only before the first write.
local function fail(kind, text)
    error({ gusher = kind, text = text }, 0)
end

-- What cannot be done, since what it needs is damaged, is left alone for so long, and stops nothing else.
G.SET_ASIDE = 3600000

-- Does one thing of several; returns the reason if it is damaged. All that it needs is read before it writes.
function G.damage_in(act, ...)
    local ok, why = pcall(act, ...)
    if ok then return nil end
    if type(why) == 'table' and why.gusher then return why.text end
    error(why, 0)
end

-- A binary part of the answer; returns its number.
local function put_blob(bytes)
    G.reply[#G.reply + 1] = bytes
    return #G.reply
end

local function now()
    if not G.time then
        if arg.now then
            G.time = arg.now
        else
            local time = redis.call('TIME')
            G.time = time[1] * 1000 + math.floor(time[2] / 1000)
        end
    end
    return G.time
end

-- Keys -------------------------------------------------------------------------------------------------------------------------
-- The one place where a key is spelled.

local K = {
    shard = base .. ':shard',           -- hash: lease time, the numbers given so far
    ids = base .. ':ids',               -- hash: workflow id -> wf
    line_names = base .. ':lines',      -- hash: a line's name -> its number
    line_index = base .. ':line-index', -- hash: queue and type -> numbers of their lines
    active = base .. ':active',         -- set: lines with a place that is not parked
    paused = base .. ':paused',         -- set: q: or t: and the name of a queue or job type of which nothing is handed out
    leases = base .. ':leases',         -- zset by deadline: session:number
    timers = base .. ':timers',         -- zset by time: wf:step:due:chunk
    deadlines = base .. ':deadlines',   -- zset by time: wf:chunk:due, lone jobs that are cancelled if they have not settled by then
    chores = base .. ':chores',         -- zset by turn: a chore's name
    chore_state = base .. ':chore-state', -- hash: a chore's name -> cursor and error
    drafts = base .. ':drafts',         -- zset by deadline: session:number
    sessions = base .. ':sessions',     -- zset by deadline: live sessions
    dead = base .. ':dead',             -- zset by time of death
    workers = base .. ':workers',       -- zset by start: live sessions that claim
    shortest = base .. ':shortest',     -- zset by lease length: live sessions
    idle = base .. ':idle',             -- zset by turn: idle workers
    idle_about = base .. ':idle-about', -- hash: idle worker -> port, host, queues, types
    all = base .. ':all',               -- zset: every workflow by time of creation; also one a state and a name
    expiry = base .. ':expiry',         -- zset by time: finished workflows, from when on they may be deleted
    held = base .. ':held',             -- hash: a workflow's name and key -> who has it
    queued_about = base .. ':queued-about', -- hash: id of a start that waits for a key -> name, key, lane, job
    limited = base .. ':limited',       -- hash: type and key of lone jobs -> how those stand whose number the key limits
    limited_due = base .. ':limited-due', -- zset by time: keys that a tick is to look at
    turns = base .. ':turns',           -- zset: type, key, turn, place of lone jobs that wait
    sole = base .. ':sole',             -- hash: type and key -> the lone job that has no other beside it
    sole_due = base .. ':sole-due',     -- zset by time: those that are so for a time
    schedules = base .. ':schedules',   -- hash: name -> rule, definition, next instant, whether it is paused
    schedule_names = base .. ':schedule-names', -- zset: names, to be listed in order
    schedules_due = base .. ':schedules-due', -- zset by next instant: schedules that are not paused
    limits = base .. ':limits',         -- hash: q: or t: and a name -> a limit, and what is taken of it
    permit_ends = base .. ':permit-ends', -- zset by deadline: sessions that have permits
    ledger = base .. ':ledger',         -- list: what each call did, for a test that asks for it
}
function K.line(line) return base .. ':line:' .. line end            -- hash
function K.places(line) return base .. ':places:' .. line end        -- zset by turn: workflows
function K.ready(line, wf) return base .. ':ready:' .. line .. ':' .. wf end -- zset by turn: steps
function K.session(id) return base .. ':session:' .. id end          -- hash
function K.lease(id) return base .. ':lease:' .. id end              -- hash: number -> lease
function K.progress(id) return base .. ':progress:' .. id end        -- hash: number -> what its jobs tell
function K.permits(id) return base .. ':permits:' .. id end          -- hash: a limit -> what a session has of it
function K.waiting_for(name) return base .. ':waiting-for:' .. name end -- zset by turn: sessions that want more of a limit
function K.waiting_about(name) return base .. ':waiting-about:' .. name end -- hash: such a session -> when it asked, where it is told
function K.draft(key) return base .. ':draft:' .. key end            -- hash
function K.queued(name, key) return base .. ':queued:' .. name .. '\0' .. key end -- zset by turn: ids of starts that wait
-- hash 'rows': instant -> what has become of it; zsets 'open' and 'decided': instants
function K.schedule(part, name) return base .. ':schedule:' .. part .. ':' .. name end
function K.wf(wf, what) return base .. ':w:' .. wf .. ':' .. what end
function K.queue(wf, step, suspect) return base .. ':w:' .. wf .. ':q:' .. step .. (suspect and ':suspect' or '') end -- list: entries
-- zset by end: workflows of a type that finished alike and are kept in limited number
function K.ended(state, name) return base .. ':ended:' .. state .. ':' .. name end
function K.list(state, name)
    return K.all .. (state and ':' .. state or '') .. (name and ':' .. name or '')
end

-- What a workflow has: each is a key of its own, so that a deletion is some UNLINKs.
G.PARTS = {
    'head',      -- hash: id, name, arguments, and its numbers
    'steps',     -- hash: step -> its numbers
    'about',     -- hash: step -> name, type, options
    'specs',     -- hash: step -> what it was created as
    'names',     -- hash: name -> step
    'down',      -- zset: up, down, kind
    'up',        -- zset: down, up, kind
    'decisions', -- hash: up, down, kind -> what the edge decided
    'segments',  -- zset: step, first job, segment
    'lengths',   -- hash: segment -> jobs
    'chunks',    -- zset: segment, first job, jobs, chunk
    'params',    -- hash: chunk -> packed parameters
    'mended',    -- hash: chunk:n -> mask and parameters; chunk -> the n that are valid
    'mends',     -- hash: segment -> how many mended parts; segment:n -> chunk, first, mask, parameters
    'bytes',     -- hash: chunk -> a byte a job; none: every job is open and untried
    'recovered', -- hash: chunk -> a byte a job
    'outcomes',  -- hash: chunk:n -> record; chunk -> the highest n
    'checkpoints', -- hash: chunk:position -> what that job goes on from
    'covered',   -- hash: chunk:position -> which draft that checkpoint covers, how many calls had written it, how many jobs it had
    'emitted',   -- hash: chunk:position -> how many jobs that eager source has emitted, and the chunk that ends with the last
    'failed',    -- hash: chunk -> which failed jobs ended with which error
    'errors',    -- hash: step:number -> text
    'error-jobs',-- hash: step:number -> jobs; step -> texts and bytes
    'error-list',-- hash: step -> numbers
    'holds',     -- hash: step -> names
    'again',     -- zset: steps that are taken back to run again, by what is to be done next; 'again-rows': how far each is, and for whom
    'again-rows',
    'failing',   -- zset: steps with failed jobs
    'roots',     -- zset: steps without upstream
    'lines',     -- zset: lines where it has a place
    'leases',    -- zset: step, chunk, session:number
    'timers',    -- zset: step, due, chunk; 'timer-jobs': the jobs
    'timer-jobs',
    'awaited',   -- hash: step -> what it waits for that no worker runs; step:record -> its outcome once its time has come
    'chores',    -- set: names of its chores
    'children',  -- zset: step, job, the workflow that stands for it
    'kept',      -- hash, of a lane: chunk -> until when it is kept
    'keys',      -- hash, of a lane: chunk -> keys of its jobs
    'deadlines', -- hash, of a lane: chunk -> its first job, and by when which of its jobs must have settled
}

-- Numbers in members of sorted sets, so that they sort as text.
local function hex(number, digits)
    return string.format('%0' .. digits .. 'x', number)
end
local function unhex(text)
    return tonumber(text, 16)
end

-- A schedule as it is kept; nil if it is not there or damaged: that must not keep anybody from what else is due.
function G.schedule_row(text)
    local ok, row = pcall(cmsgpack.unpack, text)
    return ok and type(row) == 'table' and row.definition and row or nil
end

-- A number of more than fourteen digits is not what JSON would make of it.
local function text_of(number)
    return string.format('%.0f', number)
end

-- States -----------------------------------------------------------------------------------------------------------------------

local OPEN, RETRYING, DEFERRED, SUCCEEDED, FAILED, SKIPPED, CANCELLED, SKIPPED_BEHIND = 0, 1, 2, 3, 4, 5, 6, 7
G.COUNTERS = { [1] = 'retrying', [2] = 'deferred', [3] = 'succeeded', [4] = 'failed', [5] = 'skipped', [6] = 'cancelled', [7] = 'skipped' }
local STEP = { waiting = 0, running = 1, succeeded = 2, failed = 3, skipped = 4, cancelled = 5 }
local WF = {
    building = 0, pending = 1, running = 2, paused = 3, cancelling = 4, succeeded = 5, failed = 6, cancelled = 7, deleting = 8,
    standing = 9,
}
local WF_WORDS = {
    [0] = 'building', 'pending', 'running', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled', 'deleting', 'standing',
}
local EDGE = { after = 0, settled = 1, failure = 2, always = 3, feeds = 4, when = 5, unless = 6, grows = 7, death = 8, chains = 9 }
local JOB_WORDS = { [0] = 'open', 'retrying', 'deferred', 'succeeded', 'failed', 'skipped', 'cancelled', 'skipped' }
-- Whether jobs may still be added to a batch; its first step, which stands for it; how many callbacks it may have, which come behind that.
local BATCH = { open = 1, closed = 2, abandoned = 3, step = 0, callbacks = 8 }
local RELEASE, SKIP, WAIT, CANCEL = 1, 2, 3, 4
-- What is to be done next with a step that is taken back to run again.
G.AGAIN = { lines = 1, children = 2, ask = 3, jobs = 4, tell = 5, drop = 6, done = 7 }
local FAIL_FAST, OR_PAUSE = 1, 2
local PARKED = 1e15
local NEVER = 9e15

local function is_finished(state)
    return state == WF.succeeded or state == WF.failed or state == WF.cancelled
end

local IF_SUCCEEDED = { [EDGE.failure] = SKIP, [EDGE.unless] = SKIP }
local IF_SKIPPED = { [EDGE.failure] = SKIP, [EDGE.feeds] = SKIP, [EDGE.when] = SKIP, [EDGE.chains] = SKIP }
local IF_FAILED = { [EDGE.after] = WAIT, [EDGE.feeds] = WAIT, [EDGE.when] = WAIT, [EDGE.unless] = WAIT, [EDGE.chains] = WAIT }

-- What follows from an upstream step that settled; nil while it has not.
local function decide(kind, upstream)
    local state = upstream.state
    if state < STEP.succeeded then return nil end
    if state == STEP.cancelled then return kind == EDGE.always and RELEASE or CANCEL end
    -- A death releases it before: this is for a batch that has had none.
    if kind == EDGE.death then return SKIP end
    if kind == EDGE.grows then return RELEASE end
    if state == STEP.succeeded then return IF_SUCCEEDED[kind] or RELEASE end
    -- It was skipped without having had its turn.
    if state == STEP.skipped and kind == EDGE.unless and upstream.decided then return SKIP end
    if state == STEP.skipped then return IF_SKIPPED[kind] or RELEASE end
    return IF_FAILED[kind] or RELEASE
end

-- Whether the step behind an edge begins before the one in front of it has settled, and settles only then.
local function holds_back(kind)
    return kind == EDGE.feeds or kind == EDGE.grows or kind == EDGE.chains
end

-- Whether nothing of a step has run, and nothing will before its edges say so.
function G.is_untouched(step)
    return step.state == STEP.waiting and not step.released_at and not step.decided
end

-- Whether its jobs stand for batches within the one that it is a step of: no worker runs them.
function G.stands_for_batches(step)
    return step.grows and step.children
end

-- Whether a step still asks what an edge of that kind decides.
function G.is_asked(step, kind)
    if step.decided then return false end
    if holds_back(kind) then return step.state < STEP.succeeded end
    return step.state == STEP.waiting and not step.released_at
end

-- Masks ------------------------------------------------------------------------------------------------------------------------
-- Sets of jobs of one chunk, as text: bit b of byte n is job 8n + b; no zeros at the end.

local M = {}
function M.trim(text)
    return text:byte(-1) == 0 and text:gsub('%z+$', '') or text
end
do
-- Four bytes at a time.
local function words(mask, count)
    return { struct.unpack('<' .. string.rep('I4', count), mask .. string.rep('\0', 4 * count - #mask)) }
end
local function zip(a, b, combine)
    local count = math.ceil(math.max(#a, #b) / 4)
    local left, right = words(a, count), words(b, count)
    for i = 1, count do left[i] = combine(left[i], right[i]) end
    return M.trim(struct.pack('<' .. string.rep('i4', count), unpack(left, 1, count)))
end
function M.both(a, b)
    if a == b then return a end
    if a == '' or b == '' then return '' end
    return zip(a, b, bit.band)
end
function M.either(a, b)
    if a == '' or a == b then return b end
    if b == '' then return a end
    return zip(a, b, bit.bor)
end
function M.minus(a, b)
    if a == b then return '' end
    if b == '' then return a end
    return zip(a, b, function(x, y) return bit.band(x, bit.bnot(y)) end)
end
end
do
-- What is asked of a byte again and again is remembered, since each call of a script begins with empty tables.
local function remember(ask)
    return setmetatable({}, {
        __index = function(known, byte)
            local answer = ask(byte)
            known[byte] = answer
            return answer
        end,
    })
end
-- Where the ones of a byte are.
local ones = remember(function(byte)
    local list = {}
    for b = 0, 7 do
        if math.floor(byte / 2 ^ b) % 2 == 1 then list[#list + 1] = b end
    end
    return list
end)
function M.each(mask, visit)
    local bytes = { mask:byte(1, -1) }
    for i = 1, #bytes do
        local list, at = ones[bytes[i]], (i - 1) * 8
        for n = 1, #list do visit(at + list[n]) end
    end
end
function M.len(mask)
    local count, bytes = 0, { mask:byte(1, -1) }
    for i = 1, #bytes do count = count + #ones[bytes[i]] end
    return count
end
-- From a table of which the positions are keys.
function M.of(set, jobs)
    local out = {}
    for i = 0, math.floor((jobs - 1) / 8) do
        local byte = 0
        for b = 0, 7 do
            if set[i * 8 + b] then byte = byte + 2 ^ b end
        end
        out[i + 1] = string.char(byte)
    end
    return M.trim(table.concat(out))
end
function M.range(from, to)
    if from >= to then return '' end
    local first, last = math.floor(from / 8), math.floor((to - 1) / 8)
    local front, back = 2 ^ (from % 8), 2 ^ ((to - 1) % 8 + 1)
    local zeros = string.rep('\0', first)
    if first == last then return zeros .. string.char(back - front) end
    return zeros .. string.char(256 - front) .. string.rep('\255', last - first - 1) .. string.char(back - 1)
end
-- The first `count` jobs, and the rest.
function M.split(mask, count)
    local front, left = {}, count
    M.each(mask, function(at)
        if left > 0 then front[at], left = true, left - 1 end
    end)
    local taken = M.of(front, #mask * 8)
    return taken, M.minus(mask, taken)
end
-- In most chunks all bytes are alike.
local function are_alike(bytes)
    return bytes == string.rep(bytes:sub(1, 1), #bytes)
end
-- A chunk's bytes in which the jobs of a mask are `change`d, each by what its byte is.
function M.change(bytes, mask, change)
    if mask == '' then return bytes end
    if are_alike(bytes) and M.len(mask) == #bytes then return string.rep(string.char(change(bytes:byte(1))), #bytes) end
    local list, changed, bits = { bytes:byte(1, -1) }, remember(change), { mask:byte(1, -1) }
    for i = 1, #bits do
        local set, first = ones[bits[i]], i * 8 - 7
        for n = 1, #set do
            local at = first + set[n]
            list[at] = changed[list[at]]
        end
    end
    return string.char(unpack(list))
end
-- How many jobs of a mask have which state, by a chunk's bytes.
function M.states(bytes, mask)
    if are_alike(bytes) then return { [bytes:byte(1) % 8] = M.len(mask) } end
    local counts = {}
    M.each(mask, function(at)
        local state = bytes:byte(at + 1) % 8
        counts[state] = (counts[state] or 0) + 1
    end)
    return counts
end
-- The jobs of a chunk's bytes for which `is` holds.
function M.where(bytes, is)
    if bytes == '' then return '' end
    if are_alike(bytes) then return is(bytes:byte(1)) and M.range(0, #bytes) or '' end
    local list, value = { bytes:byte(1, -1) }, remember(function(byte) return is(byte) and 1 or 0 end)
    -- Those past the end.
    for _ = 1, 7 do list[#list + 1] = -1 end
    value[-1] = 0
    local out = {}
    for i = 1, #bytes, 8 do
        out[#out + 1] = string.char(
            value[list[i]] + 2 * value[list[i + 1]] + 4 * value[list[i + 2]] + 8 * value[list[i + 3]] + 16 * value[list[i + 4]] +
            32 * value[list[i + 5]] + 64 * value[list[i + 6]] + 128 * value[list[i + 7]])
    end
    return M.trim(table.concat(out))
end
end
local function state_of(byte)
    return byte % 8
end

-- Rows -------------------------------------------------------------------------------------------------------------------------

local COUNTS = { 'total', 'succeeded', 'failed', 'skipped', 'cancelled', 'retrying', 'deferred' }
local WORKFLOW_FIELDS = {
    'state', 'unsettled', 'active', 'failed_steps', 'chores', 'grace_until', 'total', 'succeeded', 'failed', 'skipped',
    'cancelled', 'retrying', 'created_at', 'started_at', 'finished_at', 'steps', 'generation', 'deferred',
    'batch', 'opened_by',
}
local STEP_FIELDS = {
    'line', 'suspect_line', 'feeds', 'always', 'tolerate_jobs', 'tolerate_fraction', 'limit', 'max_recoveries', 'delay',
    'state', 'decided', 'pending', 'skips', 'waits', 'cancels', 'total', 'succeeded', 'failed', 'skipped', 'cancelled',
    'retrying', 'leased', 'released_at', 'started_at', 'finished_at', 'generation', 'deferred', 'keyed',
    'deadlines', 'checkpoints', 'awaits', 'policy', 'exceeded', 'forgiven', 'grace_until', 'children', 'outdated', 'grows',
    'follows', 'root', 'leads', 'early',
}
-- The type of the signal, if it is one; the time or the wait until its end, if it has one; what it becomes then; its error; when its signal came.
local AWAITED_FIELDS = { 'type', 'at', 'wait', 'state', 'number', 'text', 'signalled_at' }
local LEASE_FIELDS = {
    'wf', 'step', 'chunk', 'first', 'jobs', 'deadline', 'claimed_at', 'last_report', 'outcome', 'record', 'recoveries', 'alone',
    'suspect', 'stop', 'published', 'replaced',
}

local function pack(row, fields)
    local list = {}
    for i, name in ipairs(fields) do
        local value = row[name]
        if value == nil then value = false end
        list[i] = value
    end
    return cmsgpack.pack(list)
end
local function unpack_row(text, fields)
    local sound, list = pcall(cmsgpack.unpack, text)
    if not sound or type(list) ~= 'table' then
        fail('corrupt', 'a row that begins with ' .. table.concat(fields, ', ', 1, 3) .. ' does not decode')
    end
    local row = {}
    for i, name in ipairs(fields) do
        if list[i] ~= false then row[name] = list[i] end
    end
    return row
end

function G.no_workflow(shown)
    fail('not_found', 'there is no workflow ' .. (shown or arg.shown) ..
        ' in this store: it was never created here, or it has been deleted (`list` shows what there is)')
end

-- The number of a workflow, by its id; `shown` is how people know it, if it is not the one that the call is about.
function G.find(id, shown)
    local wf = call('HGET', K.ids, id)
    if not wf then G.no_workflow(shown) end
    return tonumber(wf)
end

function G.workflow(wf)
    local cached = G.workflows[wf]
    if cached then return cached end
    local head = call('HMGET', K.wf(wf, 'head'), 'numbers', 'id', 'name')
    if not head[1] then fail('corrupt', 'workflow ' .. wf .. ' has rows but no head') end
    cost.rows = cost.rows + 1
    local row = unpack_row(head[1], WORKFLOW_FIELDS)
    row.wf, row.id, row.name, row.stored_state = wf, head[2], head[3], row.state
    G.workflows[wf] = row
    return row
end

function G.put_workflow(row)
    row.dirty = true
end

function G.step(wf, number)
    local name = wf .. ':' .. number
    local cached = G.steps[name]
    if cached then return cached end
    local text = call('HGET', K.wf(wf, 'steps'), number)
    if not text then fail('corrupt', 'step ' .. number .. ' of workflow ' .. wf .. ' is missing') end
    cost.rows = cost.rows + 1
    local row = unpack_row(text, STEP_FIELDS)
    row.wf, row.step, row.had_failed = wf, number, row.failed > 0
    G.steps[name] = row
    return row
end

function G.put_step(row)
    row.dirty = true
end

local function shift_counts(row, from, to, jobs)
    local a, b = G.COUNTERS[from], G.COUNTERS[to]
    if a then row[a] = (row[a] or 0) - jobs end
    if b then row[b] = (row[b] or 0) + jobs end
end

-- Counts jobs of a step from one state to another, in the step and in its workflow.
function G.shift(wf, number, from, to, jobs)
    if from == to or jobs == 0 then return end
    local step, workflow = G.step(wf, number), G.workflow(wf)
    shift_counts(step, from, to, jobs)
    if step.forgiven then step.forgiven = math.min(step.forgiven, step.failed) end
    shift_counts(workflow, from, to, jobs)
    G.put_step(step)
    G.put_workflow(workflow)
end

function G.settled_jobs(row)
    return row.succeeded + row.failed + row.skipped + row.cancelled
end
local function unsettled_jobs(row)
    return math.max(row.total - G.settled_jobs(row), 0)
end

-- How many jobs of a step have all that they need, in a chain that of their predecessors, and have not settled.
function G.going(step)
    if not step.follows then return unsettled_jobs(step) end
    return math.max(G.step(step.wf, step.follows).succeeded + (step.early or 0) - G.settled_jobs(step), 0)
end
local function ready_jobs(step)
    return math.max(G.going(step) - step.retrying - (step.deferred or 0) - math.max(step.leased, 0), 0)
end
local function is_at_limit(step)
    return step.limit ~= nil and step.leased >= step.limit
end

-- How many of its jobs may fail.
function G.tolerated(step)
    if step.tolerate_jobs then return step.tolerate_jobs end
    -- The product of two exact numbers may fall a hair below a whole one.
    if step.tolerate_fraction then return math.floor(step.tolerate_fraction * step.total + 1e-9) end
    return 0
end

-- Whether it has begun while its sources may still emit: it may not settle yet.
function G.is_held_by_source(step)
    return step.state == STEP.running and not step.decided and step.pending + step.waits > 0
end

-- Whether its rest is being cancelled, since more have failed.
local function is_failing_fast(step)
    return step.exceeded and step.policy == FAIL_FAST
end

-- Whether what runs of a step is to come to its end, and nothing of it runs again: its workflow is cancelled, or it fails fast.
local function stops(step)
    return G.workflow(step.wf).state == WF.cancelling and not step.always or is_failing_fast(step)
end

function G.settled_as(step)
    if step.failed > G.tolerated(step) then return STEP.failed end
    if step.cancelled > 0 then return STEP.cancelled end
    if step.total > 0 and step.skipped == step.total then return STEP.skipped end
    return STEP.succeeded
end

-- Where a workflow stands in the lists: by the time of its creation.
function G.list_member(workflow)
    return hex(workflow.created_at, 12) .. workflow.id
end
function G.each_list(workflow, state, visit)
    -- Lanes are no workflows, although they are kept like them.
    if state ~= WF.deleting and state ~= WF.standing then
        visit(K.list(nil, nil))
        visit(K.list(nil, workflow.name))
    end
    visit(K.list(state, nil))
    visit(K.list(state, workflow.name))
end

function G.finish_workflows()
    for wf in pairs(G.to_finish) do
        local workflow = G.workflow(wf)
        local state = workflow.state
        local at_work = state >= WF.pending and state <= WF.cancelling
        if at_work and workflow.active == 0 and workflow.chores == 0 then
            if state == WF.cancelling then
                workflow.state = WF.cancelled
            elseif workflow.failed_steps > 0 or workflow.unsettled > 0 then
                workflow.state = WF.failed
            else
                workflow.state = WF.succeeded
            end
            workflow.finished_at = now()
            workflow.grace_until = nil
            G.put_workflow(workflow)
            G.note_end(workflow)
        end
    end
    G.to_finish = {}
end

-- Writes what has changed in memory. The last thing an operation does.
function G.flush()
    G.finish_workflows()
    if G.flush_limited then G.flush_limited() end
    for _, step in pairs(G.steps) do
        if step.dirty then
            batch('HSET', K.wf(step.wf, 'steps'), step.step, pack(step, STEP_FIELDS))
            if (step.failed > 0) ~= step.had_failed then
                if step.had_failed then
                    call('ZREM', K.wf(step.wf, 'failing'), step.step)
                else
                    call('ZADD', K.wf(step.wf, 'failing'), step.step, step.step)
                end
            end
        end
    end
    for wf, workflow in pairs(G.workflows) do
        if workflow.dirty then
            call('HSET', K.wf(wf, 'head'), 'numbers', pack(workflow, WORKFLOW_FIELDS))
            if is_finished(workflow.stored_state) and not is_finished(workflow.state) and not workflow.expired then
                G.forget_expiry(workflow)
            end
            if workflow.id and workflow.state ~= workflow.stored_state then
                local member = G.list_member(workflow)
                if workflow.stored_state ~= WF.building then
                    G.each_list(workflow, workflow.stored_state, function(key) call('ZREM', key, member) end)
                end
                G.each_list(workflow, workflow.state, function(key) call('ZADD', key, 0, member) end)
            end
        end
    end
    G.steps, G.workflows = {}, {}
    G.write_batches()
end

local function dirty_rows()
    local rows = 0
    for _, step in pairs(G.steps) do
        if step.dirty then rows = rows + 1 end
    end
    for _, workflow in pairs(G.workflows) do
        if workflow.dirty then rows = rows + 9 end
    end
    return rows
end

-- Chunks -----------------------------------------------------------------------------------------------------------------------

-- The bytes of a chunk's jobs; all zero as long as nobody has reported any.
function G.bytes(wf, chunk, jobs)
    local found = call('HGET', K.wf(wf, 'bytes'), chunk)
    count_bytes(jobs)
    if not found then return string.rep('\0', jobs) end
    if #found ~= jobs then fail('corrupt', 'chunk ' .. chunk .. ' has ' .. jobs .. ' jobs but ' .. #found .. ' bytes') end
    return found
end
function G.put_bytes(wf, chunk, bytes)
    count_bytes(#bytes)
    call('HSET', K.wf(wf, 'bytes'), chunk, bytes)
end

local function segment_at(wf, step, index)
    local found = call('ZREVRANGEBYLEX', K.wf(wf, 'segments'), '[' .. hex(step, 8) .. hex(index, 12) .. '~', '[' .. hex(step, 8),
        'LIMIT', 0, 1)[1]
    if not found then return nil end
    return { first = unhex(found:sub(9, 20)), segment = unhex(found:sub(21)) }
end
local function chunk_of(member, first)
    return {
        first = first + unhex(member:sub(9, 20)),
        jobs = unhex(member:sub(21, 24)),
        chunk = unhex(member:sub(25)),
    }
end

-- A chained step has the chunks of the first step of its chain, under numbers of its own: above 32 bits is the step; 0 for that chunk itself.
local CHAINED = 2 ^ 32
function G.chained_chunk(chunk, step)
    return chunk % CHAINED + step * CHAINED
end
-- The bytes of the step before a chained one, of the chunk that both have.
function G.bytes_before(step, chunk)
    local up = G.step(step.wf, step.follows)
    return G.bytes(step.wf, G.chained_chunk(chunk.chunk, up.follows and up.step or 0), chunk.jobs)
end
function G.succeeded_before(step, chunk)
    return M.where(G.bytes_before(step, chunk), function(byte) return state_of(byte) == SUCCEEDED end)
end

-- The chunk that holds a job: its number, its first job, how many it has. Nil if there is none.
function G.find_chunk(wf, step, index)
    local root = G.step(wf, step).root
    local segment = segment_at(wf, root or step, index)
    if segment then
        local of = hex(segment.segment, 8)
        local member = call('ZREVRANGEBYLEX', K.wf(wf, 'chunks'), '[' .. of .. hex(index - segment.first, 12) .. '~', '[' .. of,
            'LIMIT', 0, 1)[1]
        if member then
            local chunk = chunk_of(member, segment.first)
            if root then chunk.chunk = G.chained_chunk(chunk.chunk, step) end
            if index < chunk.first + chunk.jobs then return chunk end
        end
    end
end

function G.chunk_at(wf, step, index)
    local chunk = G.find_chunk(wf, step, index)
    if chunk then return chunk end
    fail('corrupt', 'job ' .. index .. ' of step ' .. step .. ' of workflow ' .. wf .. ' is in no chunk')
end

-- At most `limit` chunks of a step whose jobs begin at `index` or behind it.
function G.chunks_from(wf, number, index, limit)
    local chunks, root = {}, G.step(wf, number).root
    local step = root or number
    while #chunks < limit do
        local segment = segment_at(wf, step, index)
        local length = segment and tonumber(call('HGET', K.wf(wf, 'lengths'), segment.segment) or 0)
        if not segment or index >= segment.first + length then
            local behind = call('ZRANGEBYLEX', K.wf(wf, 'segments'), '(' .. hex(step, 8) .. hex(index, 12) .. '~',
                '(' .. hex(step, 8) .. '~', 'LIMIT', 0, 1)[1]
            if not behind then break end
            segment = { first = unhex(behind:sub(9, 20)), segment = unhex(behind:sub(21)) }
            length = tonumber(call('HGET', K.wf(wf, 'lengths'), segment.segment) or 0)
        end
        local of = hex(segment.segment, 8)
        local from = math.max(index - segment.first, 0)
        local members = call('ZRANGEBYLEX', K.wf(wf, 'chunks'), '[' .. of .. hex(from, 12), '(' .. of .. '~', 'LIMIT', 0,
            limit - #chunks)
        for _, member in ipairs(members) do
            local chunk = chunk_of(member, segment.first)
            if root then chunk.chunk = G.chained_chunk(chunk.chunk, number) end
            chunks[#chunks + 1] = chunk
        end
        cost.rows = cost.rows + #members
        if #members == 0 and length == 0 then break end
        index = segment.first + length
    end
    return chunks
end
