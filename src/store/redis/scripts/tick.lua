-- What is due: leases, permits and drafts whose time is over, dead sessions, timers, deadlines and keys of lone jobs, chores, workflows
-- that are kept no longer.

local DO = {}
G.reads = arg.verb == 'look_ahead'

local SOFT_CALLS, SOFT_BYTES = 360, 192 * 1024
local SESSION_KEPT = 10 * 60 * 1000

local function bounded(limit)
    return cost.calls + dirty_rows() > limit
end

local function take_back_expired(time)
    local names = call('ZRANGEBYSCORE', K.leases, '-inf', time, 'LIMIT', 0, 10)
    for _, name in ipairs(names) do
        if bounded(SOFT_CALLS) then return true end
        local lease = G.lease_named(name)
        if not lease then
            call('ZREM', K.leases, name)
        elseif G.damage_in(G.take_back, lease, true) then
            call('ZADD', K.leases, lease.deadline + G.SET_ASIDE, name)
        end
    end
    return #names == 10
end

-- Puts jobs of a chunk that were retrying or deferred, or a whole step that was delayed (chunk 0), into its line; settles the job of a
-- step that waits. Without jobs: the time is over for which the chunk was to be kept.
local function make_jobs_due(wf, number, chunk, first, jobs)
    local step = G.step(wf, number)
    if step.state ~= STEP.running then return end
    if step.awaits then return G.end_wait(step, first) end
    if chunk == 0 and step.follows then return G.line_up(step, step.line) end
    if chunk == 0 then return G.enqueue_all(step, 0) end
    if jobs == '' then return G.stop_keeping(step, chunk, first) end
    local at = G.find_chunk(wf, number, first)
    -- A lane's chunk is gone once all of its jobs have been cancelled and are not kept any more.
    if G.is_lane(wf) and (not at or at.chunk ~= chunk) then return end
    at = at or G.chunk_at(wf, number, first)
    local before = G.bytes(wf, chunk, at.jobs)
    local bytes = before
    -- What is tried again comes first; what was put off comes behind what has been waiting.
    for _, from in ipairs({ RETRYING, DEFERRED }) do
        local due = M.both(jobs, M.where(before, function(byte) return state_of(byte) == from end))
        if due ~= '' then
            local waits = G.wait_for_their_turn(step, chunk, first, due)
            local ready = M.minus(due, waits)
            bytes = M.change(bytes, ready, function(byte) return byte - from end)
            bytes = M.change(bytes, waits, function(byte) return byte - from + DEFERRED end)
            G.shift(wf, number, from, OPEN, M.len(ready))
            G.shift(wf, number, from, DEFERRED, M.len(waits))
            if ready ~= '' then
                G.enqueue(step, { chunk = chunk, first = first, jobs = ready }, from == RETRYING, false, 0, 0)
            end
        end
    end
    if bytes ~= before then G.put_bytes(wf, chunk, bytes) end
end

local function make_due()
    local names = call('ZRANGEBYSCORE', K.timers, '-inf', now(), 'LIMIT', 0, 15)
    for _, name in ipairs(names) do
        -- The end of a wait may bring as many bytes as one job's output has.
        if bounded(SOFT_CALLS) or cost.bytes > SOFT_BYTES then return true end
        local wf, timer = name:match('^(%d+):(%x+)$')
        wf = tonumber(wf)
        local text = call('HGET', K.wf(wf, 'timer-jobs'), timer)
        local what = text and cmsgpack.unpack(text)
        if what and G.damage_in(make_jobs_due, wf, unhex(timer:sub(1, 8)), unhex(timer:sub(23)), what[1], what[2]) then
            call('ZADD', K.timers, now() + G.SET_ASIDE, name)
        else
            G.drop_timer(wf, timer)
        end
    end
    return #names == 15
end

