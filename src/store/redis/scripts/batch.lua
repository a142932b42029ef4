-- Batches from outside: adding jobs, and closing.

local DO = {}

function DO.add_jobs()
    local answer = G.answered_before()
    if answer then
        answer.woken = {}
        return answer
    end
    local wf = G.batch_that_takes_jobs(arg).wf
    local draft, chunk = arg.draft and G.draft(arg.draft), arg.chunk
    if arg.draft and not (draft and draft.of_wf == wf and draft.spec) then
        fail('refused', 'the draft is gone: it was not renewed in time, and nothing of it is left')
    end
    if not draft and not chunk then fail('usage', 'there are no jobs to add') end
    G.check_added(wf, arg.step, chunk and chunk.jobs or 1)
    local segment, jobs = draft and draft.segment, draft and draft.jobs or 0
    if draft then G.end_draft(draft) else segment = new_segment(wf) end
    if chunk then
        add_chunk(wf, segment, jobs, chunk)
        jobs = jobs + chunk.jobs
    end
    answer = { step = 0, first = 0, jobs = jobs }
    if jobs > 0 then
        answer.step, answer.first = G.attach(wf, arg.step, segment, jobs)
    else
        call('HDEL', K.wf(wf, 'lengths'), segment)
    end
    G.note_answer(answer)
    write_numbers()
    G.flush()
    answer.woken = G.wake()
    return answer
end

-- The client that holds a batch open adds nothing more.
function DO.close_batch()
    local workflow = G.batch_of(arg)
    local answer = { abandoned = workflow.batch == BATCH.abandoned, more = false, woken = {} }
    local is_cancelled = workflow.state == WF.cancelling or workflow.state == WF.cancelled
    if workflow.batch ~= BATCH.open or is_cancelled then return answer end
    local wf, draft = workflow.wf, G.draft(arg.draft)
    if not draft or workflow.opened_by ~= arg.draft then
        fail('refused', 'batch ' .. arg.shown .. ' is held open by another client, which closes it')
    end
    local awaited = G.awaited(wf, BATCH.step)
    G.end_draft(draft)
    workflow.batch = BATCH.closed
    G.put_workflow(workflow)
    awaited.state = SUCCEEDED
    call('HSET', K.wf(wf, 'awaited'), BATCH.step, pack(awaited, AWAITED_FIELDS))
    call('HDEL', K.wf(wf, 'awaited'), BATCH.step .. ':record')
    G.settle_batch(wf)
    G.cascade()
    G.flush()
    answer.more = G.has_chores()
    answer.woken = G.wake()
    return answer
end
