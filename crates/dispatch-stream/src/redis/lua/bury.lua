-- Counts workers among the dead whose last heartbeat is still the one that was seen long ago.
-- KEYS: the heartbeats, the dead. ARGV: pairs of a worker and the number of that heartbeat.
-- Returns how many were added. The removal comes first: it is allowed on a full server, and so is what follows it.
local added = 0
for at = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1] then
    redis.call('SREM', KEYS[2], ARGV[at])
    added = added + redis.call('SADD', KEYS[2], ARGV[at])
  end
end
return added