-- Cancels a bite of what has not settled in time; returns whether there may be more.
local function keep_deadlines(told)
    local members = call('ZRANGEBYSCORE', K.deadlines, '-inf', now(), 'LIMIT', 0, 8)
    for _, member in ipairs(members) do
        if bounded(SOFT_CALLS) then return true end
        local why = G.damage_in(function()
            local wf, name, first, jobs = G.take_deadline(member)
            local chunk = first and G.find_chunk(wf, 0, first)
            if not chunk or chunk.chunk ~= name then return end
            local answer = G.cancel_in_chunk(G.step(wf, 0), chunk, jobs, arg.killed.cancelled_keep)
            for _, port in ipairs(answer.told) do told[#told + 1] = port end
        end)
        if why then call('ZADD', K.deadlines, now() + G.SET_ASIDE, member) end
    end
    return #members == 8
end

local function end_drafts(time)
    local keys = call('ZRANGEBYSCORE', K.drafts, '-inf', time, 'LIMIT', 0, 10)
    for _, key in ipairs(keys) do
        local draft = G.draft(key)
        if draft then G.give_up(draft) else call('ZREM', K.drafts, key) end
    end
    return #keys == 10
end

-- Ends the permits of sessions that nobody has heard of for so long that no lease under them is held any more.
local function end_permits(time, woken)
    for _, id in ipairs(call('ZRANGEBYSCORE', K.permit_ends, '-inf', time, 'LIMIT', 0, 1)) do
        if bounded(SOFT_CALLS / 3) then return true end
        if G.damage_in(G.end_permits_of, id, woken) then call('ZADD', K.permit_ends, time + G.SET_ASIDE, id) end
        return call('ZRANGEBYSCORE', K.permit_ends, '-inf', time, 'LIMIT', 0, 1)[1] ~= nil
    end
    return false
end

-- Notes which sessions have died, and forgets those that died long ago and hold nothing.
local function end_sessions(time)
    local died = call('ZRANGEBYSCORE', K.sessions, '-inf', time, 'LIMIT', 0, 10)
    for _, id in ipairs(died) do
        for _, key in ipairs({ K.sessions, K.shortest, K.workers, K.idle }) do call('ZREM', key, id) end
        call('HDEL', K.idle_about, id)
        call('HSET', K.session(id), 'dead_at', now())
        call('ZADD', K.dead, now(), id)
    end
    for _, id in ipairs(call('ZRANGEBYSCORE', K.dead, '-inf', now() - SESSION_KEPT, 'LIMIT', 0, 10)) do
        if call('EXISTS', K.lease(id)) == 0 and not call('ZSCORE', K.permit_ends, id) then
            call('UNLINK', K.session(id), K.progress(id), K.permits(id))
            call('ZREM', K.dead, id)
        end
    end
    return #died == 10
end

-- Chores -----------------------------------------------------------------------------------------------------------------------

local RETRY_CHUNKS = 25
local BITE = {}

-- The leases of a cancelled step end with the grace at the latest, also those that nobody renews any more.
local function shorten_leases(wf, step, grace)
    if not grace then return end
    local prefix = hex(step, 8)
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 80)) do
        local lease = G.lease_of(member)
        if lease and lease.deadline > grace then
            lease.deadline = grace
            G.put_lease(lease)
            call('ZADD', K.leases, grace, lease.name)
        end
    end
end

-- Takes the work of one step after the other out of the lines and cancels what is not under a lease.
function BITE.cancel(wf, _, from)
    local workflow = G.workflow(wf)
    for number = from, workflow.steps - 1 do
        if is_at_bound() then return G.leave_chore('cancel', wf, 0, number, 0) end
        local step = G.step(wf, number)
        local goes_on = step.always and not (step.pending == 0 and step.waits > 0)
        -- Somebody may repair one of a step that has settled.
        if step.children and not goes_on then G.leave_chore('cancel children', wf, number, 0, 0) end
        if step.state < STEP.succeeded and not goes_on then
            shorten_leases(wf, number, workflow.grace_until)
            if G.clear_lines(wf, number) then return G.leave_chore('cancel', wf, 0, number, 0) end
            G.released = G.released + 1
            if step.state == STEP.waiting and not step.decided then
                G.pass_over(step, CANCEL)
            elseif step.state == STEP.running then
                G.fill_all(step, CANCELLED)
            end
        end
    end
