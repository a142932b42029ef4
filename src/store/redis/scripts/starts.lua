-- Starts that count towards a rate: `row.starts` in any `row.period`. `row.counted` has until when, and how many; oldest first. As in
-- `src/limit.rs`.

local RATE_PARTS = 32

-- Forgets those that count no more; returns into how long parts the period is cut.
local function forget_starts(row)
    local part = math.max(math.floor(row.period / RATE_PARTS), 1)
    -- What would count for longer than a period from now on was noted before the clock jumped back.
    local longest, kept = now() + row.period + part, {}
    for _, counted in ipairs(row.counted) do
        if counted[1] > now() then kept[#kept + 1] = { math.min(counted[1], longest), counted[2] } end
    end
    row.counted = kept
    return part
end

local function note_starts(row, count)
    if not row.starts or count <= 0 then return end
    local part = forget_starts(row)
    -- The last moment of its part is the one that has to be over for a period.
    local till = (math.floor(now() / part) + 1) * part - 1 + row.period
    local last = row.counted[#row.counted]
    if last and last[1] == till then
        last[2] = last[2] + count
    else
        row.counted[#row.counted + 1] = { till, count }
    end
end

local function sum_of_starts(row)
    local sum = 0
    for _, counted in ipairs(row.counted) do sum = sum + counted[2] end
    return sum
end

-- When one more may start while so many others are about to; nil if only those can change that.
function G.next_start(row, reserved)
    forget_starts(row)
    local free, at = row.starts - reserved, now()
    if free <= 0 then return nil end
    local sum = sum_of_starts(row)
    for _, counted in ipairs(row.counted) do
        if sum < free then break end
        sum, at = sum - counted[2], counted[1]
    end
    return at
end
