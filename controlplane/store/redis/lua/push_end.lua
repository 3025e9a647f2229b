-- Brings in that a participant's assignments up to an epoch have ended.
-- KEYS: room, gone, log, meta
-- ARGV: origin, room, participant, epoch, reason, at, limit
-- Returns {'ok'} or {'newer', record}.
local room, gone, log, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local origin, name, participant = ARGV[1], ARGV[2], ARGV[3]
local epoch = tonumber(ARGV[4])
local found = redis.call('HGET', room, participant)
if found and parse(found).epoch > epoch then return {'newer', found} end
if tonumber(redis.call('GET', gone) or '0') >= epoch then return {'ok'} end
drop(room, gone, participant, epoch)
append(log, meta, ARGV[7], 'o', origin, 'r', name, 'p', participant, 'e', whole(epoch), 't', 'participant.ended', 'a', ARGV[6], 'd', ARGV[5])
return {'ok'}