end

function BITE.fill(wf, step, cursor, state)
    local next_job = G.fill(wf, step, cursor, state)
    if next_job then G.leave_chore('fill', wf, step, next_job, state) end
end

-- A step that failed fast: takes its work out of the lines, then cancels what is not under a lease.
BITE['stop rest'] = function(wf, number, from)
    local step = G.step(wf, number)
    -- Somebody has repaired it meanwhile.
    if not is_failing_fast(step) then return end
    shorten_leases(wf, number, step.grace_until)
    if G.clear_lines(wf, number) then return G.leave_chore('stop rest', wf, number, from, 0) end
    local next_job = G.fill(wf, number, from, CANCELLED)
    if next_job then G.leave_chore('stop rest', wf, number, next_job, 0) end
end

function BITE.start(wf, _, cursor) G.release_roots(wf, cursor) end
function BITE.release(wf, step, cursor) G.tell_followers(wf, step, cursor) end
function BITE.resume(wf, _, cursor) G.unpark_places(wf, cursor) end

-- The argument of chores that discard failed jobs instead of running them again.
local DISCARD = -1

function BITE.retry(wf, _, cursor, how)
    local steps = call('ZRANGEBYSCORE', K.wf(wf, 'failing'), cursor, '+inf', 'LIMIT', 0, 50)
    for _, number in ipairs(steps) do G.leave_chore('reopen', wf, tonumber(number), 0, how) end
    if #steps == 50 then G.leave_chore('retry', wf, 0, tonumber(steps[#steps]) + 1, how) end
end

-- Each retry has a hold of its own, so that the end of one does not let the step settle under another.
local function hold_name(mended)
    if mended == DISCARD then return 'discard' end
    if mended == BY_CHILD then return 'child' end
    if mended <= G.SKIP_ALL then return G.name_of_hand(mended) end
    return mended == 0 and 'retry' or 'retry ' .. mended
end
function G.change_holds(wf, step, name, add)
    local key = K.wf(wf, 'holds')
    local text = call('HGET', key, step)
    local holds = text and cmsgpack.unpack(text) or {}
    holds[name] = add and true or nil
    if next(holds) then call('HSET', key, step, cmsgpack.pack(holds)) else call('HDEL', key, step) end
end

BITE['skip behind'] = function(wf, number, from)
    local cursor = G.skip_behind(wf, number, from)
    if cursor then G.leave_chore('skip behind', wf, number, cursor, 0) end
end
BITE['reopen behind'] = function(wf, number, from) G.reopen_behind(wf, number, from) end

BITE['run again'] = function(wf, root, _, again) G.run_again_bite(wf, root, again) end
BITE['release again'] = function(wf, root, _, again) G.release_again(wf, root, again) end

