-- What a source has emitted becomes part of the step that it feeds.

-- Whether a timer will put all jobs of a step into its line.
local function is_delayed(step)
    if step.delay == 0 then return false end
    local prefix = hex(step.step, 8)
    for _, timer in ipairs(call('ZRANGEBYLEX', K.wf(step.wf, 'timers'), '[' .. prefix, '(' .. prefix .. '~', 'LIMIT', 0, 1)) do
        if unhex(timer:sub(23)) == 0 then return true end
    end
    return false
end

-- Moves a source's draft into the step that it feeds.
function G.adopt(key, wf, number)
    local draft = G.draft(key)
    if not draft or draft.of_wf ~= wf or draft.of_step ~= number then fail('refused', "the source's draft is gone") end
    local fed, workflow = G.step(wf, number), G.workflow(wf)
    local first = fed.total
    if workflow.state == WF.cancelling and not fed.always or fed.state >= STEP.succeeded or fed.decided then
        -- The workflow was cancelled while the source ran: a settled step gets no further jobs.
        return G.collect_draft(draft)
    end
    G.end_draft(draft)
    if draft.jobs == 0 then
        call('HDEL', K.wf(wf, 'lengths'), draft.segment)
        return
    end
    call('ZADD', K.wf(wf, 'segments'), 0, hex(number, 8) .. hex(first, 12) .. hex(draft.segment, 8))
    G.jobs_came(fed, draft.jobs)
end

-- Jobs have come to the end of a step that is fed: they are counted, and may begin.
function G.jobs_came(fed, jobs)
    local wf, number, first, workflow = fed.wf, fed.step, fed.total, G.workflow(fed.wf)
    fed.total, workflow.total = fed.total + jobs, workflow.total + jobs
    G.put_step(fed)
    G.put_workflow(workflow)
    G.lengthen_chain(fed, first, jobs)
    local waits_for_one = fed.pending + fed.waits == 1 and fed.skips + fed.cancels == 0
    if fed.state == STEP.waiting and not fed.released_at and waits_for_one and fed.delay == 0 then
        -- It waits for nothing but its source, so it begins with the jobs that are there.
        G.release(fed)
    elseif fed.released_at and not is_delayed(fed) then
        G.rouse(fed)
        G.enqueue_all(fed, first)
    end
    -- They are there, so that a retry of their step runs them, too, and are cancelled with the rest.
    if is_failing_fast(fed) then G.leave_chore('stop rest', wf, number, first, 0) end
end
