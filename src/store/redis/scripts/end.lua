-- What every script ends with: the verb runs, and its answer goes back as JSON, followed by the binary parts that the JSON names.

local ok, answer = pcall(DO[arg.verb])
if not ok then
    if type(answer) ~= 'table' or not answer.gusher then return error(answer, 0) end
    return { cjson.encode({ kind = answer.gusher, text = answer.text, cost = cost }) }
end
return { cjson.encode({ answer = answer, cost = cost }), unpack(reply) }
