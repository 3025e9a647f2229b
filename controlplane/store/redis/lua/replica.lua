-- Says that a replica is alive, and returns who is.
-- KEYS: replicas (HASH id → "SLOT HEARD_MS TARGET")
-- ARGV: id, target, slot that it has or would like, lowest slot, highest slot, ms after which a silent one is forgotten
-- Returns {slot, now, id, "SLOT HEARD_MS TARGET", …}; slot 0 when all are taken.
local now = now_ms()
local taken, answer = {}, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local slot, heard = string.match(all[i + 1], '^(%d+) (%d+) ')
  if all[i] ~= ARGV[1] then
    if now - tonumber(heard) > tonumber(ARGV[6]) then redis.call('HDEL', KEYS[1], all[i])
    else
      taken[tonumber(slot)] = true
      table.insert(answer, all[i])
      table.insert(answer, all[i + 1])
    end
  end
end
local slot, lowest, count = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]) - tonumber(ARGV[4]) + 1
for _ = 1, count do
  if not taken[slot] then break end
  slot = lowest + (slot - lowest + 1) % count
end
if taken[slot] then slot = 0 end
if slot > 0 then
  local own = slot .. ' ' .. whole(now) .. ' ' .. ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], own)
  table.insert(answer, ARGV[1])
  table.insert(answer, own)
end
table.insert(answer, 1, whole(now))
table.insert(answer, 1, tostring(slot))
return answer
