-- Settles the jobs of one call: takes them from their queues, and tells their gateways. Repeating it does no harm: who
-- has been told listens no more.
-- KEYS: the queues, then the reply streams.
-- ARGV: group, number of queues, life of replies in ms, most replies; how many jobs each queue gives; what each reply
--       stream is told; then the jobs' entries, in the order of the queues.
-- Returns how many entries there still were.
-- Of what it writes, what frees memory comes first: so it runs on a full server too, and a full server drains.
local call, ARGV, KEYS = redis.call, ARGV, KEYS
local group, queues, life, most = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local at, count = 5 + #KEYS, 0
for queue = 1, queues do
  local last = at + ARGV[4 + queue] - 1
  call('XACK', KEYS[queue], group, unpack(ARGV, at, last))
  count = count + call('XDEL', KEYS[queue], unpack(ARGV, at, last))
  at = last + 1
end
for stream = queues + 1, #KEYS do
  call('XADD', KEYS[stream], 'MAXLEN', '~', most, '*', 'v', ARGV[4 + stream])
  call('PEXPIRE', KEYS[stream], life)
end
return count
