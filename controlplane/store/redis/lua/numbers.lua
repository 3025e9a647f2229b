-- Says how late it is, which data set this is, and how many entries logs had.
-- KEYS: meta
-- ARGV: logs …
-- Returns {now in ms, name of the data set, number, …}.
local answer = redis.call('HMGET', KEYS[1], 'born', unpack(ARGV))
answer[1] = answer[1] or ''
for i = 1, #ARGV do answer[i + 1] = answer[i + 1] or '0' end
table.insert(answer, 1, whole(now_ms()))
return answer
