-- Replaces the topology if nobody else did.
-- KEYS: topology, fleet log, meta, log
-- ARGV: origin, expected version, new version, text, at, limit of the fleet log, limit of the log,
--       'restore' to bring back one that Redis lost
-- Returns {'ok'} or {'conflict', version, text}.
local found = redis.call('HMGET', KEYS[1], 'version', 'text')
local version = tonumber(found[1] or '0')
local fits = version == tonumber(ARGV[2])
if ARGV[8] == 'restore' then fits = version < tonumber(ARGV[3]) end
if not fits then return {'conflict', whole(version), found[2] or ''} end
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'text', ARGV[4])
append(KEYS[2], KEYS[3], ARGV[6], 'o', ARGV[1], 'k', 'topology', 'f', ARGV[3], 'v', ARGV[4])
if ARGV[8] ~= 'restore' then
  append(KEYS[4], KEYS[3], ARGV[7], 'o', ARGV[1], 't', 'topology.changed', 'a', ARGV[5], 'j', '{"version":' .. ARGV[3] .. '}')
end
return {'ok'}
