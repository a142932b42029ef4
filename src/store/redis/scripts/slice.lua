-- What a worker is told of a lease.

-- As in `store/leases.rs`.
local FEW_BYTES, FEW_JOBS = 4096, 64

-- The parameters of a few small jobs, which spare the worker a call before it starts them; nil if they are too large, or mended.
local function few_parameters(lease)
    if M.len(lease.jobs) > FEW_JOBS then return nil end
    local wf, chunk = lease.wf, lease.chunk
    local size = call('HSTRLEN', K.wf(wf, 'params'), chunk)
    if size == 0 or size > FEW_BYTES or call('HEXISTS', K.wf(wf, 'mended'), chunk) == 1 then return nil end
    count_bytes(size)
    return put_blob(call('HGET', K.wf(wf, 'params'), chunk))
end

-- Whether the worker asks from which queue a slice is.
local function names_queues()
    for _, of in ipairs(arg.permits or {}) do
        if of[1]:sub(1, 2) == 'q:' then return true end
    end
    return false
end

-- Whether it or the keys of its jobs limit how many run at once.
function G.is_limited(step)
    return step.limit ~= nil or has_keys(step, LIMITED)
end

function G.describe(lease)
    local wf, workflow, step = lease.wf, G.workflow(lease.wf), G.step(lease.wf, lease.step)
    local about = call('HGET', K.wf(wf, 'about'), lease.step)
    if not about then fail('corrupt', 'step ' .. lease.step .. ' of workflow ' .. wf .. ' is missing') end
    about = cmsgpack.unpack(about)
    local attempts
    local bytes = call('HGET', K.wf(wf, 'bytes'), lease.chunk)
    if bytes then
        local list = {}
        M.each(lease.jobs, function(at) list[#list + 1] = string.char(math.floor(bytes:byte(at + 1) / 8)) end)
        attempts = put_blob(table.concat(list))
    end
    return {
        lease = lease.number, workflow = workflow.id, workflow_name = workflow.name, step = lease.step, step_name = about[1],
        job_type = about[2], queue = names_queues() and call('HGET', K.line(step.line), 'queue') or nil, options = about[3],
        generation = step.generation, feeds = step.feeds, wf = wf, chunk = lease.chunk, first = lease.first,
        jobs = put_blob(lease.jobs), attempts = attempts, suspect = lease.suspect or false, limited = G.is_limited(step),
        priority = lease.published and tonumber(call('HGET', K.line(step.line), 'priority')) or 0,
        parameters = few_parameters(lease),
    }
end
