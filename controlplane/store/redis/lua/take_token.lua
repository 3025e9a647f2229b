-- Uses a one-time token up.
-- KEYS: tokens
-- ARGV: id, digest
-- Returns {'taken', data} or {'none'}.
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if not kept then return {'none'} end
local ends, digest, data = string.match(kept, '^(%d+) (%S+) (.*)$')
if tonumber(ends) <= now_ms() or digest ~= ARGV[2] then return {'none'} end
redis.call('HDEL', KEYS[1], ARGV[1])
return {'taken', data}
