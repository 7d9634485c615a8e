-- Hands over the jobs of one flush. Idempotent by job id.
-- KEYS: the queues, then the marks, each of which stands for the jobs of a moment.
-- ARGV: number of queues, most entries of a queue, life of a mark in ms, gateway,
--       this server's time when the call was written, as far as the gateway knows (0: it does not);
--       then for each job: number of its queue, number of its mark, id, what is left of its budget in ms, envelope.
-- Returns this server's time in ms, then for each job:
--       A added | Q still queued | R and the verdict | B the queue, or the server, is full | L too late.
-- A call that lay about, because this server stood still, adds nothing: its jobs are on another way by now.
-- A server at its memory limit refuses the first write of a call, and so each: it takes nothing new, half or whole,
-- and still tells what is known.
-- A command is dear: the jobs of a flush share all but the one that adds their entry.
local call, ARGV, KEYS = redis.call, ARGV, KEYS
local queues, most, life, gateway = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local written, first, step = tonumber(ARGV[5]), 6, 5
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local late = written > 0 and now - written > 1000

local function append(lists, key, item)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = item
end

local ids, known = {}, {}
for at = first, #ARGV, step do append(ids, ARGV[at + 1], ARGV[at + 2]) end
for mark, of_mark in pairs(ids) do
  local found = call('HMGET', KEYS[queues + mark], unpack(of_mark))
  for n = 1, #of_mark do known[of_mark[n]] = found[n] end
end

local length, added, marked, answers = {}, {}, {}, {string.format('%.0f', now)}
for at = first, #ARGV, step do
  local queue, mark, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local long = length[queue] or call('XLEN', KEYS[tonumber(queue)])
  local answer = known[id]
  if not answer and long >= most then
    answer = 'B'
  elseif not answer and late then
    answer = 'L'
  elseif not answer then
    answer, known[id], long = 'A', 'Q', long + 1
    append(marked, mark, id)
    append(marked, mark, 'Q')
    added[#added + 1] = at
  end
  length[queue], answers[#answers + 1] = long, answer
end

for mark, fields in pairs(marked) do
  local done = redis.pcall('HSET', KEYS[queues + mark], unpack(fields))
  if type(done) == 'table' then
    if string.sub(done.err, 1, 3) ~= 'OOM' and not string.find(done.err, 'maxmemory') then return done end
    for n, answer in ipairs(answers) do
      if answer == 'A' then answers[n] = 'B' end
    end
    return answers
  end
  call('PEXPIRE', KEYS[queues + mark], life)
end
local deadlines = {}
for n = 1, #added do
  local at = added[n]
  local left = ARGV[at + 3]
  local deadline = deadlines[left] or string.format('%.0f', now + left)
  deadlines[left] = deadline
  call('XADD', KEYS[tonumber(ARGV[at])], '*', 'j', ARGV[at + 2], 'g', gateway, 'x', deadline, 'p', ARGV[at + 4])
end
return answers
