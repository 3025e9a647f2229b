-- Puts an assignment in force, if what the caller saw is still true.
-- KEYS: room, gone, log, meta, numbers of the entries of the log that put somebody on the node
-- ARGV: origin, room, participant, replaces ('' for nobody), floor, session, lease from now in ms,
--       generation of the deployment, static, client, node, event, at, from (node before), limit of the log,
--       name of the data set that the caller knows, places that the node has behind this one as far as the caller has
--       read ('' for any number), number of the entry that it read last, time until which it waits for this
-- Returns {epoch, lease, now}, {'', record or '', epoch of who left or '0', now}, or
-- {'lost'} when this is another data set: epochs of before may have been given that neither side knows, so the caller
--   has to begin a new generation;
-- {'late'} when the caller has gone on alone: it may have decided something else since, and this would seem newer;
-- {'behind'} when others may have taken the node's places since the caller read.
local room, gone, log, meta, to = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local origin, name, participant = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', meta, 'generation', 'born')
if known[2] ~= ARGV[16] then return {'lost'} end
local now = now_ms()
if now > tonumber(ARGV[19]) then return {'late'} end
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

local spare = tonumber(ARGV[17])
if spare and spare < PLACED_KEPT and redis.call('ZCOUNT', to, '(' .. ARGV[18], '+inf') > spare then return {'behind'} end

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
local number = append(log, meta, ARGV[15], 'o', origin, 'r', name, 'p', participant, 'v', record, 't', ARGV[12], 'a', ARGV[13], 'f', ARGV[14])
placed(to, number)
return {whole(r.epoch), whole(r.lease), whole(now)}
