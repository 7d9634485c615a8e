-- Hands over the jobs of one flush. Idempotent by job id.
-- KEYS: the lane, the queues, then the marks, each of which stands for the jobs of a moment.
-- ARGV: number of queues, most entries of a queue, life of a mark in ms, gateway,
--       this server's time when the call was written, as far as the gateway knows,
--       then for each job: number of its queue, number of its mark, id, app, what was left of its budget in ms when
--       the call was written, envelope.
-- Returns this server's time in ms, the lane's last heartbeat and the epoch of its clock, then for each job:
--       A added | Q still queued | R and the verdict | B the queue, or the server, is full | L too late.
-- A deadline is counted from when the call was written, and from now if that is sooner: the way here is part of it.
-- A call that lay about, because this server stood still, adds nothing: its jobs are on another way by now.
-- A server at its memory limit refuses the first write of a call, and so each: it takes nothing new, half or whole,
-- and still tells what is known.
-- A command is dear: the jobs of a flush share all but the one that adds their entry.
local call, ARGV, KEYS = redis.call, ARGV, KEYS
local queues, most, life, gateway = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local written, first, step = tonumber(ARGV[5]), 6, 6
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local late = now - written > 1000
local from = math.min(now, written)
local marks = queues + 1

local function append(lists, key, item)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = item
end

local lane = call('HMGET', KEYS[1], 'beat', 'epoch')
local epoch = lane[2] or '0'
local ids, known = {}, {}
for at = first, #ARGV, step do append(ids, ARGV[at + 1], ARGV[at + 2]) end
for mark, of_mark in pairs(ids) do
  local found = call('HMGET', KEYS[marks + mark], unpack(of_mark))
  for n = 1, #of_mark do known[of_mark[n]] = found[n] end
end

local length, added, marked, answers = {}, {}, {}, {}
for at = first, #ARGV, step do
  local queue, mark, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local long = length[queue] or call('XLEN', KEYS[1 + queue])
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
local full = false
for mark, fields in pairs(marked) do
  local done = redis.pcall('HSET', KEYS[marks + mark], unpack(fields))
  if type(done) == 'table' then
    if string.sub(done.err, 1, 3) ~= 'OOM' and not string.find(done.err, 'maxmemory') then return done end
    full = true
    break
  end
  call('PEXPIRE', KEYS[marks + mark], life)
end
if full then
  for n, answer in ipairs(answers) do
    if answer == 'A' then answers[n] = 'B' end
  end
else
  local deadlines = {}
  for n = 1, #added do
    local at = added[n]
    local left = ARGV[at + 4]
    local deadline = deadlines[left] or string.format('%.0f', from + left)
    deadlines[left] = deadline
    call('XADD', KEYS[1 + ARGV[at]], '*', 'j', ARGV[at + 2], 'g', gateway, 'a', ARGV[at + 3], 'x', deadline, 'e', epoch, 'p', ARGV[at + 5])
  end
end
return {string.format('%.0f', now), lane[1] or '', epoch, unpack(answers)}
