-- Hands over the jobs of one flush. Idempotent by job id.
-- KEYS: the queues, then the mark of each job.
-- ARGV: number of queues, most entries of a queue, life of a mark in ms, gateway;
--       then for each job: number of its queue, id, what is left of its budget in ms, envelope.
-- Returns for each job: A added | Q still queued | R and the verdict | B the queue is full.
-- All commands of one call see the same full or not full server: Redis refuses the first write, or none.
local queues, most, life, gateway = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length, answers = {}, {}
for n = 1, #KEYS - queues do
  local at = 1 + n * 4
  local number, mark = tonumber(ARGV[at]), KEYS[queues + n]
  local queue = KEYS[number]
  length[number] = length[number] or redis.call('XLEN', queue)
  local known
  if length[number] >= most then
    known = redis.call('GET', mark) or 'B'
  else
    known = redis.call('SET', mark, 'Q', 'NX', 'GET', 'PX', life)
  end
  if not known then
    redis.call('XADD', queue, '*', 'j', ARGV[at + 1], 'g', gateway,
      'x', string.format('%.0f', now + ARGV[at + 2]), 'p', ARGV[at + 3])
    length[number] = length[number] + 1
    known = 'A'
  end
  answers[n] = known
end
return answers
