-- The first step of a batch, which stands for it: when it settles, and what a death does. How jobs come to a batch: grow.lua.

-- The time of a wait has come: it settles as its rule says, if no signal has settled it.
function G.end_wait(step, first)
    local wf, number = step.wf, step.step
    local chunk = G.chunk_at(wf, number, first)
    local bytes = G.bytes(wf, chunk.chunk, chunk.jobs)
    local waits = M.where(bytes, function(byte) return state_of(byte) == DEFERRED end)
    -- What a cancel is about to end has no rule of its own any more.
    if waits == '' or G.workflow(wf).state == WF.cancelling and not step.always then return end
    local awaited = G.awaited(wf, number)
    local record = call('HGET', K.wf(wf, 'awaited'), number .. ':record')
    if record then G.add_record(wf, chunk.chunk, record) end
    G.settle_jobs(wf, number, chunk, bytes, waits, awaited.state)
    if awaited.state == FAILED then
        G.note_errors(wf, number, chunk.chunk, { { number = awaited.number, text = awaited.text, jobs = waits } })
    end
    G.check_settled(wf, number)
end

-- The callbacks of a batch: the edges to them from the first step.
function G.callbacks(wf)
    G.callbacks_of = G.callbacks_of or {}
    if not G.callbacks_of[wf] then
        local callbacks = {}
        for _, edge in ipairs(G.edges_from(wf, BATCH.step, 0, BATCH.callbacks)) do
            if edge.kind ~= EDGE.grows then callbacks[#callbacks + 1] = edge end
        end
        G.callbacks_of[wf] = callbacks
    end
    return G.callbacks_of[wf]
end

local function run_death_callbacks(wf)
    for _, edge in ipairs(G.callbacks(wf)) do
        local callback = edge.kind == EDGE.death and G.step(wf, edge.down)
        if callback and G.is_untouched(callback) and callback.pending > 0 then
            call('HSET', K.wf(wf, 'decisions'), edge.name, RELEASE)
            callback.pending = callback.pending - 1
            G.put_step(callback)
            G.act_on_decisions(callback)
        end
    end
end

-- Tells the batch that this one is within, if there is one, that a job has failed for good.
local DEATH_WITHIN = 1
local function tell_death(wf)
    local outer = tonumber(call('HGET', K.wf(wf, 'head'), 'parent') or nil)
    if outer then G.leave_chore('batch', outer, 0, 0, DEATH_WITHIN) end
end

-- The first job of a batch that fails for good runs the callbacks that are there for it, also those of the batches that it is within.
function G.act_on_death(step)
    local wf = step.wf
    if step.failed == 0 or G.workflow(wf).state == WF.cancelling then return end
    run_death_callbacks(wf)
    -- Once a step: they hear of each, and act on the first.
    if not step.had_failed then tell_death(wf) end
end

-- Leaves it to a chore to look at the batch of a step that grows, if there is something to be seen.
function G.leave_batch(step)
    local has_died = step.failed > 0 and not step.had_failed
    if has_died or unsettled_jobs(step) == 0 and step.pending > 0 and not step.decided then
        G.leave_chore('batch', step.wf, 0, 0, 0)
    end
end

-- How many jobs of the steps that grow have failed for good.
local function deaths(wf)
    local failed = G.workflow(wf).failed - G.step(wf, BATCH.step).failed
    if failed > 0 then
        for _, edge in ipairs(G.callbacks(wf)) do failed = failed - G.step(wf, edge.down).failed end
    end
    return failed
end

-- Settles a batch that nobody holds open once every job of the steps that grow is final: that is told by counters, the workflow's without
-- those of the first step and of the callbacks.
function G.settle_batch(wf)
    local workflow, gate = G.workflow(wf), G.step(wf, BATCH.step)
    if workflow.batch == BATCH.open or gate.state ~= STEP.running or unsettled_jobs(gate) == 0 then return end
    local left = unsettled_jobs(workflow) - unsettled_jobs(gate)
    if left > 0 then
        for _, edge in ipairs(G.callbacks(wf)) do left = left - unsettled_jobs(G.step(wf, edge.down)) end
    end
    -- Under a repair: its end looks again.
    if left > 0 or call('HLEN', K.wf(wf, 'holds')) > 0 then return end
    -- One that is still to be told by a chore: once the batch has settled it would be too late.
    if deaths(wf) > 0 and workflow.state ~= WF.cancelling then run_death_callbacks(wf) end
    G.end_wait(gate, 0)
end

-- What has been left to a chore: a job of this batch, or of one within it, has failed for good; or all jobs have settled.
function G.look_at_batch(wf, _, _, within)
    if G.workflow(wf).state ~= WF.cancelling and (within == DEATH_WITHIN or deaths(wf) > 0) then
        run_death_callbacks(wf)
        tell_death(wf)
    end
    G.settle_batch(wf)
end

-- The batch that `of` names, as ids are kept and as they are shown.
function G.batch_of(of)
    local workflow = G.workflow(G.find(of.workflow, of.shown))
    if not workflow.batch then
        fail('usage', 'workflow ' .. of.shown .. ' is no batch: its steps and their jobs are those that it was created with')
    end
    return workflow
end

-- The same, if it has not settled.
function G.batch_that_takes_jobs(of)
    local workflow = G.batch_of(of)
    local state = workflow.state
    local at_work = state == WF.pending or state == WF.running or state == WF.paused
    if not at_work or unsettled_jobs(G.step(workflow.wf, BATCH.step)) == 0 then G.refuse_late(workflow, of.shown) end
    return workflow
end

-- The error for whoever adds jobs too late.
function G.refuse_late(workflow, shown)
    local was_cancelled = workflow.state == WF.cancelling or workflow.state == WF.cancelled
    local how = was_cancelled and ' was cancelled: ' or workflow.batch == BATCH.abandoned and
        ' has settled: it was abandoned, since the store had not heard in time of the program that held it open; ' or ' has settled: '
    fail('batch_settled', 'batch ' .. shown .. how .. 'no jobs can be added to it any more; put them into a new batch')
end
