-- Giving a signal to a step that waits for it.

local DO = {}

local function refuse(text) fail('refused', 'workflow ' .. arg.shown .. ' ' .. text) end

-- The step of that name and what it waits for, if it may be given the signal; and when it was, if it has been.
local function awaiting_step(workflow)
    local wf = workflow.wf
    local number = tonumber(call('HGET', K.wf(wf, 'names'), arg.name) or nil)
    if not number then
        fail('not_found', 'workflow ' .. arg.shown .. ' has no step `' .. arg.name .. '` that waits for a signal')
    end
    local step, of = G.step(wf, number), '`' .. arg.name .. '` of workflow ' .. arg.shown
    local awaited = step.awaits and G.awaited(wf, number)
    if not awaited or not awaited.type then fail('usage', 'step ' .. of .. ' waits for no signal') end
    if awaited.type ~= arg.signal_type then
        fail('usage', of .. ' waits for a signal of type `' .. awaited.type .. '`, and this one is of type `' .. arg.signal_type .. '`')
    end
    if awaited.signalled_at then return step, awaited end
    local state = workflow.state
    if (state == WF.cancelling or state == WF.cancelled) and not (state == WF.cancelling and step.always) then
        refuse('was cancelled and takes no signals any more; `start-again` runs it anew')
    end
    if state ~= WF.pending and state ~= WF.running and state ~= WF.paused and state ~= WF.cancelling then
        refuse('is ' .. WF_WORDS[state] .. ' and takes no signals any more' ..
            (state == WF.failed and '; `retry` lets what failed wait anew' or ''))
    end
    if step.state >= STEP.succeeded or step.decided then
        local words = { [STEP.succeeded] = 'succeeded', [STEP.failed] = 'failed', [STEP.skipped] = 'skipped', [STEP.cancelled] = 'cancelled' }
        fail('refused', of .. ' is ' .. (words[step.state] or 'passed over') .. ' and waits no more' ..
            (step.state == STEP.failed and '; `retry` lets it wait anew' or ''))
    end
    return step, awaited
end

local function take_signal()
    local workflow = G.workflow(G.find(arg.workflow))
    local step, awaited = awaiting_step(workflow)
    if awaited.signalled_at then return { already = awaited.signalled_at, kept = false } end
    local wf, number = step.wf, step.step
    local chunk = G.chunk_at(wf, number, 0)
    local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
    local waits = M.where(bytes, function(byte) return state_of(byte) == DEFERRED end)
    local prefix = hex(number, 8)
    local timers = waits ~= '' and call('ZRANGEBYLEX', K.wf(wf, 'timers'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 10) or {}
    G.add_record(wf, chunk.chunk, blob(arg.record))
    awaited.signalled_at = now()
    call('HSET', K.wf(wf, 'awaited'), number, pack(awaited, AWAITED_FIELDS))
    if waits ~= '' then
        for _, timer in ipairs(timers) do G.drop_timer(wf, timer) end
        G.settle_jobs(wf, number, chunk, bytes, waits, SUCCEEDED)
        G.check_settled(wf, number)
        G.cascade()
    end
    return { kept = waits == '' }
end

function DO.signal()
    local answer = G.answered_before()
    if answer then
        answer.more, answer.woken = G.has_chores(), {}
        return answer
    end
    answer = take_signal()
    G.note_answer(answer)
    G.flush()
    answer.more = G.has_chores()
    answer.woken = G.wake()
    return answer
end
