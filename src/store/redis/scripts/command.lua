-- What people command: cancel, pause, resume, retry, delete.

local DO = {}

local function refuse(text) fail('refused', 'workflow ' .. arg.shown .. ' ' .. text) end

-- The workflow of a command. A lane only looks like one.
local function commanded()
    local workflow = G.workflow(G.find(arg.workflow))
    if workflow.state == WF.standing then
        fail('refused', arg.shown .. ' is a lane of lone jobs and no workflow: it cannot be cancelled, paused, kept or deleted; ' ..
            '`pause --type NAME` pauses its jobs, `jobs cancel` cancels them')
    end
    return workflow
end

-- Refuses what only the workflow as a whole can be told that a child belongs to.
local function refuse_child(workflow, what)
    local parent = G.kept(workflow).parent
    if not parent then return end
    local id = G.workflow(parent.wf).id
    refuse('stands for a job of workflow ' .. id:gsub('^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)', '%1-%2-%3-%4-') ..
        ' and lives as long as that one: it cannot be ' .. what .. ' by itself')
end

-- Raises the flag that every claim, release and timer looks at; the rest is a chore.
function DO.cancel()
    local workflow = commanded()
    local state = workflow.state
    if state == WF.cancelling or state == WF.cancelled then return {} end
    if state ~= WF.pending and state ~= WF.running and state ~= WF.paused then
        refuse('is ' .. WF_WORDS[state] .. '; there is nothing to cancel')
    end
    workflow.state = WF.cancelling
    workflow.grace_until = G.advance_lease_time(arg.lease) + math.max(arg.grace, 0)
    G.put_workflow(workflow)
    G.let_go_of_batch(workflow)
    -- Places that a pause has parked may hold `always` steps.
    G.unpark_places(workflow.wf, 0)
    G.leave_chore('cancel', workflow.wf, 0, 0, 0)
    G.flush()
    return {}
end

function DO.pause()
    local workflow = commanded()
    if workflow.state == WF.paused then return {} end
    if workflow.state ~= WF.pending and workflow.state ~= WF.running then
        refuse('is ' .. WF_WORDS[workflow.state] .. '; only a pending or running one can be paused')
    end
    workflow.state = WF.paused
    G.put_workflow(workflow)
    G.flush()
    return {}
end

function DO.resume()
    local workflow = commanded()
    if workflow.state == WF.pending or workflow.state == WF.running then return { woken = {} } end
    if workflow.state ~= WF.paused then
        refuse('is ' .. WF_WORDS[workflow.state] .. '; only a paused one can be resumed')
    end
    workflow.state = workflow.started_at and WF.running or WF.pending
    G.put_workflow(workflow)
    G.unpark_places(workflow.wf, 0)
    G.flush()
    return { woken = G.wake() }
end

-- Raises the flag of a queue or a type, at which every claim looks, or takes it down.
function DO.set_paused()
    local name = arg.kind .. ':' .. arg.name
    if arg.paused then
        call('SADD', K.paused, name)
        return { woken = {} }
    end
    if call('SREM', K.paused, name) == 0 then return { woken = {} } end
    -- Who is woken wakes others.
    for _, line in ipairs(call('SRANDMEMBER', K.active, 50)) do
        local of = call('HGET', K.line(line), arg.kind == 'q' and 'queue' or 'type')
        if of == arg.name then feed(tonumber(line)) end
    end
    return { woken = G.wake() }
end

-- What was cancelled is not repaired, nor what is being built or deleted.
local function refuse_repair(state)
    if state == WF.cancelling or state == WF.cancelled then refuse('was cancelled; `start-again` runs it anew') end
    if state == WF.building or state == WF.deleting then refuse('is ' .. WF_WORDS[state] .. '; there is nothing to retry') end
end

