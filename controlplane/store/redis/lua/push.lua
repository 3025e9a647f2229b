-- Brings in what a replica knows of a participant: reports, repeated joins, and what it decided or remembers alone.
-- The higher epoch stands. Parts that are given replace those of the record; '' leaves a part as it is.
-- KEYS: room, gone, log, meta, numbers of the entries of the log that put somebody on the node
-- ARGV: origin, room, participant, epoch, session, lease from now in ms, '1' if the lease may become shorter,
--       static, client, node ('-' for none), event or '', at, from, limit
-- Returns {'ok'}, {'newer', record}, {'gone', epoch}, {'missing'} when there is no record and the static part is not given.
local room, gone, log, meta, to = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local origin, name, participant = ARGV[1], ARGV[2], ARGV[3]
local epoch, now = tonumber(ARGV[4]), now_ms()
local left = tonumber(redis.call('GET', gone) or '0')
if left >= epoch then return {'gone', whole(left)} end
local found = redis.call('HGET', room, participant)
local r = found and parse(found)
if r and r.epoch > epoch then return {'newer', found} end
local static, client, node = ARGV[8], ARGV[9], ARGV[10]
local is_new = not (r and r.epoch == epoch)
if is_new then
  if static == '' then return {'missing'} end
  r = {epoch = epoch, lease = 0, static = static, client = client, node = ''}
end
local lease = now + tonumber(ARGV[6])
if ARGV[7] ~= '1' then lease = math.max(lease, r.lease) end
r.lease, r.session = lease, ARGV[5]
if client ~= '' then r.client = client end
if node == '-' then r.node = '' elseif node ~= '' then r.node = node end
local record = put(room, participant, r, now)
if left > 0 then redis.call('DEL', gone) end
local entry = {'o', origin, 'r', name, 'p', participant, 'v', record}
if ARGV[11] ~= '' then
  for _, field in ipairs({'t', ARGV[11], 'a', ARGV[12], 'f', ARGV[13]}) do table.insert(entry, field) end
end
local number = append(log, meta, ARGV[14], unpack(entry))
if is_new then placed(to, number) end
return {'ok'}