-- Takes a step back to running. As long as it counts as settled its followers are told, one bite after the other, to wait for it
-- again: so none of them is released between its reopening and its new end.
function BITE.reopen(wf, number, from, mended)
    -- A step that is being taken back to run again has nothing to retry before it has.
    if G.is_running_again(wf) then return G.leave_chore('reopen', wf, number, from, mended) end
    -- No retry opens a batch again that was abandoned: nobody adds to it any more.
    if number == BATCH.step and mended ~= DISCARD and G.workflow(wf).batch then return end
    -- What has been taken out of its lines and is not cancelled yet would be in neither.
    if G.is_on_list('stop rest', wf, number, 0) then return G.leave_chore('reopen', wf, number, from, mended) end
    local step = G.step(wf, number)
    if mended == G.SKIP_ALL and G.is_untouched(step) then return G.pass_over(step, SKIP) end
    if step.state >= STEP.succeeded then
        -- What may let jobs succeed that have not reopens what is chained to them first.
        local can_succeed = mended ~= DISCARD and (mended > G.SKIP_ALL or G.replaces(mended))
        if can_succeed and G.reopens_behind(step) then return G.leave_chore('reopen', wf, number, from, mended) end
        local cursor = G.take_back_to_running(step, from)
        if cursor then return G.leave_chore('reopen', wf, number, cursor, mended) end
    end
    G.forgive(step)
    G.rouse(step)
    -- Nothing may settle the step between two bites.
    G.change_holds(wf, number, hold_name(mended), true)
    G.leave_chore('retry jobs', wf, number, 0, mended)
end

local function end_retry(wf, number, mended)
    G.change_holds(wf, number, hold_name(mended), false)
    G.leave_behind(G.step(wf, number))
    G.check_settled(wf, number)
end

