-- What the scripts share. Numbers of 53 bits are exact in Lua's doubles; they are written without an exponent.

local HOUR_MS = 3600000
local GONE_MS = 900000 -- how long the epoch of somebody who left is kept: longer than a replica goes on by itself unseen
local FAILOVER_MS = 30000 -- what a fail-over puts between its epochs and those that were lost: more than clocks differ

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local PLACED_KEPT = 64 -- entries of the log about one node; more than that in the 25 ms between two readings never come

local function whole(number) return string.format('%.0f', number) end

local function parse(record)
  local epoch, lease, static, client, session, body = string.match(record, '^(%d+) (%d+) (%d+) (%d+) ([^\n]*)\n()')
  static, client = tonumber(static), tonumber(client)
  return {
    epoch = tonumber(epoch), lease = tonumber(lease), session = session,
    static = string.sub(record, body, body + static - 1),
    client = string.sub(record, body + static, body + static + client - 1),
    node = string.sub(record, body + static + client),
  }
end

local function build(r)
  return whole(r.epoch) .. ' ' .. whole(r.lease) .. ' ' .. #r.static .. ' ' .. #r.client .. ' ' .. r.session
    .. '\n' .. r.static .. r.client .. r.node
end

-- Each entry has a number that grows by one: a reader sees what it missed.
local function append(log, meta, limit, ...)
  local number = redis.call('HINCRBY', meta, log, 1)
  redis.call('XADD', log, 'MAXLEN', '~', limit, '*', 'n', number, ...)
  return number
end

-- Notes which entry of the log put somebody on a node.
local function placed(to, number)
  redis.call('ZADD', to, number, number)
  if redis.call('ZCARD', to) > 2 * PLACED_KEPT then redis.call('ZREMRANGEBYRANK', to, 0, -PLACED_KEPT - 1) end
  redis.call('PEXPIRE', to, HOUR_MS)
end

local function put(room, participant, r, now)
  local record = build(r)
  redis.call('HSET', room, participant, record)
  -- Only so that nothing stays for ever; whether a lease is over, its record says.
  local keep = math.max(r.lease - now, 0) + HOUR_MS
  if redis.call('PTTL', room) < keep then redis.call('PEXPIRE', room, keep) end
  return record
end

local function drop(room, gone, participant, epoch)
  redis.call('HDEL', room, participant)
  redis.call('SET', gone, whole(epoch), 'PX', GONE_MS)
end
