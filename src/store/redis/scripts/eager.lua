-- Eager sources: what they emit is there at once, and stays.

local DO = {}
G.reads = arg.verb == 'emitted'
-- To ask how many are unfinished brings nothing new.
G.grows.adopt = arg.chunks and #arg.chunks > 0

-- What is stored of the source: how many jobs, and the chunk that ends with the last of them.
local function emitted_by(wf, chunk)
    local text = call('HGET', K.wf(wf, 'emitted'), chunk .. ':' .. arg.at)
    return unpack(text and cmsgpack.unpack(text) or { 0 })
end

-- Adds what the source under the lease has emitted to the step that it feeds.
function DO.adopt()
    local lease = G.lease_that_holds()
    local wf, source = lease.wf, G.step(lease.wf, lease.step)
    if not source.feeds then fail('usage', 'a job that is no source emits jobs') end
    local fed, workflow = G.step(wf, source.feeds), G.workflow(wf)
    local stored = emitted_by(wf, lease.chunk)
    if stops(source) or workflow.state == WF.cancelling and not fed.always or fed.decided then
        return { stored = stored, unfinished = 0, cancelled = true, woken = {} }
    end
    local jobs = 0
    for _, chunk in ipairs(arg.chunks) do jobs = jobs + chunk.jobs end
    if jobs > 0 and stored ~= arg.before and stored ~= arg.before + jobs then
        fail('usage', 'a source adds ' .. jobs .. ' jobs to ' .. arg.before .. ' that are stored of it, but ' .. stored .. ' are')
    end
    if jobs > 0 and stored == arg.before then
        if fed.state >= STEP.succeeded then
            fail('refused', 'step ' .. fed.step .. ' of this workflow has settled: no jobs can be added to it any more; ' ..
                '`start-again` runs the workflow anew')
        end
        local there = fed.total > 0 and segment_at(wf, fed.step, fed.total)
        local segment, at, last = there and there.segment, 0, nil
        if segment then
            at = tonumber(call('HGET', K.wf(wf, 'lengths'), segment) or 0)
            if there.first + at ~= fed.total then fail('corrupt', 'segment ' .. segment .. ' does not end with its step') end
        else
            segment = new_segment(wf)
            batch('ZADD', K.wf(wf, 'segments'), 0, hex(fed.step, 8) .. hex(fed.total, 12) .. hex(segment, 8))
        end
        for _, chunk in ipairs(arg.chunks) do
            last = add_chunk(wf, segment, at, chunk)
            at = at + chunk.jobs
        end
        stored = stored + jobs
        batch('HSET', K.wf(wf, 'lengths'), segment, at)
        batch('HSET', K.wf(wf, 'emitted'), lease.chunk .. ':' .. arg.at, cmsgpack.pack({ stored, last }))
        G.jobs_came(fed, jobs)
        write_numbers()
    end
    local unfinished = unsettled_jobs(G.step(wf, source.feeds))
    G.flush()
    return { stored = stored, unfinished = unfinished, cancelled = false, woken = G.wake() }
end

function DO.emitted()
    local stored, last = emitted_by(arg.wf, arg.chunk)
    if not last then return { jobs = stored } end
    local body = call('HGET', K.wf(arg.wf, 'params'), last)
    if not body then fail('corrupt', 'chunk ' .. last .. ', with the last job of a source, is missing') end
    count_bytes(#body)
    return { jobs = stored, last = put_blob(body) }
end
