-- Puts an assignment in force, if what the caller saw is still true.
-- KEYS: room, gone, log, meta
-- ARGV: origin, room, participant, replaces ('' for nobody), floor, session, lease from now in ms,
--       generation of the deployment, static, client, node, event, at, from (node before), limit of the log,
--       name of the data set that the caller knows, node, places that it has beside this one as far as the caller
--       knows ('' for any number), number of the last entry of the log that the caller has read, time until which the
--       caller waits for this at most ('' if it does not know the clock)
-- Returns {epoch, lease, now}, {'', record or '', epoch of who left or '0', now}, {'full'} when others took the node's
-- places since the caller read, or {'lost'} when this is another data set: epochs of before may have been given that
-- neither side knows, so the caller has to begin a new generation, or {'late'} when the caller has gone on alone: it may
-- have decided something else since, and what is done now would seem newer.
local room, gone, log, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local origin, name, participant = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', meta, 'generation', 'born')
if known[2] ~= ARGV[16] then return {'lost'} end
local now = now_ms()
if now > (tonumber(ARGV[20]) or now) then return {'late'} end
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

-- Log numbers of the latest admissions to this node: of all, and of the caller's own, which it knows.
local all, spare, seen = meta .. ':to:' .. ARGV[17], tonumber(ARGV[18]), '(' .. ARGV[19]
local own = all .. ':' .. origin
if spare and redis.call('ZCOUNT', all, seen, '+inf') > spare then
  local taken = redis.call('ZCOUNT', all, seen, '+inf') - redis.call('ZCOUNT', own, seen, '+inf')
  if taken > spare then return {'full'} end
end

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
for _, to in ipairs({all, own}) do
  redis.call('ZADD', to, number, number)
  if redis.call('ZCARD', to) > 2 * TO_LENGTH then redis.call('ZREMRANGEBYRANK', to, 0, -1 - TO_LENGTH) end
  redis.call('PEXPIRE', to, HOUR_MS)
end
return {whole(r.epoch), whole(r.lease), whole(now)}
