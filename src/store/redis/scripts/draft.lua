-- Drafts: what is being written in more than one call.

function G.draft(key)
    local text = call('HGET', K.draft(key), 'row')
    if not text then return nil end
    local draft = cmsgpack.unpack(text)
    draft.key = key
    return draft
end

-- Writes a draft's row. It lives until a deadline, which only grows.
function G.put_draft(draft, deadline)
    local key = draft.key
    draft.key = nil
    call('HSET', K.draft(key), 'row', cmsgpack.pack(draft))
    draft.key = key
    call('ZADD', K.drafts, 'GT', deadline, key)
end

function G.end_draft(draft)
    call('UNLINK', K.draft(draft.key))
    call('ZREM', K.drafts, draft.key)
end

-- Leaves a draft, which is dead, to a chore.
function G.collect_draft(draft)
    G.end_draft(draft)
    if draft.wf then
        local workflow = G.workflow(draft.wf)
        G.free_key_of(workflow)
        workflow.state = WF.deleting
        G.put_workflow(workflow)
        G.leave_chore('delete', draft.wf, 0, 0, 0)
    elseif call('EXISTS', K.wf(draft.of_wf, 'head')) == 1 then
        G.leave_chore('drop', draft.of_wf, draft.segment, 0, draft.segment)
    end
end

-- Nobody holds a batch open any more that is cancelled.
function G.let_go_of_batch(workflow)
    local held = workflow.batch == BATCH.open and G.draft(workflow.opened_by)
    if held then G.end_draft(held) end
end

-- Gives up what an attempt of a source wrote, unless a checkpoint covers it: then the next one goes on with it.
function G.drop_draft(key)
    local draft = G.draft(key)
    if draft and not draft.kept then G.collect_draft(draft) end
end
