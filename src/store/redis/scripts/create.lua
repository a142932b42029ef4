-- Making a workflow, and writing drafts.

local DO = {}

local GONE = 'the draft is gone: it was not renewed in time, and nothing of it is left'

local function add_to_segment(draft, parts)
    local wf = draft.of_wf
    for _, part in ipairs(parts) do
        if part.t == 'jobs' then
            add_chunk(wf, draft.segment, draft.jobs, part)
            draft.jobs = draft.jobs + part.jobs
        else
            local body = part.body and blob(part.body) or ''
            count_bytes(#body)
            local n = call('HINCRBY', K.wf(wf, 'mends'), draft.segment, 1)
            call('HSET', K.wf(wf, 'mends'), draft.segment .. ':' .. n,
                cmsgpack.pack({ part.chunk, part.first, blob(part.mask), body }))
        end
    end
    call('HSET', K.wf(wf, 'lengths'), draft.segment, draft.jobs)
end

local NO_KEY = 'a workflow with a key takes it first, by `begin`'

-- Takes a workflow's key for a draft that it makes, or tells who has it. Sent again it renews the draft.
function DO.begin()
    local new, draft = arg.workflow, G.draft(arg.draft)
    if not new.key then fail('usage', 'only a workflow with a key has to begin') end
    local begun = not draft and G.what_is_in_the_way(new)
    if begun then return begun end
    local deadline = G.advance_lease_time(arg.lease) + arg.lease
    if not draft then
        draft = { key = arg.draft, next = 1, jobs = 0, wf = begin_workflow(new) }
        G.take_key(draft.wf, new.id, new.name, new.key)
    end
    G.put_draft(draft, deadline)
    G.flush()
    return {}
end

function DO.abandon()
    G.abandon(arg.draft)
    G.cascade()
    G.flush()
    return {}
end

-- Keeps a batch open.
function DO.hold_open()
    local draft, workflow = G.draft(arg.draft), G.batch_of(arg)
    if not draft and workflow.batch == BATCH.abandoned then
        fail('refused', 'batch ' .. arg.shown .. ' has been abandoned: nobody told the store in time that it is still held open; ' ..
            'it runs to its end with what it has')
    elseif not draft then
        fail('refused', 'batch ' .. arg.shown .. ' is ' .. WF_WORDS[workflow.state] .. ' and not held open by this client (any more)')
    end
    G.put_draft(draft, G.advance_lease_time(arg.lease) + arg.lease)
    G.flush()
    return {}
end

function DO.append()
    local key = arg.draft
    local draft = G.draft(key)
    if not draft and arg.number > 0 then fail('refused', GONE) end
    if draft and arg.number > draft.next then
        fail('usage', 'part ' .. arg.number .. ' of a draft came before part ' .. draft.next)
    end
    local into_step = arg.of.workflow ~= nil
    if not draft and not into_step and arg.of.new.key then fail('usage', NO_KEY) end
    local of_wf
    if into_step then
        if draft then
            of_wf = draft.of_wf
            if call('EXISTS', K.wf(of_wf, 'head')) == 0 then fail('refused', GONE) end
        elseif arg.of.added then
            local workflow = G.batch_of({ workflow = arg.of.workflow, shown = arg.shown })
            of_wf = workflow.wf
            -- What a job of it adds while it is being cancelled is collected with its report.
            if is_finished(workflow.state) or workflow.state == WF.deleting then G.refuse_late(workflow, arg.shown) end
        else
            of_wf = G.find(arg.of.workflow)
            local has_parameters = arg.of.jobs
            for _, part in ipairs(arg.parts) do has_parameters = has_parameters or part.body end
            if has_parameters and G.step(of_wf, arg.of.step).follows then
                fail('usage', 'step ' .. arg.of.step .. ' of this workflow is chained: its jobs are made of those before them')
            end
            local state = G.workflow(of_wf).state
            local is_cancelled = state == WF.cancelling or state == WF.cancelled
            if G.step(of_wf, arg.of.step).state >= STEP.succeeded and arg.of.jobs and not is_cancelled then
                fail('refused', 'step ' .. arg.of.step .. ' of this workflow has settled: no jobs can be added to it any more; ' ..
                    '`start-again` runs the workflow anew')
            end
        end
    end
    check_parts(arg.parts, into_step)
    local deadline = G.advance_lease_time(arg.lease) + arg.lease
    if not draft then
        draft = { key = key, next = 0, jobs = 0 }
        if into_step then
            draft.of_wf, draft.of_step, draft.segment = of_wf, arg.of.step, new_segment(of_wf)
            draft.spec = arg.of.added
        else
            draft.wf = begin_workflow(arg.of.new)
        end
    end
    if arg.number == draft.next then
        if draft.wf then add_parts(draft.wf, arg.parts) else add_to_segment(draft, arg.parts) end
        draft.next = draft.next + 1
    end
    G.put_draft(draft, deadline)
    write_numbers()
    G.flush()
    return {}
end


function DO.create()
    local new = arg.workflow
    local there = call('HGET', K.ids, new.id)
    local draft = arg.draft and G.draft(arg.draft)
    if there then
        there = G.workflow(tonumber(there))
        if not arg.again or there.generation >= new.generation then
            if draft then G.collect_draft(draft) end
            G.flush()
            return { existed = true, more = false, woken = {} }
        end
        if not is_finished(there.state) then
            fail('refused', 'the workflow is ' .. WF_WORDS[there.state] ..
                '; only a finished one can be started again (cancel it first)')
        end
    end
    if not there and new.occurrence and G.is_decided(new.occurrence) then
        if draft then G.collect_draft(draft) end
        G.flush()
        return { existed = true, more = false, woken = {} }
    end
    if arg.draft and not (draft and draft.wf) then fail('refused', GONE) end
    if not arg.draft and new.key then fail('usage', NO_KEY) end
    check_parts(arg.parts, false)
    local parent, outer = new.parent and G.parent_of_new(new.parent), nil
    for _, part in ipairs(arg.parts) do
        if part.t == 'within' then
            parent, outer = G.batch_that_takes_jobs(part).wf, part
            if part.jobs ~= 1 or not G.stands_for_batches(part.step) then
                fail('usage', 'a batch within another one stands for one job of a step of such batches')
            end
            G.check_added(parent, part.step, part.jobs)
        end
    end
    if there then
        G.leave_parent(there)
        -- It loses its id, and is deleted.
        local member = G.list_member(there)
        G.each_list(there, there.state, function(key) call('ZREM', key, member) end)
        call('HDEL', K.ids, new.id)
        call('HDEL', K.wf(there.wf, 'head'), 'id')
        G.forget_expiry(there)
        there.state, there.id = WF.deleting, nil
        G.put_workflow(there)
        G.leave_chore('delete', there.wf, 0, 0, 0)
    end
    local wf
    if draft then
        wf = draft.wf
        G.end_draft(draft)
    else
        wf = begin_workflow(new)
    end
    add_parts(wf, arg.parts)
    for _, part in ipairs(arg.parts) do
        if part.t == 'open' then
            local row, deadline = G.workflow(wf), G.advance_lease_time(part.lease) + part.lease
            row.batch, row.opened_by = BATCH.open, part.draft
            G.put_draft({ key = part.draft, next = 1, jobs = 0, of_wf = wf, holds = true }, deadline)
        end
    end
    call('HSET', K.wf(wf, 'head'), 'id', new.id)
    call('HSET', K.ids, new.id, wf)
    if parent then G.add_child(parent, outer and G.stand_for(parent, outer) or new.parent, wf) end
    -- What was added is read again from here on.
    write_numbers()
    G.write_batches()
    local workflow = G.workflow(wf)
    workflow.id, workflow.state, workflow.created_at = new.id, WF.pending, now()
    G.put_workflow(workflow)
    if new.occurrence then G.decide(new.occurrence, OCCURRENCE.started, new.id) end
    if waits(new) then G.stop_waiting(new.id) end
    G.to_finish[wf] = true
    G.release_roots(wf, 0)
    G.cascade()
    local more = workflow.chores > 0
    G.flush()
    return { existed = false, more = more, woken = G.wake() }
end

-- Takes lone jobs into their lanes.
function DO.enqueue()
    local before = G.answered_before()
    if before then return { firsts = before[1], refused = before[2], woken = {} } end
    for _, jobs in ipairs(arg.jobs) do check_lone(jobs) end
    local nexts, firsts, refused = {}, {}, {}
    for i, jobs in ipairs(arg.jobs) do
        local first, not_taken = add_lone(jobs, nexts)
        firsts[i] = first
        for _, one in ipairs(not_taken) do
            one.of = i - 1
            refused[#refused + 1] = one
        end
    end
    G.note_answer({ firsts, refused })
    write_numbers()
    G.admit()
    G.flush()
    return { firsts = firsts, refused = refused, woken = G.wake() }
end
