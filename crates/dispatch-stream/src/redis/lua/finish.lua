-- Settles the jobs of one flush: takes them from their queues and tells their gateways. The first verdict holds.
-- KEYS: the queues, the reply streams, then the mark of each job.
-- ARGV: group, number of queues, number of reply streams, life of marks and replies in ms, most replies;
--       then for each job: number of its queue, number of its reply stream, entry id, job id, verdict.
-- Returns how many verdicts were the first.
-- What frees memory comes first: so it runs on a full server too, and a full server drains.
local group, queues, streams, life, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local jobs = #KEYS - queues - streams
local entries, replies, first = {}, {}, 0
for n = 1, jobs do
  local number = tonumber(ARGV[n * 5 + 1])
  entries[number] = entries[number] or {}
  table.insert(entries[number], ARGV[n * 5 + 3])
end
for number, ids in pairs(entries) do
  redis.call('XACK', KEYS[number], group, unpack(ids))
  redis.call('XDEL', KEYS[number], unpack(ids))
end
for n = 1, jobs do
  local at, mark = n * 5, KEYS[queues + streams + n]
  local known = redis.call('SET', mark, 'R' .. ARGV[at + 5], 'GET', 'PX', life)
  if known and string.sub(known, 1, 1) == 'R' then
    redis.call('SET', mark, known, 'PX', life)
  else
    local number = tonumber(ARGV[at + 2])
    replies[number] = replies[number] or {}
    table.insert(replies[number], ARGV[at + 4])
    table.insert(replies[number], ARGV[at + 5])
    first = first + 1
  end
end
for number, pairs_of_job_and_verdict in pairs(replies) do
  local stream = KEYS[queues + number]
  redis.call('XADD', stream, 'MAXLEN', '~', most, '*', unpack(pairs_of_job_and_verdict))
  redis.call('PEXPIRE', stream, life)
end
return first
