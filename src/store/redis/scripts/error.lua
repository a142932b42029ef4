-- The failed jobs of a step by their texts.

function G.errors_of(wf, chunk)
    local text = call('HGET', K.wf(wf, 'failed'), chunk)
    return text and cmsgpack.unpack(text) or {}
end
function G.put_errors_of(wf, chunk, failed)
    if next(failed) then
        local text = cmsgpack.pack(failed)
        count_bytes(#text)
        call('HSET', K.wf(wf, 'failed'), chunk, text)
    else
        call('HDEL', K.wf(wf, 'failed'), chunk)
    end
end

-- Counts failed jobs by their texts, as far as the step's table has room and the operation's bound is not reached; the others are
-- counted together as number 0. Returns which texts the table holds.
function G.note_errors(wf, step, chunk, errors)
    local known = {}
    if #errors == 0 then return known end
    local jobs_key, list_key = K.wf(wf, 'error-jobs'), K.wf(wf, 'error-list')
    local size = call('HGET', jobs_key, step)
    size = size and cmsgpack.unpack(size) or { 0, 0 }
    local failed, other, listed = G.errors_of(wf, chunk), 0, ''
    local names, counts, changed, texts = {}, {}, {}, {}
    for i = 1, math.min(#errors, 100 - G.errors_noted) do names[i] = step .. ':' .. errors[i].number end
    if #names > 0 then
        for i, count in ipairs(call('HMGET', jobs_key, unpack(names))) do counts[names[i]] = count and tonumber(count) or nil end
    end
    for i, error in ipairs(errors) do
        local row, count, name = error.number, M.len(error.jobs), names[i]
        if not name or G.errors_noted >= 100 then
            row = '0'
        elseif counts[name] then
            counts[name] = counts[name] + count
            changed[name] = true
            known[#known + 1] = error.number
        elseif size[1] < 1000 and size[2] + #error.text < 300 * 1024 then
            count_bytes(#error.text)
            texts[#texts + 1], texts[#texts + 2] = name, error.text
            counts[name], changed[name] = count, true
            size = { size[1] + 1, size[2] + #error.text }
            listed = listed .. error.number .. ','
            known[#known + 1] = error.number
        else
            row = '0'
        end
        failed[row] = M.either(failed[row] or '', error.jobs)
        if failed[row] == '' then failed[row] = nil end
        if row == '0' then other = other + count else G.errors_noted = G.errors_noted + 1 end
    end
    local values = {}
    for name in pairs(changed) do values[#values + 1], values[#values + 2] = name, counts[name] end
    if #values > 0 then call('HSET', jobs_key, unpack(values)) end
    if #texts > 0 then call('HSET', K.wf(wf, 'errors'), unpack(texts)) end
    if other > 0 then
        if call('HINCRBY', jobs_key, step .. ':0', other) == other and call('HEXISTS', K.wf(wf, 'errors'), step .. ':0') == 0 then
            call('HSET', K.wf(wf, 'errors'), step .. ':0', '')
            listed = listed .. '0,'
        end
    end
    if listed ~= '' then
        call('HSET', jobs_key, step, cmsgpack.pack(size))
        call('HSET', list_key, step, (call('HGET', list_key, step) or '') .. listed)
    end
    G.put_errors_of(wf, chunk, failed)
    return known
end

-- Jobs of a chunk are no longer failed: they are taken out of the counts by error.
function G.forget_failed(wf, step, chunk, jobs)
    local failed = G.errors_of(wf, chunk)
    local key = K.wf(wf, 'error-jobs')
    local fewer = {}
    for number, mask in pairs(failed) do
        local count = M.len(M.both(mask, jobs))
        if count > 0 then
            fewer[#fewer + 1] = { step .. ':' .. number, count }
            local left = M.minus(mask, jobs)
            failed[number] = left ~= '' and left or nil
        end
    end
    -- However many errors a chunk has, they are counted down by two commands.
    for from = 1, #fewer, 1000 do
        local names, values = {}, {}
        for i = from, math.min(from + 999, #fewer) do names[#names + 1] = fewer[i][1] end
        for i, count in ipairs(call('HMGET', key, unpack(names))) do
            values[#values + 1] = names[i]
            values[#values + 1] = tonumber(count or 0) - fewer[from + i - 1][2]
        end
        call('HSET', key, unpack(values))
    end
    G.put_errors_of(wf, chunk, failed)
end
