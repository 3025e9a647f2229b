-- Puts an assignment in force, if what the caller saw is still true.
-- KEYS: room, gone, log, meta
-- ARGV: origin, room, participant, replaces ('' for nobody), floor, session, lease from now in ms,
--       generation of the deployment, static, client, node, event, at, from (node before), limit of the log,
--       name of the data set that the caller knows
-- Returns {epoch, lease, now}, {'', record or '', epoch of who left or '0', now}, or {'lost'} when this is another data
-- set: epochs of before may have been given that neither side knows, so the caller has to begin a new generation.
local room, gone, log, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local origin, name, participant = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', meta, 'generation', 'born')
if known[2] ~= ARGV[16] then return {'lost'} end
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
if tonumber(ARGV[8]) > generation then
  generation = tonumber(ARGV[8])
  redis.call('HSET', meta, 'generation', ARGV[8])
end
local above = math.max(last, replaces or 0, tonumber(ARGV[5]))
local ms = now + FAILOVER_MS * generation
ms = math.max(ms, math.floor(above / 1024) + 1)
local r = {
  epoch = ms * 1024 + generation % 16, lease = now + tonumber(ARGV[7]), session = ARGV[6],
  static = ARGV[9], client = ARGV[10], node = ARGV[11],
}
local record = put(room, participant, r, now)
if left > 0 then redis.call('DEL', gone) end
append(log, meta, ARGV[15], 'o', origin, 'r', name, 'p', participant, 'v', record, 't', ARGV[12], 'a', ARGV[13], 'f', ARGV[14])
return {whole(r.epoch), whole(r.lease), whole(now)}
