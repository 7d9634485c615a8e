-- Says that a worker lives, and keeps the lane's own book.
-- KEYS: the heartbeats, the dead, the lane.
-- ARGV: me, a number that is new with every heartbeat, whether I read jobs (1 or 0), the reaper that I would replace
--       ('' for none, '-' where I want no change).
-- Returns {this server's time in ms, epoch, reaper, how many dead have left something, whether I was one of them}.
-- The removals come first: they are allowed on a full server, and so is what follows them.
-- The epoch grows when the time goes back, or leaps: deadlines that were written before say nothing any more. A lane that
-- has lost all begins with another one than it had.
local me, number, reads, replaced = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local was_dead = redis.call('SREM', KEYS[2], me)
redis.call('HDEL', KEYS[1], me)
redis.call('HSET', KEYS[1], me, number)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lane = redis.call('HMGET', KEYS[3], 'seen', 'epoch', 'reaper')
local seen, epoch, reaper = tonumber(lane[1] or now), tonumber(lane[2] or now), lane[3] or ''
if now < seen or now - seen > 2000 then epoch = epoch + 1 end
if string.match(reaper, '^[^ ]*') == me or replaced == reaper then reaper = me .. ' ' .. number end
redis.call('HSET', KEYS[3], 'seen', string.format('%.0f', now), 'epoch', string.format('%.0f', epoch), 'reaper', reaper)
if reads == '1' then redis.call('HSET', KEYS[3], 'beat', string.format('%.0f', now)) end
return {string.format('%.0f', now), string.format('%.0f', epoch), reaper, redis.call('SCARD', KEYS[2]), was_dead}
