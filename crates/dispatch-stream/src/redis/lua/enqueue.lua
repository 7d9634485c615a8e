-- Hands over the jobs of one flush. Idempotent by job id.
-- KEYS: the queues, then the mark of each job.
-- ARGV: number of queues, most entries of a queue, life of a mark in ms, gateway,
--       this server's time when the call was written, as far as the gateway knows (0: it does not);
--       then for each job: number of its queue, id, what is left of its budget in ms, envelope, and 1 if
--       it may be known already.
-- Returns this server's time in ms, then for each job:
--       A added | Q still queued | R and the verdict | B the queue, or the server, is full | L too late.
-- A call that lay about, because this server stood still, adds nothing: its jobs are on another way by now.
-- A server at its memory limit refuses the first write of a call, and so each: it takes nothing new, half or whole,
-- and still tells what is known.
local queues, most, life, gateway = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local written = tonumber(ARGV[5])
local late = written > 0 and now - written > 1000
local length, answers = {}, {string.format('%.0f', now)}
for n = 1, #KEYS - queues do
  local at = 1 + n * 5
  local number, mark = tonumber(ARGV[at]), KEYS[queues + n]
  local queue = KEYS[number]
  length[number] = length[number] or redis.call('XLEN', queue)
  local known = ARGV[at + 4] == '1' and redis.call('GET', mark)
  if not known and length[number] >= most then
    known = redis.call('GET', mark) or 'B'
  elseif not known and late then
    known = 'L'
  elseif not known then
    known = redis.pcall('SET', mark, 'Q', 'NX', 'GET', 'PX', life)
    if type(known) == 'table' then
      if string.sub(known.err, 1, 3) ~= 'OOM' and not string.find(known.err, 'maxmemory') then return known end
      known = 'B'
    end
  end
  if not known then
    redis.call('XADD', queue, '*', 'j', ARGV[at + 1], 'g', gateway,
      'x', string.format('%.0f', now + ARGV[at + 2]), 'p', ARGV[at + 3])
    length[number] = length[number] + 1
    known = 'A'
  end
  answers[n + 1] = known
end
return answers
