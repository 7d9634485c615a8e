-- Takes over the entries of one dead worker.
-- KEYS: the heartbeats, the dead, then the queues: two for each provider.
-- ARGV: group, me, the dead one, deliveries after which a job is poison, whether I may take a suspect (0 or 1), then
--       for each provider the most entries to take.
-- Returns {taken, poison, suspect}: the first two lists of {number of the queue, entry}, the last an entry id or false.
-- A job that two or more workers did not survive is a suspect: each worker runs one at a time, so that
-- the innocent ones pass and the guilty one is found.
-- A worker that shows itself again takes itself from the dead, and keeps what is still its own.
local group, me, dead = ARGV[1], ARGV[2], ARGV[3]
local limit, suspects = tonumber(ARGV[4]), tonumber(ARGV[5])
local room = {tonumber(ARGV[6]), tonumber(ARGV[7])}
local taken, poison, suspect, left = {}, {}, false, false
if redis.call('SISMEMBER', KEYS[2], dead) == 0 then return {taken, poison, suspect} end
for number = 0, #KEYS - 3 do
  local queue, provider = KEYS[number + 3], math.floor(number / 2) + 1
  local pending = redis.pcall('XPENDING', queue, group, '-', '+', 200, dead)
  if pending.err then pending = {} end
  for p = 1, #pending do
    local id, deliveries = pending[p][1], pending[p][4]
    local list
    if deliveries >= limit then
      list = poison
    elseif room[provider] > 0 and (deliveries < 2 or suspects > 0) then
      list = taken
      room[provider] = room[provider] - 1
      if deliveries >= 2 then suspects = suspects - 1; suspect = id end
    end
    if list then
      local entry = redis.call('XCLAIM', queue, group, me, 0, id)[1]
      if entry then table.insert(list, {number, entry}) end
    else
      left = true
    end
  end
  if #pending == 200 then left = true end
end
if not left then
  for number = 3, #KEYS do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[number], group, dead) end
  redis.call('SREM', KEYS[2], dead)
  redis.call('HDEL', KEYS[1], dead)
end
return {taken, poison, suspect}
