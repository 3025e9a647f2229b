-- Ends a live assignment.
-- KEYS: room, gone, log, meta
-- ARGV: origin, room, participant, epoch ('' for any), '1' to end it only when its lease is over, reason, at, limit,
--       time until which the caller waits for this
-- Returns {'ended', record}, {'other', record} when it is another one, {'alive', record}, {'none', epoch of who left}, or
-- {'late'} when the caller has gone on alone: it ended what it knew, and that may be less than what is here by now.
local room, gone, log, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local origin, name, participant = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
if now > tonumber(ARGV[9]) then return {'late'} end
local found = redis.call('HGET', room, participant)
if not found then
  return {'none', redis.call('GET', gone) or '0'}
end
local r = parse(found)
if ARGV[4] ~= '' and r.epoch ~= tonumber(ARGV[4]) then return {'other', found} end
if ARGV[5] == '1' and r.lease > now then return {'alive', found} end
drop(room, gone, participant, r.epoch)
append(log, meta, ARGV[8], 'o', origin, 'r', name, 'p', participant, 'e', whole(r.epoch), 't', 'participant.ended', 'a', ARGV[7], 'd', ARGV[6])
return {'ended', found}
