-- What every script ends with: the verb runs, and its answer goes back as JSON, followed by the binary parts that the JSON names.

-- A server at its `maxmemory` refuses a script's first write if that takes memory, and no later one. So what brings new work begins with
-- such a write, and everything that finishes old work with one that takes none.
if GROWS[arg.verb] then
    call('HSET', K.shard, 'grows', 1)
elseif not READS then
    call('HDEL', K.shard, '-')
end
local ok, answer = pcall(DO[arg.verb])
if not ok then
    if type(answer) ~= 'table' or not answer.gusher then return error(answer, 0) end
    return { cjson.encode({ kind = answer.gusher, text = answer.text, cost = cost }) }
end
if G.notes then G.write_notes() end
return { cjson.encode({ answer = answer, cost = cost }), unpack(reply) }
