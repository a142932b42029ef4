-- What every script begins with: the arguments, counted commands, the keys, and the states. Behind it come sets of jobs (masks.lua) and the
-- rows that an operation changes (rows.lua).
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
-- All that scripts use.

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