-- A bite of the chunks of which jobs have been named, from number `from` of them on; the mended parameters of those become valid.
local function mended_chunks(wf, step, from, segment)
    local count = tonumber(call('HGET', K.wf(wf, 'mends'), segment) or 0)
    local chunks, last = {}, math.min(from + 15, count)
    for n = from + 1, last do
        local field = segment .. ':' .. n
        local text = call('HGET', K.wf(wf, 'mends'), field)
        if text then
            local mend = cmsgpack.unpack(text)
            local of, first, jobs, body = mend[1], mend[2], mend[3], mend[4]
            local at = G.find_chunk(wf, step, first)
            call('HDEL', K.wf(wf, 'mends'), field)
            -- Parameters for a chunk that this step does not have mend nothing; they must not stop the others either.
            if at and G.chained_chunk(at.chunk, 0) == of then chunks[#chunks + 1] = { chunk = at, mend = jobs } end
            -- Jobs of a chained step have none of their own.
            if at and at.chunk == of and body ~= '' then
                local key = K.wf(wf, 'mended')
                local list = call('HGET', key, of)
                list = list and cmsgpack.unpack(list) or { last = 0, valid = {} }
                local valid = {}
                for _, earlier in ipairs(list.valid) do
                    if M.minus(earlier[2], jobs) == '' then
                        call('HDEL', key, of .. ':' .. earlier[1])
                    else
                        valid[#valid + 1] = earlier
                    end
                end
                list.last, list.valid = list.last + 1, valid
                valid[#valid + 1] = { list.last, jobs }
                call('HSET', key, of, cmsgpack.pack(list), of .. ':' .. list.last, body)
            end
        end
    end
    if last < count then return chunks, last end
    call('HDEL', K.wf(wf, 'mends'), segment)
    call('HDEL', K.wf(wf, 'lengths'), segment)
    return chunks, nil
end

-- Failed jobs of a chunk end as skipped. A lane keeps nothing for them.
local function discard_jobs(step, chunk, bytes, jobs)
    local wf, number = step.wf, step.step
    G.forget_failed(wf, number, chunk.chunk, jobs)
    G.settle_jobs(wf, number, chunk, bytes, jobs, SKIPPED)
    bytes = M.change(bytes, jobs, function(byte) return byte - FAILED + SKIPPED end)
    local of_use = M.where(bytes, function(byte) return state_of(byte) ~= SKIPPED end)
    if of_use ~= '' or not G.is_lane(wf) then return end
    local kept = tonumber(call('HGET', K.wf(wf, 'kept'), chunk.chunk) or nil)
    if kept then
        G.drop_timer(wf, timer_name(number, kept, chunk.chunk))
        call('HDEL', K.wf(wf, 'kept'), chunk.chunk)
    end
    G.drop_chunk(step, chunk, bytes)
end

-- Opens the jobs that were cancelled when their step failed fast: the last part of its repair.
function BITE.revive(wf, number, from, mended)
    if G.workflow(wf).state == WF.cancelling then return end_retry(wf, number, mended) end
    local step, chunks = G.step(wf, number), G.chunks_from(wf, number, from, RETRY_CHUNKS)
    for _, chunk in ipairs(chunks) do
        if bounded(440) then return G.leave_chore('revive', wf, number, chunk.first, mended) end
        local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
        local jobs = M.where(bytes, function(byte) return state_of(byte) == CANCELLED end)
        if jobs ~= '' then
            -- A repair gives a new set of attempts.
            G.shift(wf, number, CANCELLED, OPEN, M.len(jobs))
            G.put_bytes(wf, chunk.chunk, M.change(bytes, jobs, function() return OPEN end))
            -- Those whose predecessors have not succeeded wait for that.
            local ready = step.follows and M.both(jobs, G.succeeded_before(step, chunk)) or jobs
            G.count_early(step, chunk, jobs, -1)
            if ready ~= '' then G.enqueue(step, { chunk = chunk.chunk, first = chunk.first, jobs = ready }, false, false, 0, 0) end
        end
    end
    if #chunks == RETRY_CHUNKS then
        local last = chunks[#chunks]
        return G.leave_chore('revive', wf, number, last.first + last.jobs, mended)
    end
    end_retry(wf, number, mended)
end

-- Reopens the failed jobs of a bite of chunks, all of them or those that are named.
BITE['retry jobs'] = function(wf, number, from, mended)
    if G.workflow(wf).state == WF.cancelling then
        if mended > 0 then G.leave_chore('drop', wf, mended, 0, mended) end
        return end_retry(wf, number, mended)
    end
    local chunks, next_one = {}, nil
    if mended <= G.SKIP_ALL then
        next_one = G.decide_some(wf, number, from, mended)
    elseif mended <= 0 then
        local list = G.chunks_from(wf, number, from, RETRY_CHUNKS)
        for i, chunk in ipairs(list) do chunks[i] = { chunk = chunk } end
        if #list == RETRY_CHUNKS then next_one = list[#list].first + list[#list].jobs end
    else
        chunks, next_one = mended_chunks(wf, number, from, mended)
    end
    local step = G.step(wf, number)
    for _, one in ipairs(chunks) do
        local chunk = one.chunk
        if mended <= 0 and bounded(440) then
            next_one = chunk.first
            break
        end
        local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
        local jobs = M.where(bytes, function(byte) return state_of(byte) == FAILED end)
        if one.mend then jobs = M.both(jobs, one.mend) end
        if jobs ~= '' and mended == DISCARD then
            discard_jobs(step, chunk, bytes, jobs)
        elseif jobs ~= '' and step.awaits then
            G.forget_failed(wf, number, chunk.chunk, jobs)
            G.wait_anew(step, chunk, bytes)
        elseif jobs ~= '' then
            local all = jobs
            if step.children then bytes, jobs = G.wait_for_repaired_children(step, chunk, bytes, jobs, mended) end
            -- Those whose children have not been repaired stay as they are, if nothing else was asked for.
            if mended == BY_CHILD then jobs = '' end
            local waits = G.wait_for_their_turn(step, chunk.chunk, chunk.first, jobs)
            local ready = M.minus(jobs, waits)
            -- A repair gives a new set of attempts.
            G.shift(wf, number, FAILED, OPEN, M.len(ready))
            G.shift(wf, number, FAILED, DEFERRED, M.len(waits))
            bytes = M.change(bytes, ready, function() return OPEN end)
            bytes = M.change(bytes, waits, function() return DEFERRED end)
            G.put_bytes(wf, chunk.chunk, bytes)
            G.forget_failed(wf, number, chunk.chunk, M.both(all, M.where(bytes, function(byte) return state_of(byte) ~= FAILED end)))
            if ready ~= '' then
                G.enqueue(step, { chunk = chunk.chunk, first = chunk.first, jobs = ready }, false, false, 0, 0)
            end
        end
    end
    if next_one then
        G.leave_chore('retry jobs', wf, number, next_one, mended)
    elseif step.policy == FAIL_FAST and step.cancelled > 0 then
        G.leave_chore('revive', wf, number, 0, mended)
    else
        end_retry(wf, number, mended)
    end
end

-- Deletes a bite of a segment that no step owns.
function BITE.drop(wf, segment)
    local of = hex(segment, 8)
    local members = call('ZRANGEBYLEX', K.wf(wf, 'chunks'), '[' .. of, '(' .. of .. '~', 'LIMIT', 0, 100)
    for _, member in ipairs(members) do
        call('HDEL', K.wf(wf, 'params'), unhex(member:sub(25)))
        call('ZREM', K.wf(wf, 'chunks'), member)
    end
    local mends = tonumber(call('HGET', K.wf(wf, 'mends'), segment) or 0)
    local fields = {}
    for n = math.max(mends - 199, 1), mends do fields[#fields + 1] = segment .. ':' .. n end
    if #fields > 0 then call('HDEL', K.wf(wf, 'mends'), unpack(fields)) end
    if mends > 200 then call('HSET', K.wf(wf, 'mends'), segment, mends - 200) end
    if #members == 100 or mends > 200 then
        G.leave_chore('drop', wf, segment, 0, segment)
    else
        call('HDEL', K.wf(wf, 'mends'), segment)
        call('HDEL', K.wf(wf, 'lengths'), segment)
    end
end

-- Deletes a workflow: first what could hand out work, then the data, which is unlinked whole. Returns whether it is gone, and not only
-- a bite of it.
local function delete_some(wf)
    if G.delete_children(wf) then return false end
    local leases = call('ZRANGE', K.wf(wf, 'leases'), 0, 59)
    for _, member in ipairs(leases) do
        local lease = G.lease_of(member)
        if lease then G.drop_lease(lease) else call('ZREM', K.wf(wf, 'leases'), member) end
    end
    if #leases == 60 then return false end
    local lines = call('ZRANGE', K.wf(wf, 'lines'), 0, 19)
    for _, line in ipairs(lines) do
        line = tonumber(line)
        local steps = call('ZRANGE', K.ready(line, wf), 0, 199)
        for _, step in ipairs(steps) do call('UNLINK', K.queue(wf, step, false), K.queue(wf, step, true)) end
        if #steps > 0 then call('ZREM', K.ready(line, wf), unpack(steps)) end
        if call('ZCARD', K.ready(line, wf)) == 0 then
            call('ZREM', K.places(line), wf)
            call('ZREM', K.wf(wf, 'lines'), line)
        end
        if bounded(SOFT_CALLS) then return false end
    end
    if #lines == 20 then return false end
    local timers = call('ZRANGE', K.wf(wf, 'timers'), 0, 199)
    local names = {}
    for i, timer in ipairs(timers) do names[i] = wf .. ':' .. timer end
    if #timers > 0 then
        call('ZREM', K.timers, unpack(names))
        call('ZREM', K.wf(wf, 'timers'), unpack(timers))
        return false
    end
    local chores = call('SMEMBERS', K.wf(wf, 'chores'))
    for from = 1, #chores, 1000 do
        local part = {}
        for i = from, math.min(from + 999, #chores) do part[#part + 1] = chores[i] end
        call('ZREM', K.chores, unpack(part))
        call('HDEL', K.chore_state, unpack(part))
    end
    local workflow = G.workflow(wf)
    if workflow.id then
        G.each_list(workflow, workflow.stored_state, function(key) call('ZREM', key, G.list_member(workflow)) end)
        call('HDEL', K.ids, workflow.id)
    end
    local keys = {}
    for i, part in ipairs(G.PARTS) do keys[i] = K.wf(wf, part) end
    call('UNLINK', unpack(keys))
    G.workflows[wf] = nil
    G.to_finish[wf] = nil
    for name, step in pairs(G.steps) do
        if step.wf == wf then G.steps[name] = nil end
    end
    return true
end

BITE['child ended'] = G.end_of_child
BITE['cancel children'] = G.cancel_children
BITE.batch = G.look_at_batch

function BITE.delete(wf)
    if not delete_some(wf) then G.leave_chore('delete', wf, 0, 0, 0) end
end

-- So long after one bite of what has expired the next may begin, whoever takes it.
local PRUNE_PAUSE = 50

-- Milliseconds until the next bite may begin; nil if nothing expires.
local function next_prune()
    local first = tonumber(call('ZRANGE', K.expiry, 0, 0, 'WITHSCORES')[2] or NEVER)
    if first >= NEVER then return nil end
    local wait = tonumber(call('HGET', K.shard, 'prune_at') or 0) - now()
    -- Unless the clock has jumped back since.
    if wait < 1 or wait > PRUNE_PAUSE then wait = 0 end
    return math.max(first - now(), wait)
end

-- Deletes a bite of what has expired. Returns in how many milliseconds the next one may begin, if anything expires.
local function prune()
    local wait = next_prune()
    if not wait or wait > 0 then return wait end
    while not bounded(SOFT_CALLS) do
        local first = call('ZRANGE', K.expiry, 0, 0, 'WITHSCORES')
        if not first[1] or tonumber(first[2]) > now() then break end
        local wf = tonumber(first[1])
        local workflow = call('EXISTS', K.wf(wf, 'head')) == 1 and G.workflow(wf)
        if not workflow or not is_finished(workflow.state) and workflow.state ~= WF.deleting then
            call('ZREM', K.expiry, wf)
        else
            if is_finished(workflow.state) then
                G.forget_expiry(workflow)
                G.expire_at(workflow, tonumber(first[2]))
                workflow.state, workflow.expired = WF.deleting, true
                G.put_workflow(workflow)
            end
            local gone = false
            if G.damage_in(function() gone = delete_some(wf) end) then
                call('ZADD', K.expiry, now() + G.SET_ASIDE, wf)
            elseif gone then
                call('ZREM', K.expiry, wf)
            else
                break
            end
        end
    end
    call('HSET', K.shard, 'prune_at', now() + PRUNE_PAUSE)
    return next_prune()
end

-- Does one bite of the chore whose turn it is.
local function work_on_chore()
    local name = call('ZRANGE', K.chores, 0, 0)[1]
    if not name then return false end
    local kind, wf, step, argument = name:match('^([%a ]+):(%d+):(%d+):(%-?%d+)$')
    wf, step, argument = tonumber(wf), tonumber(step), tonumber(argument)
    local text = call('HGET', K.chore_state, name)
    if call('EXISTS', K.wf(wf, 'head')) == 0 or not text then
        call('ZREM', K.chores, name)
        call('HDEL', K.chore_state, name)
        return true
    end
    if kind ~= 'drop' then
        local workflow = G.workflow(wf)
        workflow.chores = workflow.chores - 1
        G.put_workflow(workflow)
        G.to_finish[wf] = true
    end
    call('ZREM', K.chores, name)
    call('HDEL', K.chore_state, name)
    call('SREM', K.wf(wf, 'chores'), name)
    local state = cmsgpack.unpack(text)
    local why = G.damage_in(BITE[kind], wf, step, state.cursor, argument)
    if why then
        -- It can never be done; the doctor tells of it.
        G.keep_chore(kind, wf, name, { cursor = state.cursor, error = why })
    end
    return true
end

local function has_ready()
    return call('EXISTS', K.active) == 1
end

-- Some of the schedules that are due, for whoever ticks to fire.
local function due_schedules()
    local list = {}
    for _, name in ipairs(call('ZRANGEBYSCORE', K.schedules_due, '-inf', now(), 'LIMIT', 0, 8)) do
        local row = G.schedule_row(call('HGET', K.schedules, name))
        if row and row.next then
            list[#list + 1] = { name = name, definition = row.definition, next = text_of(row.next), paused = false }
        end
    end
    return list
end

-- In how many milliseconds the next one is due that is not due now.
local function next_schedule()
    local first = call('ZRANGEBYSCORE', K.schedules_due, '(' .. now(), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    return first and tonumber(first) - now()
end

function DO.tick()
    local time = G.advance_lease_time(arg.lease)
    -- First, for no backlog of others may keep the permits of the dead.
    local woken = G.nobody_woken()
    local more = end_permits(time, woken)
    more = take_back_expired(time) or more
    more = make_due() or more
    local told = {}
    more = keep_deadlines(told) or more
    if bounded(SOFT_CALLS) then more = true else more = G.look_at_keys() or more end
    if bounded(SOFT_CALLS) then more = true else more = end_drafts(time) or more end
    if bounded(SOFT_CALLS) then more = true else more = end_sessions(time) or more end
    G.cascade()
    -- A chore takes what the operation's bound has left; with much done before, it waits for the next bite.
    if not more and cost.calls + dirty_rows() < 80 then
        more = work_on_chore() or more
        G.cascade()
    end
    more = G.has_chores() or more
    local next_in
    if not more and cost.calls + dirty_rows() < 80 then next_in = prune() end
    G.admit()
    G.flush()
    -- The end of a workflow is told to the one whose job it stands for.
    more = more or G.has_chores()
    local scheduled = next_schedule()
    if scheduled then next_in = math.min(next_in or NEVER, scheduled) end
    for _, port in ipairs(G.wake()) do woken.ports[#woken.ports + 1] = port end
    return {
        more = more, ready = has_ready(), next_in = next_in, schedules = due_schedules(), now = now(), woken = woken.ports, told = told,
    }
end

-- What a tick would find: whether it is worth a write now, and if not, when. Writes nothing.
function DO.look_ahead()
    local there = call('HMGET', K.shard, 'lease_time', 'lease_time_at')
    local shortest = tonumber(call('ZRANGE', K.shortest, 0, 0, 'WITHSCORES')[2] or arg.lease)
    local half = math.floor(math.max(math.min(shortest, arg.lease), 2) / 2)
    local time, at = tonumber(there[1] or 0), tonumber(there[2] or now())
    time = time + math.min(math.max(now() - at, 0), half)
    local due, next_in = G.has_chores(), nil
    local function consider(left)
        due = due or left <= 0
        next_in = math.min(next_in or left, left)
    end
    for _, key in ipairs({ K.leases, K.drafts, K.sessions, K.permit_ends }) do
        local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
        -- A draft that a checkpoint covers has no end of its own.
        if first and tonumber(first) < NEVER then consider(tonumber(first) - time) end
    end
    for _, key in ipairs({ K.timers, K.limited_due, K.sole_due, K.deadlines }) do
        local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
        if first then consider(tonumber(first) - now()) end
    end
    local dead = call('ZRANGE', K.dead, 0, 0, 'WITHSCORES')[2]
    if dead then consider(tonumber(dead) + SESSION_KEPT - now()) end
    -- Lease time moves only while somebody moves it; and once the clock has jumped back it would stand still.
    if next_in and (now() - at >= half or now() < at) then due = true end
    local expires_in = next_prune()
    if expires_in then consider(expires_in) end
    local scheduled = next_schedule()
    if scheduled then next_in = math.min(next_in or NEVER, scheduled) end
    return {
        more = due, ready = has_ready(), next_in = next_in and math.max(next_in, 0), schedules = due_schedules(), now = now(),
        woken = {}, told = {},
    }
end
