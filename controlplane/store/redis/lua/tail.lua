-- Says which data set this is and where its logs end, so that a reader begins behind what it loads.
-- KEYS: meta, logs …
-- ARGV: name for the data set, should it have none; the data set that the caller knew ('' for none); its generation
-- Returns {now, name of the data set, generation, then of each log: last id, last number}.
local meta = KEYS[1]
redis.call('HSETNX', meta, 'born', ARGV[1])
local found = redis.call('HMGET', meta, 'born', 'generation')
local generation = tonumber(ARGV[3])
-- What was lost with another data set may have had epochs that nobody knows: new ones have to be above.
if ARGV[2] ~= '' and ARGV[2] ~= found[1] then generation = generation + 1 end
generation = math.max(generation, tonumber(found[2] or '0'))
redis.call('HSET', meta, 'generation', whole(generation))
local answer = {whole(now_ms()), found[1], whole(generation)}
for i = 2, #KEYS do
  local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)
  table.insert(answer, last[1] and last[1][1] or '0-0')
  table.insert(answer, redis.call('HGET', meta, KEYS[i]) or '0')
end
return answer
