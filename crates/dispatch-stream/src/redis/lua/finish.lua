-- Settles the jobs of one flush: takes them from their queues and tells their gateways. The first verdict holds.
-- KEYS: the queues, the reply streams, then the marks.
-- ARGV: group, number of queues, number of reply streams, life of marks and replies in ms, most replies;
--       then for each job: numbers of its queue, its reply stream and its mark, entry id, job id, verdict.
-- Returns how many verdicts were the first.
-- An empty verdict says that this worker cannot take the job: it is forgotten here, and its gateway told.
-- Of what it writes, what frees memory comes first: so it runs on a full server too, and a full server drains.
local call, ARGV, KEYS = redis.call, ARGV, KEYS
local group, queues, streams, life, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local marks, first, step = queues + streams, 6, 6

local function append(lists, key, item)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = item
end

local entries, ids, known = {}, {}, {}
for at = first, #ARGV, step do
  append(entries, ARGV[at], ARGV[at + 3])
  append(ids, ARGV[at + 2], ARGV[at + 4])
end
for mark, of_mark in pairs(ids) do
  local found = call('HMGET', KEYS[marks + mark], unpack(of_mark))
  for n = 1, #of_mark do known[of_mark[n]] = found[n] end
end
for queue, of_queue in pairs(entries) do
  call('XACK', KEYS[tonumber(queue)], group, unpack(of_queue))
  call('XDEL', KEYS[tonumber(queue)], unpack(of_queue))
end

local settled, replies, count = {}, {}, 0
for at = first, #ARGV, step do
  local stream, mark, id, verdict = ARGV[at + 1], ARGV[at + 2], ARGV[at + 4], ARGV[at + 5]
  if not known[id] or string.sub(known[id], 1, 1) ~= 'R' then
    if verdict == '' then
      call('HDEL', KEYS[marks + mark], id)
    else
      known[id] = 'R' .. verdict
      append(settled, mark, id)
      append(settled, mark, known[id])
    end
    append(replies, stream, id)
    append(replies, stream, verdict)
    count = count + 1
  end
end
for mark, fields in pairs(settled) do call('HSET', KEYS[marks + mark], unpack(fields)) end
for mark in pairs(ids) do call('PEXPIRE', KEYS[marks + mark], life) end
for stream, jobs_and_verdicts in pairs(replies) do
  call('XADD', KEYS[queues + stream], 'MAXLEN', '~', most, '*', unpack(jobs_and_verdicts))
  call('PEXPIRE', KEYS[queues + stream], life)
end
return count
