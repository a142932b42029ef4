-- Leases that a forwarder holds in a broker's name: how a consumer takes them over.

local DO = {}

-- As in `store/take_over.rs`.
local REFUSED_FOR = 1000

-- What becomes of a forwarded lease whose message has arrived: 'take', 'refuse' since its type is not known, or 'not now'.
local function who_may_have(lease, types, paused)
    local state, step = G.workflow(lease.wf).state, G.step(lease.wf, lease.step)
    local may_run = state == WF.pending or state == WF.running or state == WF.standing or state == WF.cancelling and step.always
    -- Whoever cancelled some of its jobs must not see them start.
    if not may_run or step.exceeded or (lease.stop or '') ~= '' then return 'not now' end
    local about = call('HGET', K.wf(lease.wf, 'about'), lease.step)
    if not about then fail('corrupt', 'step ' .. lease.step .. ' of workflow ' .. lease.wf .. ' is missing') end
    local job_type = cmsgpack.unpack(about)[2]
    if paused['t:' .. job_type] or paused['q:' .. call('HGET', K.line(step.line), 'queue')] then return 'not now' end
    return types[job_type] and 'take' or 'refuse'
end

-- The lease of this session that stands in the place of a forwarder's: the same jobs, under a name of its own.
local function instead_of(forwarded, number, deadline)
    local lease = {}
    for _, field in ipairs(LEASE_FIELDS) do lease[field] = forwarded[field] end
    lease.session, lease.number, lease.name = arg.session, number, arg.session .. ':' .. number
    lease.deadline, lease.claimed_at, lease.published, lease.replaced = deadline, now(), nil, forwarded.name
    return lease
end

function DO.take_over()
    local id = arg.session
    local row = call('HGET', K.session(id), 'last_lease')
    if not row then fail('not_found', 'session ' .. id .. ' is not known to the store (any more); join again') end
    local used, types, seen = tonumber(row), {}, {}
    for _, name in ipairs(arg.types) do types[name] = true end
    local paused = {}
    for _, name in ipairs(call('SMEMBERS', K.paused)) do paused[name] = true end
    -- Everything is read, and described, before anything is written.
    local taken, slices, unknown, again, acts = {}, {}, {}, {}, {}
    local last_lease, deadline = used, G.advance_lease_time(arg.lease) + arg.lease
    for i, name in ipairs(arg.leases) do
        local number = arg.first_lease + i - 1
        local mine = number <= used and G.lease_named(id .. ':' .. number)
        local lease = not seen[name] and G.lease_named(name)
        seen[name] = true
        if mine and mine.replaced == name then
            -- Sent again.
            taken[#taken + 1], slices[#slices + 1] = i - 1, G.describe(mine)
        elseif lease and lease.published and number <= used then
            again[#again + 1] = i - 1
        elseif lease and lease.published then
            -- One that is damaged stays what it is: a tick deals with its end.
            local sound, what, new, slice = pcall(function()
                local what = who_may_have(lease, types, paused)
                if what ~= 'take' then return what end
                local new = instead_of(lease, number, deadline)
                return what, new, G.describe(new)
            end)
            if sound then acts[#acts + 1] = { what, lease, new } end
            if sound and what == 'take' then
                taken[#taken + 1], slices[#slices + 1], last_lease = i - 1, slice, number
            elseif sound and what == 'refuse' then
                unknown[#unknown + 1] = i - 1
            end
        end
    end
    for _, act in ipairs(acts) do
        local what, lease, new = act[1], act[2], act[3]
        if what == 'take' then
            G.note('taken_back', 0, lease, lease.jobs)
            G.drop_lease(lease)
            G.put_lease(new)
            G.note('granted', 0, new, new.jobs)
            call('ZADD', K.leases, new.deadline, new.name)
            call('ZADD', K.wf(new.wf, 'leases'), 0, lease_member(new))
        elseif what == 'refuse' then
            lease.deadline = math.min(lease.deadline, G.lease_time + REFUSED_FOR)
            G.put_lease(lease)
            call('ZADD', K.leases, lease.deadline, lease.name)
        else
            -- As above: the others must not suffer from it.
            G.damage_in(G.take_back, lease, false)
        end
    end
    if last_lease > used then call('HSET', K.session(id), 'last_lease', last_lease) end
    G.cascade()
    G.admit()
    G.flush()
    return { taken = taken, slices = slices, last_lease = last_lease, unknown = unknown, again = again, woken = G.wake() }
end
