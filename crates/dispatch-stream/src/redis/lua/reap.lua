-- Takes over the entries of dead consumers: those whose last heartbeat is too old, never merely idle ones.
-- KEYS: the heartbeats, then the queues.
-- ARGV: group, me, ms without a heartbeat after which a consumer is dead, most entries to take,
--       deliveries after which a job is poison, whether I may take a suspect (0 or 1).
-- Returns {taken, poison, suspect}: the first two lists of {number of the queue, entry}, the last an entry id or false.
-- A job that two or more workers did not survive is a suspect: each worker runs one at a time, so that
-- the innocent ones pass and the guilty one is found.
local group, me, dead_after = ARGV[1], ARGV[2], tonumber(ARGV[3])
local room, limit, suspects = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken, poison, suspect, remains = {}, {}, false, {}
for number = 2, #KEYS do
  local queue = KEYS[number]
  local group_exists = redis.call('EXISTS', queue) == 1
  local consumers = group_exists and redis.pcall('XINFO', 'CONSUMERS', queue, group) or {}
  for c = 1, consumers.err and 0 or #consumers do
    local fields = {}
    for k = 1, #consumers[c], 2 do fields[consumers[c][k]] = consumers[c][k + 1] end
    local name = fields.name
    local last = tonumber(redis.call('ZSCORE', KEYS[1], name) or 0)
    if name ~= me and now - last > dead_after then
      if fields.pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', queue, group, name)
        remains[name] = remains[name] or false
      else
        remains[name] = true
        local pending = redis.call('XPENDING', queue, group, '-', '+', 200, name)
        for p = 1, #pending do
          local id, deliveries = pending[p][1], pending[p][4]
          local list
          if deliveries >= limit then
            list = poison
          elseif deliveries >= 2 then
            if suspects > 0 then list = taken; suspects = suspects - 1; suspect = id end
          elseif room > 0 then
            list = taken; room = room - 1
          end
          if list then
            local entry = redis.call('XCLAIM', queue, group, me, 0, id)[1]
            if entry then table.insert(list, {number - 1, entry}) end
          end
        end
      end
    end
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 3600000)
for name, left in pairs(remains) do
  if not left then redis.call('ZREM', KEYS[1], name) end
end
return {taken, poison, suspect}
