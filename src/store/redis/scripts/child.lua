-- Workflows that stand for jobs: a worker creates one in the job's name and reports that it has begun, which defers the job; the child's
-- end, told by a chore, is the job's.

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
    -- One that is being taken back to run again is not released.
    if not is_open or step.state ~= STEP.running or not is_at_work or stops(step) then
        fail('refused', 'job ' .. parent.index .. ' of step ' .. where .. ' is not at work any more: no workflow can be created for it')
    end
    return wf
end

function G.add_child(wf, parent, child)
    call('HSET', K.wf(child, 'head'), 'parent', wf, 'parent_step', parent.step, 'parent_index', parent.index)
    call('ZADD', K.wf(wf, 'children'), 0, child_name(parent.step, parent.index, child))
end

-- A workflow stands for no job any more.
function G.leave_parent(workflow)
    local parent = G.kept(workflow).parent
    if not parent then return end
    call('HDEL', K.wf(workflow.wf, 'head'), 'parent', 'parent_step', 'parent_index')
    call('ZREM', K.wf(parent.wf, 'children'), child_name(parent.step, parent.index, workflow.wf))
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
