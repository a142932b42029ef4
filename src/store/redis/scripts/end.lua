-- What every script ends with: the verb runs, and its answer goes back as JSON, followed by the binary parts that the JSON names.

-- A server at its `maxmemory` refuses a script's first write if that takes memory, and no later one. So what brings new work begins with
-- such a write, and everything that finishes old work with one that takes none.
if G.grows[arg.verb] then
    call('HSET', K.shard, 'grows', 1)
elseif not G.reads then
    call('HDEL', K.shard, '-')
end
-- Operations are numbered. Who has seen a higher number than this one knows that the server has lost what it had acknowledged; the
-- numbers go on behind what was seen, so that it is counted once.
local sequence, lost
if not G.reads then
    sequence = call('HINCRBY', K.shard, 'sequence', 1)
    if arg.seen >= sequence then
        lost = arg.seen + 1 - sequence
        sequence = call('HINCRBY', K.shard, 'sequence', lost)
        call('HINCRBY', K.shard, 'lost', lost)
        call('HSET', K.shard, 'lost_at', now())
    end
end
local ok, answer = pcall(DO[arg.verb])
if not ok then
    if type(answer) ~= 'table' or not answer.gusher then return error(answer, 0) end
    return { cjson.encode({ kind = answer.gusher, text = answer.text, cost = cost, sequence = sequence, lost = lost }) }
end
if G.notes then G.write_notes() end
return { cjson.encode({ answer = answer, cost = cost, sequence = sequence, lost = lost }), unpack(G.reply) }
