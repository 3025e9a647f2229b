-- Keeps a one-time token.
-- KEYS: tokens (HASH id → "END_MS DIGEST DATA")
-- ARGV: id, digest, data, lifetime in ms, how many there may be
-- Returns {'ok'} or {'full'}.
local now = now_ms()
local kept = redis.call('HGETALL', KEYS[1])
local count = 0
for i = 1, #kept, 2 do
  if tonumber(string.match(kept[i + 1], '^%d+')) <= now then redis.call('HDEL', KEYS[1], kept[i])
  elseif kept[i] ~= ARGV[1] then count = count + 1 end
end
if count >= tonumber(ARGV[5]) then return {'full'} end
redis.call('HSET', KEYS[1], ARGV[1], whole(now + tonumber(ARGV[4])) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
return {'ok'}
