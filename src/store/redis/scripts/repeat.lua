-- Commands that are sent again.

-- What the session's command was answered, if it has been given before.
function G.answered_before()
    local last = call('HMGET', K.session(arg.session), 'last_command', 'last_answer')
    if not last[1] then
        fail('not_found', 'session ' .. arg.session .. ' is not known to the store (any more); join again')
    end
    local command = tonumber(last[1])
    if command == arg.command and last[2] then return cmsgpack.unpack(last[2]) end
    if command >= arg.command then
        fail('refused', 'the command is older than the last one of its session: its outcome is unknown')
    end
end

-- Keeps a command's answer for whoever sends the command again. A session that gives commands is remembered, also if it counts as dead
-- since it does not renew.
function G.note_answer(answer)
    call('HSET', K.session(arg.session), 'last_command', arg.command, 'last_answer', cmsgpack.pack(answer))
    if call('ZSCORE', K.dead, arg.session) then call('ZADD', K.dead, now(), arg.session) end
end
