-- What a harness asks of the store's own ledger; not in a normal build.

local DO = {}

-- Forgets the records of the calls up to number `after`, which the caller has, and answers those of the next ones. May be repeated.
function DO.take_records()
    local first = redis.call('LINDEX', K.ledger, 0)
    if first then
        local known = arg.after - struct.unpack('<I4', first, 45) + 1
        if known > 0 then redis.call('LTRIM', K.ledger, known, -1) end
    end
    return { records = put_blob(table.concat(redis.call('LRANGE', K.ledger, 0, 999))) }
end

-- Notes that the process with a ledger's number is killed, if its session holds leases at this moment; answers how many.
function DO.note_kill()
    local leases = call('HLEN', K.lease(arg.session))
    if leases > 0 then
        G.keep_note('killed', 0, struct.pack('<I8', arg.number), {}, string.rep('\0', 8), 0, 0)
    end
    return { leases = leases }
end