-- Refuses what cannot be said of a batch: its jobs came from programs, and may add others. What runs at its end may run again.
local function refuse_batch(workflow)
    if not workflow.batch then return end
    refuse('is a batch: none of its steps is skipped or given an output, and only `on_success` and `on_complete` are run again; `retry` runs what ' ..
        'failed again, `discard` gives it up')
end

-- Whether a step of a batch is what runs on its success or completion.
local function runs_at_the_end(step)
    if step.step == BATCH.step or step.grows then return false end
    local prefix = hex(step.step, 8)
    local first = call('ZRANGEBYLEX', K.wf(step.wf, 'up'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 1)[1]
    return not first or tonumber(first:sub(17)) ~= EDGE.death
end

-- A finished workflow is to be at work again: it takes its key, if nobody else has it; else who has.
local function take_up_again(workflow)
    if not is_finished(workflow.state) then return nil end
    local held_by = G.take_key_again(workflow)
    if held_by then return held_by end
    workflow.state, workflow.finished_at = WF.running, nil
    G.put_workflow(workflow)
end

-- Does what a command asks for, once: one that was sent again is answered as it was.
local function once(begin)
    local answer = G.answered_before()
    if answer then return answer end
    answer = begin()
    G.note_answer(answer)
    G.flush()
    return answer
end

local function begin_retry()
    local wf = G.find(arg.workflow)
    local workflow = G.workflow(wf)
    refuse_repair(workflow.state)
    local jobs = arg.step and G.step(wf, arg.step).failed or workflow.failed
    if workflow.batch and not arg.discard and (not arg.step or arg.step == BATCH.step) then
        -- No retry opens a batch again that was abandoned; that may be discarded.
        jobs = jobs - G.step(wf, BATCH.step).failed
    end
    if jobs == 0 then return { jobs = 0, more = false } end
    if arg.mended and arg.discard then fail('usage', 'what is discarded needs no mended parameters') end
    if arg.mended and not arg.step then fail('usage', 'mended parameters belong to one step; name it') end
    local draft = arg.mended and G.draft(arg.mended)
    if arg.mended and not (draft and draft.of_wf == wf and draft.of_step == arg.step) then
        fail('refused', 'the mended parameters are gone: they were not renewed in time, or the workflow has been started again since')
    end
    local held_by = take_up_again(workflow)
    if held_by then return { jobs = 0, more = false, held_by = held_by } end
    local segment = draft and draft.segment or 0
    if draft then G.end_draft(draft) end
    if arg.step then
        G.leave_chore('reopen', wf, arg.step, 0, arg.discard and -1 or segment)
    else
        G.leave_chore('retry', wf, 0, 0, arg.discard and -1 or 0)
    end
    return { jobs = jobs, more = true }
end

-- Notes that failed jobs are to run again; a chore brings them back, each step held while it does.
function DO.retry() return once(begin_retry) end

local function begin_to_run_again()
    local workflow = commanded()
    refuse_repair(workflow.state)
    local step = G.step(workflow.wf, arg.step)
    if not runs_at_the_end(step) then refuse_batch(workflow) end
    -- Nothing of it has run, and nothing will before its edges say so.
    if G.is_untouched(step) then return { jobs = 0, more = false } end
    local held_by = take_up_again(workflow)
    if held_by then return { jobs = 0, more = false, held_by = held_by } end
    G.leave_chore('run again', workflow.wf, arg.step, 0, arg.again)
    return { jobs = step.total, more = true }
end

-- Notes that a step is to run again; a chore takes it back, with what comes after it.
function DO.run_again() return once(begin_to_run_again) end

local function begin_to_decide()
    local workflow = commanded()
    refuse_repair(workflow.state)
    refuse_batch(workflow)
    local wf = workflow.wf
    local step = G.step(wf, arg.step)
    local jobs, chunk = step.total - step.succeeded - step.skipped, nil
    if arg.index then
        chunk = G.find_chunk(wf, arg.step, arg.index)
        if not chunk then fail('not_found', 'the step has no job #' .. text_of(arg.index)) end
        local state = state_of(G.bytes(wf, chunk.chunk, chunk.jobs):byte(arg.index - chunk.first + 1))
        if not arg.record then
            jobs = (state == SUCCEEDED or state == SKIPPED or state == 7) and 0 or 1
        elseif state ~= SUCCEEDED and state ~= FAILED then
            fail('refused', 'job #' .. text_of(arg.index) .. ' is ' .. JOB_WORDS[state] ..
                '; only one that has failed or succeeded can be given an output (`skip` ends it without one)')
        elseif step.children then
            fail('refused', 'job #' .. text_of(arg.index) ..
                ' stands for a workflow, whose output is its own: replace that of the job which the workflow returns')
        else
            jobs = 1
        end
    end
    local is_open = step.state == STEP.waiting and not step.decided
    if jobs == 0 and (arg.index or step.total > 0 or not is_open) then return { jobs = 0, more = false } end
    local held_by = take_up_again(workflow)
    if held_by then return { jobs = 0, more = false, held_by = held_by } end
    -- It counts as soon as the job's state is the one that it tells.
    if arg.record then G.add_record(wf, chunk.chunk, blob(arg.record)) end
    local argument = not arg.index and -3 or (arg.record and -5 or -4) - 2 * arg.index
    G.leave_chore('reopen', wf, arg.step, 0, argument)
    return { jobs = jobs, more = true }
end

-- Notes what a person has decided about jobs; a chore brings it about.
function DO.decide_by_hand() return once(begin_to_decide) end

-- A step that paused since too many of its jobs had failed goes on.
function DO.resume_step()
    local answer = G.answered_before()
    if not answer then
        local workflow = commanded()
        local state = workflow.state
        if state < WF.pending or state > WF.cancelling then
            refuse('is ' .. WF_WORDS[state] .. '; only a step of one that is at work can be resumed')
        end
        local step = G.step(workflow.wf, arg.step)
        -- One that waits for its failed source has nothing to go on with.
        local was_paused = step.exceeded and step.policy == OR_PAUSE and step.state == STEP.running or false
        if was_paused then G.forgive(step) end
        answer = { was_paused = was_paused }
        G.note_answer(answer)
        G.flush()
    end
    answer.woken = G.wake()
    return answer
end

-- Changes for how long a workflow is kept.
function DO.keep()
    local workflow = commanded()
    if workflow.state == WF.deleting then G.no_workflow() end
    refuse_child(workflow, 'kept')
    local ended = is_finished(workflow.state)
    local kept, head = G.kept(workflow), K.wf(workflow.wf, 'head')
    if arg.how == 'now' then
        if kept.pinned or not ended then return {} end
        G.expire_at(workflow, now())
        return { expires_at = now() }
    end
    if arg.how == 'pin' then
        call('HSET', head, 'pinned', 1)
        if ended then G.forget_expiry(workflow) end
        return {}
    end
    call('HDEL', head, 'pinned')
    local from = workflow.finished_at
    if arg.how == 'expire' then
        call('HSET', head, 'retention', arg.retention)
        kept.retention, from = cjson.decode(arg.retention), now()
    end
    if not ended then return {} end
    G.forget_expiry(workflow)
    G.expire(workflow, kept.retention[WF_WORDS[workflow.state]], from)
    local at = call('ZSCORE', K.expiry, workflow.wf)
    return { expires_at = at and tonumber(at) < NEVER and tonumber(at) or nil }
end

-- Takes a finished workflow off all lists; a chore deletes it.
function DO.delete()
    local workflow = commanded()
    if workflow.state == WF.deleting then return {} end
    refuse_child(workflow, 'deleted')
    if not is_finished(workflow.state) then
        refuse('is ' .. WF_WORDS[workflow.state] .. '; cancel it before deleting it')
    end
    workflow.state = WF.deleting
    G.put_workflow(workflow)
    G.leave_chore('delete', workflow.wf, 0, 0, 0)
    G.flush()
    return {}
end
