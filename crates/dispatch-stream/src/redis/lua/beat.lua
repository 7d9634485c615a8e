-- Says that a consumer lives.
-- KEYS: the heartbeats. ARGV: me. Returns the server's time in ms.
-- The removal comes first: it is allowed on a full server, and so is what follows it.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
return now
