-- Writes fields of one hash of the fleet; '' forgets a field. Last writer wins.
-- KEYS: hash, fleet log, meta
-- ARGV: origin, kind, limit, then field, value, …
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  append(KEYS[2], KEYS[3], ARGV[3], 'o', ARGV[1], 'k', ARGV[2], 'f', ARGV[i], 'v', ARGV[i + 1])
end
return {'ok'}
