-- Chores: what exceeds one operation's bound. Each has a cursor; a bite takes it off the list, does its share, and puts it back.

local function chore_name(kind, wf, step, argument)
    return kind .. ':' .. wf .. ':' .. step .. ':' .. argument
end

-- Keeps a chore's cursor, and its error if it can never be done. Until it is taken off its workflow does not finish.
function G.keep_chore(kind, wf, name, state)
    call('HSET', K.chore_state, name, cmsgpack.pack(state))
    call('SADD', K.wf(wf, 'chores'), name)
    if kind ~= 'drop' then
        local workflow = G.workflow(wf)
        workflow.chores = workflow.chores + 1
        G.put_workflow(workflow)
    end
end

-- Puts a chore on the list; one that is there already starts from `cursor` again if that is before its own.
function G.leave_chore(kind, wf, step, cursor, argument)
    local name = chore_name(kind, wf, step, argument)
    local there = call('HGET', K.chore_state, name)
    if there then
        local state = cmsgpack.unpack(there)
        state.cursor = math.min(state.cursor, cursor)
        call('HSET', K.chore_state, name, cmsgpack.pack(state))
        return
    end
    local turn = call('HINCRBY', K.shard, 'chore_turn', 1)
    call('ZADD', K.chores, turn, name)
    G.keep_chore(kind, wf, name, { cursor = cursor })
end

-- Whether a chore is still to be done.
function G.is_on_list(kind, wf, step, argument)
    return call('ZSCORE', K.chores, chore_name(kind, wf, step, argument)) and true or false
end

function G.has_chores()
    return #call('ZRANGE', K.chores, 0, 0) > 0
end
