-- Workflows that stand for jobs: a worker creates one in the job's name and reports that it has begun, which defers the job; the child's
-- end, told by a chore, is the job's.

local BY_CHILD = -2

local function child_name(step, index, wf) return hex(step, 8) .. hex(index, 12) .. ':' .. hex(wf, 12) end

-- The child that stands for a job, the last one if the job was run again: its number and its row.
function G.child_of(wf, step, index)
    local of = hex(step, 8) .. hex(index, 12)
    local member = call('ZREVRANGEBYLEX', K.wf(wf, 'children'), '[' .. of .. '~', '[' .. of, 'LIMIT', 0, 1)[1]
    if not member then return nil end
    local child = unhex(member:sub(22))
    return child, G.workflow(child)
end

-- Where the job is that a new workflow stands for. Refused unless a worker has it.
function G.parent_of_new(parent)
    local wf = G.find(parent.workflow)
    local state, step = G.workflow(wf).state, G.step(wf, parent.step)
    local where = parent.step .. ' of workflow ' .. arg.shown
    if not step.children then fail('usage', 'step ' .. where .. ' has no workflows for jobs') end
    local chunk = G.chunk_at(wf, parent.step, parent.index)
    local is_open = state_of(G.bytes(wf, chunk.chunk, chunk.jobs):byte(parent.index - chunk.first + 1)) == OPEN
    local is_at_work = state >= WF.pending and state <= WF.paused or state == WF.cancelling and step.always
    if not is_open or not is_at_work or stops(step) then
        fail('refused', 'job ' .. parent.index .. ' of step ' .. where .. ' is not at work any more: no workflow can be created for it')
    end
    return wf
end

function G.add_child(wf, parent, child)
    call('HSET', K.wf(child, 'head'), 'parent', wf, 'parent_step', parent.step, 'parent_index', parent.index)
    call('ZADD', K.wf(wf, 'children'), 0, child_name(parent.step, parent.index, child))
end

-- The workflow, step and index of the job that a workflow stands for; nil if it stands for none.
function G.parent(wf)
    local head = call('HMGET', K.wf(wf, 'head'), 'parent', 'parent_step', 'parent_index')
    if not head[1] then return nil end
    return { wf = tonumber(head[1]), step = tonumber(head[2]), index = tonumber(head[3]) }
end

-- A workflow stands for no job any more.
function G.leave_parent(wf)
    local parent = G.parent(wf)
    if not parent then return end
    call('HDEL', K.wf(wf, 'head'), 'parent', 'parent_step', 'parent_index')
    call('ZREM', K.wf(parent.wf, 'children'), child_name(parent.step, parent.index, wf))
end

-- Jobs of a report whose workflows have been created have been deferred: some may have ended by now, some are to be cancelled.
function G.begin_children(step, first, begun)
    local stop = stops(step)
    M.each(begun, function(at)
        local child, workflow = G.child_of(step.wf, step.step, first + at)
        if is_finished(workflow.state) then
            G.leave_chore('child ended', step.wf, step.step, first + at, child)
        elseif stop then
            G.leave_chore('cancel children', step.wf, step.step, first + at, 0)
        end
    end)
end

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

-- Of failed jobs that are retried: those whose workflows have been repaired, or are being so, need no worker. They wait for what becomes
-- of those. Returns the new bytes, and the others.
function G.wait_for_repaired_children(step, chunk, bytes, jobs)
    local waits = ''
    M.each(jobs, function(at)
        local child, workflow = G.child_of(step.wf, step.step, chunk.first + at)
        if child and workflow.state ~= WF.failed and workflow.state ~= WF.cancelled then
            waits = M.either(waits, M.range(at, at + 1))
            if is_finished(workflow.state) then
                G.leave_chore('child ended', step.wf, step.step, chunk.first + at, child)
            end
        end
    end)
    G.shift(step.wf, step.step, FAILED, DEFERRED, M.len(waits))
    return M.change(bytes, waits, function() return DEFERRED + 8 end), M.minus(jobs, waits)
end

-- Cancels the children of a step, from job `from` on. What they come to is what their jobs come to.
function G.cancel_children(wf, number, from)
    local step, of = G.step(wf, number), hex(number, 8)
    -- Somebody has repaired it meanwhile.
    if not stops(step) then return end
    local grace_until = step.grace_until or G.workflow(wf).grace_until
    local members = call('ZRANGEBYLEX', K.wf(wf, 'children'), '[' .. of .. hex(from, 12), '(' .. of .. '~', 'LIMIT', 0, 20)
    for _, member in ipairs(members) do
        local index = unhex(member:sub(9, 20))
        if is_at_bound() then return G.leave_chore('cancel children', wf, number, index, 0) end
        local child = G.workflow(unhex(member:sub(22)))
        if child.state >= WF.pending and child.state <= WF.paused then
            child.state, child.grace_until = WF.cancelling, grace_until
            G.put_workflow(child)
            G.unpark_places(child.wf, 0)
            G.leave_chore('cancel', child.wf, 0, 0, 0)
        end
    end
    if #members == 20 then
        G.leave_chore('cancel children', wf, number, unhex(members[#members]:sub(9, 20)) + 1, 0)
    end
end

-- A workflow that is being deleted takes its children with it: returns whether there may be more.
function G.delete_children(wf)
    local members = call('ZRANGE', K.wf(wf, 'children'), 0, 19)
    for _, member in ipairs(members) do
        local child = G.workflow(unhex(member:sub(22)))
        G.leave_parent(child.wf)
        if child.state ~= WF.deleting then
            child.state = WF.deleting
            G.put_workflow(child)
            G.leave_chore('delete', child.wf, 0, 0, 0)
        end
    end
    return #members == 20
end
