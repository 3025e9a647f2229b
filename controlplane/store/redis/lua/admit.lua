-- Puts an assignment in force, if what the caller saw is still true.
-- KEYS: room, gone, log, meta
-- ARGV: origin, room, participant, replaces ('' for nobody), floor, session, lease from now in ms, caller's clock in ms,
--       generation of the deployment, static, client, node, event, at, from (node before), limit of the log,
--       name of the data set that the caller knows
-- Returns {epoch, lease, now}, {'', record or '', epoch of who left or '0', now}, or {'lost'} when this is another data
-- set: epochs of before may have been given that neither side knows, so the caller has to begin a new generation.
local room, gone, log, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local origin, name, participant = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', meta, 'generation', 'born')
if known[2] ~= ARGV[17] then return {'lost'} end
local now = now_ms()
local found = redis.call('HGET', room, participant)
local left = tonumber(redis.call('GET', gone) or '0')
local replaces, last = tonumber(ARGV[4]), left

if found then
  last = math.max(last, parse(found).epoch)
  if parse(found).epoch ~= replaces then return {'', found, whole(left), whole(now)} end
elseif replaces and left >= replaces then
  return {'', '', whole(left), whole(now)}
end
-- Neither there nor left: Redis lost what the caller saw, and the caller is believed.

local generation = tonumber(known[1] or '0')
if tonumber(ARGV[9]) > generation then
  generation = tonumber(ARGV[9])
  redis.call('HSET', meta, 'generation', ARGV[9])
end
-- The caller's clock counts, too, should this one be behind; within reason, or one bad clock would use epochs up.
local ms = math.max(now, math.min(tonumber(ARGV[8]), now + HOUR_MS)) + FAILOVER_MS * generation
local above = math.max(last, replaces or 0, tonumber(ARGV[5]))
ms = math.max(ms, math.floor(above / 1024) + 1)
local r = {
  epoch = ms * 1024 + generation % 16, lease = now + tonumber(ARGV[7]), session = ARGV[6],
  static = ARGV[10], client = ARGV[11], node = ARGV[12],
}
local record = put(room, participant, r, now)
if left > 0 then redis.call('DEL', gone) end
append(log, meta, ARGV[16], 'o', origin, 'r', name, 'p', participant, 'v', record, 't', ARGV[13], 'a', ARGV[14], 'f', ARGV[15])
return {whole(r.epoch), whole(r.lease), whole(now)}
