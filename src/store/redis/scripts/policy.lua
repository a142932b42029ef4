-- What becomes of a step as soon as more of its jobs have failed for good than it tolerates. `exceeded` is one flag in its row, which claims,
-- reports, renewals and take-overs look at.

-- How long the jobs that run have to come to their end, in lease time.
local FAIL_FAST_GRACE = 10000

local function is_held(wf, step)
    return call('HEXISTS', K.wf(wf, 'holds'), step) == 1
end

-- Until when, in lease time, what runs may come to its end although nobody asks for it any more.
function G.grace_of_rest()
    return tonumber(call('HGET', K.shard, 'lease_time') or 0) + FAIL_FAST_GRACE
end

-- Lets a step's policy act, if too many of its jobs have failed, apart from those that somebody has forgiven, and there is something left
-- that it could stop, or its sources may emit it.
function G.act_on_failures(wf, number)
    local step = G.step(wf, number)
    if not step.policy or step.exceeded or step.state ~= STEP.running then return end
    local is_fed_on = G.is_held_by_source(step)
    -- Of a step that is fed on only a number can be judged, no share.
    if unsettled_jobs(step) == 0 and not is_fed_on or step.tolerate_fraction and is_fed_on then return end
    -- Under a repair the counts say nothing yet; its end looks again.
    if step.failed - (step.forgiven or 0) <= G.tolerated(step) or is_held(wf, number) then return end
    step.exceeded = true
    if step.policy == FAIL_FAST then
        step.grace_until = G.grace_of_rest()
        G.leave_chore('stop rest', wf, number, 0, 0)
        if step.children then G.leave_chore('cancel children', wf, number, 0, 0) end
    end
    G.put_step(step)
end

-- Somebody resumes or repairs a step: its policy acts again only on further failures.
function G.forgive(step)
    if not step.policy then return end
    local was_exceeded = step.exceeded
    step.exceeded, step.grace_until, step.forgiven = nil, nil, step.failed
    G.put_step(step)
    if was_exceeded then G.unpark_step_now(step) end
end
