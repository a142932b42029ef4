-- Checkpoints: what a long job goes on from.

local DO = {}
READS = arg.verb == 'checkpoint'

-- Keeps what a job under a lease goes on from, in place of what it said before.
function DO.save_checkpoint()
    local lease, held = G.lease_named(arg.session .. ':' .. arg.lease), false
    if lease then M.each(lease.jobs, function(at) held = held or at == arg.at end) end
    if not held then
        fail('refused', 'lease ' .. arg.lease .. ' does not hold this job (any more): it runs again elsewhere, and what this attempt ' ..
            'saves counts for nothing; end it')
    end
    local body = blob(arg.body)
    count_bytes(#body)
    local step = G.step(lease.wf, lease.step)
    if call('HSET', K.wf(lease.wf, 'checkpoints'), lease.chunk .. ':' .. arg.at, body) == 1 then
        step.checkpoints = (step.checkpoints or 0) + 1
        G.put_step(step)
        G.flush()
    end
    return {}
end

function DO.checkpoint()
    local body = call('HGET', K.wf(arg.wf, 'checkpoints'), arg.chunk .. ':' .. arg.at)
    if not body then return {} end
    count_bytes(#body)
    return { body = put_blob(body) }
end
