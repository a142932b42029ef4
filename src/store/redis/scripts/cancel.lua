-- Cancelling lone jobs.

local DO = {}

-- A mask moved up by so many places.
local function moved(mask, by)
    local set, last = {}, 0
    M.each(mask, function(at)
        set[at + by] = true
        last = math.max(last, at + by)
    end)
    return M.of(set, last + 1), last
end

function DO.cancel_jobs()
    local wf = G.find(arg.workflow)
    if G.workflow(wf).state ~= WF.standing then
        fail('refused', arg.shown .. ' is a workflow and no lane of lone jobs: its jobs cannot be cancelled one by one; `cancel ' ..
            arg.shown .. '` cancels it as a whole')
    end
    local chunk, jobs = G.find_chunk(wf, 0, arg.index), arg.jobs and blob(arg.jobs) or ''
    if not chunk or jobs == '' then return { cancelled = 0, stopping = 0, told = {} } end
    local named, last = moved(jobs, arg.index - chunk.first)
    if last >= chunk.jobs then
        fail('usage', 'jobs from ' .. arg.index .. ' on are to be cancelled that are not all in one chunk; its last is ' ..
            (chunk.first + chunk.jobs - 1))
    end
    local answer = G.cancel_in_chunk(G.step(wf, 0), chunk, named, arg.keep)
    G.admit()
    G.flush()
    return answer
end
