-- The doctor: recounts one workflow from its bytes, or looks at what the shard holds. Writes nothing; reads all of it.

local DO = {}
G.reads = true

local findings = {}
local function find(text)
    findings[#findings + 1] = text
end
local function expect(place, what, stored, counted)
    if stored ~= counted then find(place .. ': ' .. what .. ' is stored as ' .. stored .. ', but a recount gives ' .. counted) end
end

local STEP_WORDS = { [0] = 'waiting', 'running', 'succeeded', 'failed', 'skipped', 'cancelled' }

-- What a step's work is in at the moment: how often each job stands in a line or under a lease, and in a timer.
local function work_of(wf, step)
    local work = { places = {}, timers = {}, kept = {}, runs = {}, leased = 0, delayed = false }
    local function add(counts, chunk, jobs)
        M.each(jobs, function(at)
            -- Of one step all chunks have the same number above 32 bits.
            local name = chunk % CHAINED * 1024 + at
            counts[name] = (counts[name] or 0) + 1
        end)
    end
    for _, suspect in ipairs({ false, true }) do
        local key = K.queue(wf, step.step, suspect)
        local entries = call('LRANGE', key, 0, -1)
        for _, text in ipairs(entries) do
            local entry = cmsgpack.unpack(text)
            if entry.low then
                work.runs[#work.runs + 1] = { entry.low, entry.high }
            else
                add(work.places, entry.chunk, entry.jobs)
            end
        end
        local line = suspect and step.suspect_line or not suspect and step.line
        local score = line and call('ZSCORE', K.ready(line, wf), step.step)
        local place = 'workflow ' .. arg.shown .. ', step ' .. step.step
        -- What is chained has entries before it is released.
        local is_early = step.follows and (not step.released_at or step.delay > 0)
        if #entries > 0 and not score and not is_early then find(place .. ' has entries in no line') end
        if #entries == 0 and score then find(place .. ' is lined up without an entry') end
        if score and not call('ZSCORE', K.places(line), wf) then find(place .. ' is lined up without a place') end
        local state = G.workflow(wf).state
        if score and tonumber(score) >= PARKED and (state == WF.pending or state == WF.running) and not step.exceeded and not is_at_limit(step) then
            find(place .. ' is parked below its limit')
        end
    end
    local prefix = hex(step.step, 8)
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'leases'), '[' .. prefix, '(' .. prefix .. '~')) do
        local lease = G.lease_of(member)
        if lease then
            work.leased = work.leased + M.len(lease.jobs)
            add(work.places, lease.chunk, lease.jobs)
        else
            find('workflow ' .. arg.shown .. ' names the lease ' .. member .. ', which is not there')
        end
    end
    for _, timer in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'timers'), '[' .. prefix, '(' .. prefix .. '~')) do
        local chunk, jobs = unhex(timer:sub(23)), cmsgpack.unpack(call('HGET', K.wf(wf, 'timer-jobs'), timer))[2]
        if chunk == 0 then
            work.delayed = true
        elseif jobs == '' then
            work.kept[chunk] = unhex(timer:sub(9, 22))
        end
        add(work.timers, chunk, jobs)
    end
    return work
end

