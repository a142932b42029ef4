-- What a test's ledger is told (src/testing/ledger.rs): nothing, and at no cost, unless the call says `ledger`. The records are kept by
-- the script that does what they tell, so they stand in the order in which it happened. None of this is part of the operation's cost.
--
-- `arg.ledger` is when the call was sent, in nanoseconds of the clock that the machine's processes share; the server has no such clock.
-- The time of a record is that or the last record's, whichever is later. Both calls were sent before this moment, so it lies between
-- the sending of this call and its answer: what its sender wrote before is older, and what it writes when it knows is younger.
--
-- Leases bear the numbers that they have in their session, as workers know them: `arg.shard` of `arg.shards` deals them out (shard.rs).

G.NOTED = { granted = 10, settled = 11, retrying = 12, returned = 13, taken_back = 14, refused = 15, killed = 30 }

-- Eight bytes that stand in an id as hexadecimal digits.
function G.id_bytes(digits)
    return (digits:gsub('%x%x', function(byte) return string.char(unhex(byte)) end))
end

function G.keep_note(kind, detail, who, of, workflow, first, count)
    G.notes = G.notes or {}
    G.notes[#G.notes + 1] = {
        kind = G.NOTED[kind], detail = detail, who = who, workflow = workflow, first = first, count = count, step = of.step or 0,
        lease = of.number and of.number * arg.shards + arg.shard or 0,
    }
end

-- Notes what happens to jobs, one record a run of them: `of` is their lease or, if the store does it by itself, tells wf, step and first.
function G.note(kind, detail, of, jobs)
    if not arg.ledger or jobs == '' then return end
    local who = of.session and G.id_bytes(of.session:sub(1, 16)) or string.rep('\0', 8)
    local workflow = G.id_bytes(G.workflow(of.wf).id:sub(-16))
    local from, count = nil, 0
    local function keep()
        if from then G.keep_note(kind, detail, who, of, workflow, of.first + from, count) end
    end
    M.each(jobs, function(at)
        if from and at == from + count then
            count = count + 1
        else
            keep()
            from, count = at, 1
        end
    end)
    keep()
end

-- Notes that a report under a lease that is not held was refused.
function G.note_refused(session, number)
    if not arg.ledger then return end
    G.keep_note('refused', 0, G.id_bytes(session:sub(1, 16)), { number = number }, string.rep('\0', 8), 0, 0)
end

function G.write_notes()
    local last = redis.call('HMGET', K.shard, 'ledger_at', 'ledger_tx')
    local at, tx = math.max(tonumber(last[1] or 0), arg.ledger), tonumber(last[2] or 0) + 1
    local records = {}
    for i, note in ipairs(G.notes) do
        records[i] = struct.pack('<I8c8c8I8I4I4I2BBI4', at, note.workflow, note.who, note.first, note.lease, note.count, note.step,
            note.kind, note.detail, tx)
    end
    redis.call('HSET', K.shard, 'ledger_at', at, 'ledger_tx', tx)
    redis.call('RPUSH', K.ledger, table.concat(records))
end
