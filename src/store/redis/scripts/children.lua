-- What becomes of jobs by their workflows, and of workflows by what their whole comes to.

local BY_CHILD = -2

-- A child has succeeded in the end: the workflow that waited for its repair goes on.
local function repair_by_child(wf, step)
    local workflow = G.workflow(wf)
    local state = workflow.state
    if state == WF.succeeded or state == WF.failed then
        -- Whoever has its key now stays: then a person decides.
        if G.take_key_again(workflow) then return end
        workflow.state, workflow.finished_at = WF.running, nil
        G.put_workflow(workflow)
    elseif state < WF.pending or state > WF.paused then
        return
    end
    G.leave_chore('reopen', wf, step, 0, BY_CHILD)
end

-- Ends the job of a child that has finished, or repairs it if the child has been repaired.
function G.end_of_child(wf, step, index, child)
    local last, workflow = G.child_of(wf, step, index)
    if last ~= child or not is_finished(workflow.state) then return end
    local chunk = G.chunk_at(wf, step, index)
    local bytes, at = G.bytes(wf, chunk.chunk, chunk.jobs), index - chunk.first
    local state = state_of(bytes:byte(at + 1))
    if state == FAILED and workflow.state == WF.succeeded then return repair_by_child(wf, step) end
    if state ~= DEFERRED then return end
    -- What somebody cancelled by itself is missing to the whole, like what failed.
    local becomes = workflow.state == WF.succeeded and SUCCEEDED or FAILED
    if workflow.state == WF.cancelled and stops(G.step(wf, step)) then becomes = CANCELLED end
    local jobs = M.range(at, at + 1)
    G.settle_jobs(wf, step, chunk, bytes, jobs, becomes)
    if becomes == FAILED then
        G.note_errors(wf, step, chunk.chunk, { { number = arg.child_failed.number, text = arg.child_failed.text, jobs = jobs } })
    end
    G.check_settled(wf, step)
end

-- A batch is retried with the one that it is within.
local function retry_with_whole(workflow)
    workflow.state, workflow.finished_at = WF.running, nil
    G.put_workflow(workflow)
    G.leave_chore('retry', workflow.wf, 0, 0, 0)
end

-- Of failed jobs that are retried: those whose workflows have been repaired, or are being so, need no worker. They wait for what becomes
-- of those. Returns the new bytes, and the others. Batches are repaired with the one that they are within, and need none either; one that
-- was cancelled stays so: nobody can make it anew, for its jobs came from a program.
function G.wait_for_repaired_children(step, chunk, bytes, jobs, why)
    local waits, are_batches = '', G.stands_for_batches(step)
    M.each(jobs, function(at)
        local child, workflow = G.child_of(step.wf, step.step, chunk.first + at)
        if child and are_batches and workflow.state == WF.failed and why ~= BY_CHILD then retry_with_whole(workflow) end
        if child and workflow.state ~= WF.failed and workflow.state ~= WF.cancelled then
            waits = M.either(waits, M.range(at, at + 1))
            if is_finished(workflow.state) then
                G.leave_chore('child ended', step.wf, step.step, chunk.first + at, child)
            end
        end
    end)
    G.shift(step.wf, step.step, FAILED, DEFERRED, M.len(waits))
    return M.change(bytes, waits, function() return DEFERRED + 8 end), are_batches and '' or M.minus(jobs, waits)
end

local function state_of_parent(wf, step, index)
    local chunk = G.chunk_at(wf, step, index)
    return state_of(G.bytes(wf, chunk.chunk, chunk.jobs):byte(index - chunk.first + 1))
end

-- Cancels the children of some jobs of a step, from job `from` on, or up to job `last`; returns where to go on.
function G.cancel_some_children(wf, number, from, last, which)
    local of = hex(number, 8)
    local grace_until = G.step(wf, number).grace_until or G.workflow(wf).grace_until or G.grace_of_rest()
    local up_to = last and '(' .. of .. hex(last + 1, 12) or '(' .. of .. '~'
    local members = call('ZRANGEBYLEX', K.wf(wf, 'children'), '[' .. of .. hex(from, 12), up_to, 'LIMIT', 0, 20)
    for _, member in ipairs(members) do
        local index = unhex(member:sub(9, 20))
        if is_at_bound() then return index end
        local child = G.workflow(unhex(member:sub(22)))
        local is_at_work = child.state >= WF.pending and child.state <= WF.paused
        if is_at_work and (not which or which(state_of_parent(wf, number, index))) then
            child.state, child.grace_until = WF.cancelling, grace_until
            G.put_workflow(child)
            G.let_go_of_batch(child)
            G.unpark_places(child.wf, 0)
            G.leave_chore('cancel', child.wf, 0, 0, 0)
        end
    end
    return #members == 20 and unhex(members[#members]:sub(9, 20)) + 1 or nil
end

-- Cancels the children of a step whose workflow is cancelled, of one that stops, or of jobs that were ended without them, from job `from`
-- on; of one job alone, if `only_one` is that one's index and 1. What they come to is what jobs come to that still wait for them.
function G.cancel_children(wf, number, from, only_one)
    -- Somebody may have repaired it meanwhile.
    local step, state = G.step(wf, number), G.workflow(wf).state
    local stop, whole = stops(step), (state == WF.cancelling or state == WF.cancelled) and not step.always
    local next = G.cancel_some_children(wf, number, from, only_one > 0 and from or nil, function(job)
        -- Whatever is at work for a job that has succeeded or failed, a person has begun it.
        return whole or job >= SKIPPED or job < SUCCEEDED and stop
    end)
    if next then G.leave_chore('cancel children', wf, number, next, 0) end
end

-- A workflow that is being deleted takes its children with it: returns whether there may be more.
function G.delete_children(wf)
    local members = call('ZRANGE', K.wf(wf, 'children'), 0, 19)
    for _, member in ipairs(members) do
        local child = G.workflow(unhex(member:sub(22)))
        G.leave_parent(child)
        if child.state ~= WF.deleting then
            child.state = WF.deleting
            G.put_workflow(child)
            G.leave_chore('delete', child.wf, 0, 0, 0)
        end
    end
    return #members == 20
end