local function check_edges(wf, step, place)
    local stale = {}
    local prefix, counts, early = hex(step.step, 8), { pending = 0, [RELEASE] = 0, [SKIP] = 0, [WAIT] = 0, [CANCEL] = 0 }, 0
    for _, member in ipairs(call('ZRANGEBYLEX', K.wf(wf, 'up'), '[' .. prefix, '(' .. prefix .. '~')) do
        local up, kind = unhex(member:sub(9, 16)), tonumber(member:sub(17))
        local decision = tonumber(call('HGET', K.wf(wf, 'decisions'), hex(up, 8) .. prefix .. kind) or nil)
        if decision then counts[decision] = counts[decision] + 1 else counts.pending = counts.pending + 1 end
        -- A step that is fed begins before its source has succeeded, one that grows before its batch has settled.
        if not holds_back(kind) and (not decision or decision == WAIT) then early = early + 1 end
        local upstream = G.step(wf, up)
        if G.is_asked(step, kind) and decision and decide(kind, upstream) ~= decision then
            stale[#stale + 1] = place .. ' has an edge that decided ' .. decision .. ' although the step before it is ' .. STEP_WORDS[upstream.state]
        end
    end
    local again = call('HGET', K.wf(wf, 'again-rows'), step.step)
    local gates = again and cmsgpack.unpack(again).gated and 1 or 0
    expect(place, 'its count of edges that have not decided', step.pending, counts.pending + gates)
    expect(place, 'its count of edges that skip it', step.skips, counts[SKIP])
    expect(place, 'its count of edges that wait', step.waits, counts[WAIT])
    expect(place, 'its count of edges that cancel it', step.cancels, counts[CANCEL])
    -- While it is taken back to run again, its edges are being decided anew.
    if again then return end
    for _, found in ipairs(stale) do find(found) end
    if step.state == STEP.running and early > 0 then
        find(place .. ' is running, but ' .. early .. ' of its upstream steps have not settled as its edges ask')
    end
end

-- Which jobs of a chunk wait for the turn of their key.
local function turns_of(step, chunk)
    local waits = {}
    if has_keys(step, LIMITED) then
        for _, one in ipairs(keys_of(step.wf, chunk.chunk)) do
            local turn = one[2] and turn_of(name_of(step.wf, one[2]), one[3], step.wf, chunk.first, chunk.chunk, one[1])
            if turn and call('ZSCORE', K.turns, turn) then waits[one[1]] = true end
        end
    end
    return waits
end

local function check_chunk(step, work, chunk, bytes, place)
    -- Which jobs of a chained step may go on.
    local succeeded = {}
    if step.follows then M.each(G.succeeded_before(step, chunk), function(at) succeeded[at] = true end) end
    local waits_in_entry = step.follows and step.state == STEP.waiting and not step.decided
    local turns = turns_of(step, chunk)
    local awaited = step.awaits and unpack_row(call('HGET', K.wf(step.wf, 'awaited'), step.step), AWAITED_FIELDS) or {}
    -- Nothing but the ends of their workflows ends jobs that have some.
    local is_endless = step.awaits ~= nil and not awaited.at and not awaited.wait or step.children
    for at = 0, #bytes - 1 do
        local index, state = chunk.first + at, state_of(bytes:byte(at + 1))
        local name = chunk.chunk % CHAINED * 1024 + at
        local places, timed = work.places[name] or 0, work.timers[name] ~= nil
        for _, run in ipairs(work.runs) do
            if index >= run[1] and index < run[2] then places = places + 1 end
        end
        if work.delayed and not step.follows then places = places + 1 end
        local right = places == 0 and not timed
        if step.state == STEP.running and state == OPEN then right = places == 1 and not timed end
        if step.state == STEP.running and (state == RETRYING or state == DEFERRED) then
            right = places == 0 and (timed ~= is_endless or state == DEFERRED and turns[at] == true)
            if awaited.signalled_at then find(place .. ' waits although its signal has come') end
        end
        -- What was cancelled by itself stays in its entry until a claim comes by.
        if state == CANCELLED and G.is_lane(step.wf) then right = true end
        -- What a person has skipped stays there until its step settles.
        if state == SKIPPED and step.state == STEP.running then right = true end
        if step.follows and not succeeded[at] then
            -- One that is chained goes nowhere before its own predecessor has succeeded.
            right = places == 0 and not timed and (state == OPEN or state >= SKIPPED)
        elseif waits_in_entry and state == OPEN then
            right = places == 1 and not timed
        elseif waits_in_entry and state == SKIPPED then
            right = true
        elseif state == SKIPPED_BEHIND then
            right = false
        end
        if not right then
            return find(place .. ': job ' .. index .. ' is ' .. JOB_WORDS[state] .. ' and stands in ' .. places .. ' places and ' ..
                (timed and 1 or 0) .. ' timers (the first such job of its chunk)')
        end
    end
end

-- What a lane keeps has a time until which it does.
local function check_kept(wf, work, chunk, bytes, place)
    local noted = tonumber(call('HGET', K.wf(wf, 'kept'), chunk.chunk) or nil)
    if noted ~= work.kept[chunk.chunk] then find(place .. ': how long chunk ' .. chunk.chunk .. ' is kept is noted wrongly') end
    if G.is_unwanted(wf, chunk, bytes) then find(place .. ': chunk ' .. chunk.chunk .. ' is kept although nobody wants it') end
end

local function check_step(wf, workflow, step, place, busy)
    local work = work_of(wf, step)
    busy = busy or call('HEXISTS', K.wf(wf, 'holds'), step.step) == 1
    local counted, next_job, settled_of, early = {}, 0, {}, 0
    for _, name in ipairs(COUNTS) do counted[name] = 0 end
    while true do
        local chunks = G.chunks_from(wf, step.step, next_job, 200)
        for _, chunk in ipairs(chunks) do
            -- A lane does not keep what has settled and is not wanted any more.
            if chunk.first < next_job or chunk.first > next_job and workflow.state ~= WF.standing then
                find(place .. ': jobs ' .. next_job .. ' to ' .. chunk.first .. ' are in no chunk, or in two')
            end
            next_job = chunk.first + chunk.jobs
            counted.total = counted.total + chunk.jobs
            local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
            if step.follows then
                local settled = M.where(bytes, function(byte) return state_of(byte) >= SUCCEEDED end)
                early = early + M.len(M.minus(settled, G.succeeded_before(step, chunk)))
            end
            if step.feeds or step.checkpoints and step.checkpoints ~= 0 then settled_of[chunk.chunk] = bytes end
            for at = 1, #bytes do
                local byte = bytes:byte(at)
                local counter = G.COUNTERS[state_of(byte)]
                if counter then counted[counter] = counted[counter] + 1 end
                if byte >= 31 * 8 then find(place .. ': job ' .. (chunk.first + at - 1) .. ' has used 31 attempts') end
            end
            if call('HEXISTS', K.wf(wf, 'params'), G.chained_chunk(chunk.chunk, 0)) == 0 then find(place .. ': chunk ' .. chunk.chunk .. ' has no parameters') end
            if not busy then check_chunk(step, work, chunk, bytes, place) end
            if workflow.state == WF.standing then check_kept(wf, work, chunk, bytes, place) end
        end
        if #chunks < 200 then break end
    end
    for _, name in ipairs(COUNTS) do expect(place, 'its count of jobs (' .. name .. ')', step[name], counted[name]) end
    expect(place, 'its count of jobs under a lease', step.leased, work.leased)
    if step.follows and not step.decided and not busy and workflow.state ~= WF.cancelled then
        expect(place, 'its count of settled jobs whose predecessors have not succeeded', step.early or 0, early)
        local waiting = unsettled_jobs(counted) - G.going(step)
        if step.released_at and G.step(wf, step.follows).state == STEP.succeeded and waiting > 0 then
            find(place .. ': ' .. waiting .. ' of its jobs wait for predecessors that have settled')
        end
    end
    if workflow.state == WF.standing then
        expect(place, 'its count of chunks with deadlines', step.deadlines or 0, call('HLEN', K.wf(wf, 'deadlines')))
    end
    if step.checkpoints and step.checkpoints ~= 0 then
        -- Only workflows of which somebody saves something are looked at as a whole.
        local saved, cursor = 0, '0'
        repeat
            local page = call('HSCAN', K.wf(wf, 'checkpoints'), cursor, 'COUNT', 1000)
            cursor = page[1]
            for i = 1, #page[2], 2 do
                local chunk, at = page[2][i]:match('^(%d+):(%d+)$')
                local bytes = settled_of[tonumber(chunk)]
                if bytes then
                    saved = saved + 1
                    if state_of(bytes:byte(tonumber(at) + 1) or SUCCEEDED) >= SUCCEEDED then
                        find(place .. ': position ' .. at .. ' of chunk ' .. chunk .. ' has settled and has a checkpoint')
                    end
                end
            end
        until cursor == '0'
        expect(place, 'its count of checkpoints', step.checkpoints, saved)
    end
    if step.feeds and call('EXISTS', K.wf(wf, 'emitted')) == 1 then
        -- What its sources have emitted eagerly.
        local emitted, cursor = 0, '0'
        repeat
            local page = call('HSCAN', K.wf(wf, 'emitted'), cursor, 'COUNT', 1000)
            cursor = page[1]
            for i = 1, #page[2], 2 do
                if settled_of[tonumber(page[2][i]:match('^%d+'))] then
                    local record = cmsgpack.unpack(page[2][i + 1])
                    emitted = emitted + record[1]
                    if call('HEXISTS', K.wf(wf, 'params'), record[2]) == 0 then
                        find(place .. ': the last job of the eager source ' .. page[2][i] .. ' is not there')
                    end
                end
            end
        until cursor == '0'
        local there = G.step(wf, step.feeds).total
        if emitted > there then
            find(place .. ': its eager sources have emitted ' .. emitted .. ' jobs, but step ' .. step.feeds .. ' has ' .. there)
        end
    end
    if not busy then
        local explained = 0
        for number in (call('HGET', K.wf(wf, 'error-list'), step.step) or ''):gmatch('%d+') do
            explained = explained + tonumber(call('HGET', K.wf(wf, 'error-jobs'), step.step .. ':' .. number) or 0)
        end
        expect(place, 'its count of failed jobs by error', explained, counted.failed)
        if step.children then
            local at_work, last, of = 0, nil, hex(step.step, 8)
            for _, member in ipairs(call('ZREVRANGEBYLEX', K.wf(wf, 'children'), '(' .. of .. '~', '[' .. of)) do
                if member:sub(9, 20) ~= last and not is_finished(G.workflow(unhex(member:sub(22))).state) then at_work = at_work + 1 end
                last = member:sub(9, 20)
            end
            if counted.deferred > at_work then
                find(place .. ': ' .. counted.deferred .. ' of its jobs wait for workflows, of which ' .. at_work .. ' are at work')
            end
        end
        local unsettled = unsettled_jobs(counted)
        if step.state >= STEP.succeeded and unsettled > 0 then
            find(place .. ' is ' .. STEP_WORDS[step.state] .. ', but ' .. unsettled .. ' of its jobs are not settled')
        elseif step.state == STEP.running and step.pending == 0 and unsettled == 0 and workflow.state ~= WF.standing then
            find(place .. ' is running, but all of its jobs are settled')
        end
    end
    check_edges(wf, step, place)
    return counted
end

function DO.doctor_of_workflow()
    local wf = tonumber(call('HGET', K.ids, arg.workflow) or nil)
    if not wf then return { findings = {}, steps = 0, jobs = 0 } end
    local workflow = G.workflow(wf)
    if workflow.state == WF.building or workflow.state == WF.deleting then return { findings = {}, steps = 0, jobs = 0 } end
    local place = 'workflow ' .. arg.shown
    local chores = 0
    for _, name in ipairs(call('SMEMBERS', K.wf(wf, 'chores'))) do
        if name:sub(1, 5) ~= 'drop:' then chores = chores + 1 end
        local state = call('HGET', K.chore_state, name)
        local why = state and cmsgpack.unpack(state).error
        if why then find(place .. ': the chore `' .. name:match('^[%a ]+') .. '` is set aside: ' .. why) end
    end
    local jobs, unsettled, active, failed = {}, 0, 0, 0
    for _, name in ipairs(COUNTS) do jobs[name] = 0 end
    for number = 0, workflow.steps - 1 do
        local step = G.step(wf, number)
        local name = cmsgpack.unpack(call('HGET', K.wf(wf, 'about'), number))[1]
        local busy = chores > 0 or workflow.state == WF.cancelling
        local counted = check_step(wf, workflow, step, place .. ', step `' .. name .. '`', busy)
        for _, count in ipairs(COUNTS) do jobs[count] = jobs[count] + counted[count] end
        if step.state < STEP.succeeded then unsettled = unsettled + 1 end
        if step.state == STEP.running then active = active + 1 end
        if step.state == STEP.failed then failed = failed + 1 end
        if (step.failed > 0) ~= (call('ZSCORE', K.wf(wf, 'failing'), number) and true or false) then
            find(place .. ', step `' .. name .. '` is listed wrongly among those with failed jobs')
        end
    end
    for _, name in ipairs(COUNTS) do expect(place, 'its count of jobs (' .. name .. ')', workflow[name], jobs[name]) end
    expect(place, 'its count of unsettled steps', workflow.unsettled, unsettled)
    expect(place, 'its count of active steps', workflow.active, active)
    expect(place, 'its count of failed steps', workflow.failed_steps, failed)
    expect(place, 'its count of chores', workflow.chores, chores)
    if is_finished(workflow.state) and (active > 0 or chores > 0) then
        find(place .. ' is ' .. WF_WORDS[workflow.state] .. ', but ' .. active .. ' of its steps are running and it has ' .. chores ..
            ' chores')
    end
    local at_work = workflow.state == WF.pending or workflow.state == WF.running or workflow.state == WF.cancelling
    if at_work and active == 0 and chores == 0 then
        find(place .. ' is ' .. WF_WORDS[workflow.state] .. ', but nothing in it can move')
    end
    local missing = false
    G.each_list(workflow, workflow.state, function(key) missing = missing or not call('ZSCORE', key, G.list_member(workflow)) end)
    if missing then find(place .. ' is missing in a list') end
    local key = call('HGET', K.wf(wf, 'head'), 'key')
    if key and (G.holder(workflow.name, key) == wf) == is_finished(workflow.state) then
        find(place .. (is_finished(workflow.state) and ' has finished and holds its key' or ' is at work without its key'))
    end
    local is_held = workflow.batch == BATCH.open and call('EXISTS', K.draft(workflow.opened_by)) == 1
    if workflow.batch == BATCH.open and workflow.state < WF.cancelling and not is_held then find(place .. ' is open, and nobody holds it') end
    if not is_finished(workflow.state) and call('ZSCORE', K.expiry, wf) then find(place .. ' is unfinished and expires') end
    return { findings = findings, steps = workflow.steps, jobs = jobs.total, lane = workflow.state == WF.standing }
end

-- Every field of a hash with its value.
local function each_field(key, visit)
    local cursor = '0'
    repeat
        local page = call('HSCAN', key, cursor, 'COUNT', 1000)
        cursor = page[1]
        for i = 1, #page[2], 2 do visit(page[2][i], page[2][i + 1]) end
    until cursor == '0'
end

-- Recounts the jobs of each key that limits them, and returns how many of their turns and keys are there only while something is under way.
local function check_keys()
    local under_way, counted, waiting = 0, {}, {}
    for _, turn in ipairs(call('ZRANGE', K.turns, 0, -1)) do
        local name = turn:match('^(.*)%z')
        waiting[name] = (waiting[name] or 0) + 1
        under_way = under_way + 1
    end
    for _, member in ipairs(call('ZRANGE', K.list(WF.standing, nil), 0, -1)) do
        local wf = G.find(member:sub(13))
        if has_keys(G.step(wf, 0), LIMITED) then
            for _, chunk in ipairs(G.chunks_from(wf, 0, 0, 1e9)) do
                local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
                for _, one in ipairs(keys_of(wf, chunk.chunk)) do
                    if one[2] then
                        local name = name_of(wf, one[2])
                        local count = counted[name] or { jobs = 0, admitted = 0 }
                        count.jobs = count.jobs + 1
                        if state_of(bytes:byte(one[1] + 1)) == OPEN then count.admitted = count.admitted + 1 end
                        counted[name] = count
                    end
                end
            end
        end
    end
    each_field(K.limited, function(name, text)
        local row, count = unpack_row(text, LIMITED_FIELDS), counted[name] or { jobs = 0, admitted = 0 }
        local place = 'type and key `' .. name:gsub('%z', ' ') .. '`'
        expect(place, 'its count of jobs', row.jobs, count.jobs)
        expect(place, 'its count of jobs that have been admitted', row.admitted, count.admitted)
        expect(place, 'its count of jobs that wait for their turn', row.waiting, waiting[name] or 0)
        waiting[name] = nil
        counted[name] = nil
    end)
    for name in pairs(counted) do find('type and key `' .. name:gsub('%z', ' ') .. '` has jobs and no row') end
    for name in pairs(waiting) do find('type and key `' .. name:gsub('%z', ' ') .. '` has jobs that wait and no row') end
    each_field(K.sole, function(_, text)
        local there = cmsgpack.unpack(text)
        if not there.due then
            under_way = under_way + 1
            if call('HEXISTS', K.wf(there.wf, 'params'), there.chunk) == 0 then find('a key is held by a job that is not there') end
        end
    end)
    return under_way
end

-- How many permits sessions have; each limit's sums must be those of what sessions have of it.
local function permits_under_way()
    local taken, reserved, count = {}, {}, 0
    for _, id in ipairs(call('ZRANGE', K.permit_ends, 0, -1)) do
        if call('EXISTS', K.session(id)) == 0 then find('session ' .. id .. ' is not there and has permits') end
        G.each_permit(id, function(name, mine)
            taken[name], reserved[name] = (taken[name] or 0) + mine.hold, (reserved[name] or 0) + mine.reserved
            if mine.hold > 0 or mine.reserved > 0 then count = count + 1 end
            if mine.waiting and not call('ZSCORE', K.waiting_for(name), id) then find('session ' .. id .. ' waits for ' .. name .. ' in no line') end
        end)
    end
    local cursor = '0'
    repeat
        local page = call('HSCAN', K.limits, cursor, 'COUNT', 1000)
        cursor = page[1]
        for i = 1, #page[2], 2 do
            local name = page[2][i]
            local row = G.limit_row(name)
            expect('the limit ' .. name, 'its count of permits', row.taken, taken[name] or 0)
            expect('the limit ' .. name, 'its count of reserved starts', row.reserved, reserved[name] or 0)
        end
    until cursor == '0'
    return count
end

-- What of a family of keys is there only while something is under way.
function DO.doctor_of_shard()
    local under_way = 0
    for _, key in ipairs({ K.leases, K.chores, K.drafts }) do under_way = under_way + call('ZCARD', key) end
    under_way = under_way + permits_under_way()
    for _, key in ipairs(call('ZRANGEBYSCORE', K.drafts, NEVER, '+inf')) do
        local text = call('HGET', K.draft(key), 'row')
        local draft = text and cmsgpack.unpack(text) or {}
        local covered = draft.kept and call('HGET', K.wf(draft.of_wf, 'covered'), draft.kept)
        if not covered or cmsgpack.unpack(covered)[1] ~= key then find('the draft ' .. key .. ' is kept for no checkpoint') end
    end
    local cursor = '0'
    repeat
        local page = call('HSCAN', K.held, cursor, 'COUNT', 1000)
        cursor = page[1]
        for i = 2, #page[2], 2 do
            under_way = under_way + 1
            local wf = page[2][i]:match('^%d+')
            if call('EXISTS', K.wf(wf, 'head')) == 0 then find('a key is held by a workflow that is not there') end
        end
    until cursor == '0'
    for _, wf in ipairs(call('ZRANGE', K.expiry, 0, -1)) do
        if call('EXISTS', K.wf(wf, 'head')) == 0 then
            find('workflow number ' .. wf .. ' expires and is not there')
        elseif G.workflow(tonumber(wf)).state == WF.deleting then
            under_way = under_way + 1
        end
    end
    for _, name in ipairs(call('ZRANGE', K.leases, 0, -1)) do
        local lease = G.lease_named(name)
        if not lease then
            find('the lease ' .. name .. ' has a deadline but no row')
        elseif call('EXISTS', K.wf(lease.wf, 'head')) == 0 then
            find('the lease ' .. name .. ' is of a workflow that is not there')
        elseif call('EXISTS', K.session(lease.session)) == 0 then
            find('the lease ' .. name .. ' is of a session that is not there')
        end
    end
    for _, name in ipairs(call('ZRANGE', K.timers, 0, -1)) do
        local wf, timer = name:match('^(%d+):(%x+)$')
        local text = call('HGET', K.wf(wf, 'timer-jobs'), timer)
        if not text then
            find('the timer ' .. name .. ' has a time but no jobs')
        elseif cmsgpack.unpack(text)[2] ~= '' or unhex(timer:sub(23)) == 0 then
            -- What a lane keeps for a while has come to rest.
            under_way = under_way + 1
        end
    end
    for _, name in ipairs(call('ZRANGE', K.chores, 0, -1)) do
        if call('HEXISTS', K.chore_state, name) == 0 then find('the chore ' .. name .. ' has a turn but no row') end
    end
    for line = 1, tonumber(call('HGET', K.shard, 'last_line') or 0) do
        for _, wf in ipairs(call('ZRANGE', K.places(line), 0, -1)) do
            under_way = under_way + 1
            local steps = call('ZRANGE', K.ready(line, wf), 0, -1, 'WITHSCORES')
            if #steps == 0 then find('workflow number ' .. wf .. ' has a place in line ' .. line .. ' without a step') end
            if call('EXISTS', K.wf(wf, 'head')) == 0 then
                find('workflow number ' .. wf .. ' has a place in line ' .. line .. ' but is not there')
            else
                local state = G.workflow(tonumber(wf)).state
                local parked = tonumber(call('ZSCORE', K.places(line), wf)) >= PARKED
                local resumes = call('SISMEMBER', K.wf(wf, 'chores'), 'resume:' .. wf .. ':0:0') == 1
                if parked and not resumes and (state == WF.pending or state == WF.running) and #steps > 0 and tonumber(steps[2]) < PARKED then
                    find('workflow number ' .. wf .. ' is parked in line ' .. line .. ' for nothing')
                end
                if not parked and call('SISMEMBER', K.active, line) == 0 then find('line ' .. line .. ' has work but is not among the active') end
            end
        end
    end
    under_way = under_way + check_keys()
    local ids = {}
    for _, list in ipairs({ K.list(nil, nil), K.list(WF.standing, nil) }) do
        for _, member in ipairs(call('ZRANGE', list, 0, -1)) do ids[#ids + 1] = member:sub(13) end
    end
    local lost = call('HMGET', K.shard, 'lost', 'lost_at')
    return {
        findings = findings, under_way = under_way, leases = call('ZCARD', K.leases), ids = ids, lost = tonumber(lost[1] or nil),
        lost_at = tonumber(lost[2] or nil),
    }
end
