-- Sets of jobs of one chunk, as text: bit b of byte n is job 8n + b; no zeros at the end. And a chunk's bytes, one a job.

local M = {}
function M.trim(text)
    return text:byte(-1) == 0 and text:gsub('%z+$', '') or text
end
do
-- Four bytes at a time.
local function words(mask, count)
    return { struct.unpack('<' .. string.rep('I4', count), mask .. string.rep('\0', 4 * count - #mask)) }
end
local function zip(a, b, combine)
    local count = math.ceil(math.max(#a, #b) / 4)
    local left, right = words(a, count), words(b, count)
    for i = 1, count do left[i] = combine(left[i], right[i]) end
    return M.trim(struct.pack('<' .. string.rep('i4', count), unpack(left, 1, count)))
end
function M.both(a, b)
    if a == b then return a end
    if a == '' or b == '' then return '' end
    return zip(a, b, bit.band)
end
function M.either(a, b)
    if a == '' or a == b then return b end
    if b == '' then return a end
    return zip(a, b, bit.bor)
end
function M.minus(a, b)
    if a == '' or a == b then return '' end
    if b == '' then return a end
    return zip(a, b, function(x, y) return bit.band(x, bit.bnot(y)) end)
end
end
do
-- What is asked of a byte again and again is remembered, since each call of a script begins with empty tables.
local function remember(ask)
    return setmetatable({}, {
        __index = function(known, byte)
            local answer = ask(byte)
            known[byte] = answer
            return answer
        end,
    })
end
-- Where the ones of a byte are.
local ones = remember(function(byte)
    local list = {}
    for b = 0, 7 do
        if math.floor(byte / 2 ^ b) % 2 == 1 then list[#list + 1] = b end
    end
    return list
end)
function M.each(mask, visit)
    local bytes = { mask:byte(1, -1) }
    for i = 1, #bytes do
        local list, at = ones[bytes[i]], (i - 1) * 8
        for n = 1, #list do visit(at + list[n]) end
    end
end
function M.len(mask)
    local count, bytes = 0, { mask:byte(1, -1) }
    for i = 1, #bytes do count = count + #ones[bytes[i]] end
    return count
end
-- From a table of which the positions are keys.
function M.of(set, jobs)
    local out = {}
    for i = 0, math.floor((jobs - 1) / 8) do
        local byte = 0
        for b = 0, 7 do
            if set[i * 8 + b] then byte = byte + 2 ^ b end
        end
        out[i + 1] = string.char(byte)
    end
    return M.trim(table.concat(out))
end
function M.range(from, to)
    if from >= to then return '' end
    local first, last = math.floor(from / 8), math.floor((to - 1) / 8)
    local front, back = 2 ^ (from % 8), 2 ^ ((to - 1) % 8 + 1)
    local zeros = string.rep('\0', first)
    if first == last then return zeros .. string.char(back - front) end
    return zeros .. string.char(256 - front) .. string.rep('\255', last - first - 1) .. string.char(back - 1)
end
-- The first `count` jobs, and the rest.
function M.split(mask, count)
    local front, left = {}, count
    M.each(mask, function(at)
        if left > 0 then front[at], left = true, left - 1 end
    end)
    local taken = M.of(front, #mask * 8)
    return taken, M.minus(mask, taken)
end
-- In most chunks all bytes are alike.
local function are_alike(bytes)
    return bytes == string.rep(bytes:sub(1, 1), #bytes)
end
-- A chunk's bytes in which the jobs of a mask are `change`d, each by what its byte is.
function M.change(bytes, mask, change)
    if mask == '' then return bytes end
    if are_alike(bytes) and M.len(mask) == #bytes then return string.rep(string.char(change(bytes:byte(1))), #bytes) end
    local list, changed, bits = { bytes:byte(1, -1) }, remember(change), { mask:byte(1, -1) }
    for i = 1, #bits do
        local set, first = ones[bits[i]], i * 8 - 7
        for n = 1, #set do
            local at = first + set[n]
            list[at] = changed[list[at]]
        end
    end
    return string.char(unpack(list))
end
-- How many jobs of a mask have which state, by a chunk's bytes.
function M.states(bytes, mask)
    if are_alike(bytes) then return { [bytes:byte(1) % 8] = M.len(mask) } end
    local counts = {}
    M.each(mask, function(at)
        local state = bytes:byte(at + 1) % 8
        counts[state] = (counts[state] or 0) + 1
    end)
    return counts
end
-- The jobs of a chunk's bytes for which `is` holds.
function M.where(bytes, is)
    if bytes == '' then return '' end
    if are_alike(bytes) then return is(bytes:byte(1)) and M.range(0, #bytes) or '' end
    local list, value = { bytes:byte(1, -1) }, remember(function(byte) return is(byte) and 1 or 0 end)
    -- Those past the end.
    for _ = 1, 7 do list[#list + 1] = -1 end
    value[-1] = 0
    local out = {}
    for i = 1, #bytes, 8 do
        out[#out + 1] = string.char(
            value[list[i]] + 2 * value[list[i + 1]] + 4 * value[list[i + 2]] + 8 * value[list[i + 3]] + 16 * value[list[i + 4]] +
            32 * value[list[i + 5]] + 64 * value[list[i + 6]] + 128 * value[list[i + 7]])
    end
    return M.trim(table.concat(out))
end
end
local function state_of(byte)
    return byte % 8
end

