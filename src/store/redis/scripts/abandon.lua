-- Drafts that are given up, or have died; with one that holds a batch open, the batch is abandoned.

-- A draft is dead. One that holds a batch open has written nothing: the batch is abandoned.
function G.give_up(draft)
    if not draft.holds then return G.collect_draft(draft) end
    G.end_draft(draft)
    local wf = draft.of_wf
    local workflow = call('EXISTS', K.wf(wf, 'head')) == 1 and G.workflow(wf)
    if not workflow or workflow.batch ~= BATCH.open or workflow.opened_by ~= draft.key then return end
    workflow.batch = BATCH.abandoned
    G.put_workflow(workflow)
    G.settle_batch(wf)
end

function G.abandon(key)
    local draft = key and G.draft(key)
    if draft then G.give_up(draft) end
end
