-- Hands over the jobs of one call. Done once, however often its gateway asks.
-- KEYS: the lane, the gateway's book, then each queue that gets jobs.
-- ARGV: number of the call, this server's time when it was written, as far as the gateway knows, most entries of a
--       queue, life of the book in ms; how many jobs each queue gets; then each job's parcel, in the order of the queues.
-- Returns this server's time in ms, the epoch of its clock and the lane's last heartbeat; what the book said before: its
--       last call, its last call with jobs, and how many of these each queue took; then how many jobs of this call each
--       queue took, from the first one on, or 'late' or 'old' when nothing was taken.
-- A call that lay about adds nothing: because this server stood still ('late'), or because its gateway has asked since
-- what became of it ('old'). Its jobs are on another way by now.
-- A server at its memory limit refuses the first write of a call, and so each: it takes nothing new, half or whole.
-- A command is dear: the jobs of a call share all but the one that adds their entry.
local call, ARGV, KEYS = redis.call, ARGV, KEYS
local number, written, most, life = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local queues = #KEYS - 2
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local lane = call('HMGET', KEYS[1], 'beat', 'epoch', 'seen')
-- A clock that has stepped since the last heartbeat has no epoch until the next one.
local seen = tonumber(lane[3] or now)
if now < seen or now - seen > 2000 then lane[2] = false end
local book = call('HMGET', KEYS[2], 'call', 'jobs', 'taken')
local said = {string.format('%.0f', now), lane[2] or '', lane[1] or '', book[1] or '', book[2] or '', book[3] or ''}
if book[1] and tonumber(book[1]) >= number then
  said[7] = 'old'
  return said
end

local late = now - written > 1000
local taken = {}
for queue = 1, queues do
  local room = late and 0 or most - call('XLEN', KEYS[2 + queue])
  taken[queue] = math.max(0, math.min(tonumber(ARGV[4 + queue]), room))
end
local page = {'call', ARGV[1]}
if queues > 0 then page = {'call', ARGV[1], 'jobs', ARGV[1], 'taken', table.concat(taken, ' ')} end
local done = redis.pcall('HSET', KEYS[2], unpack(page))
if type(done) == 'table' then
  if string.sub(done.err, 1, 3) ~= 'OOM' and not string.find(done.err, 'maxmemory') then return done end
  for queue = 1, queues do taken[queue] = 0 end
end
-- Two calls a second at least keep it alive.
if not book[1] or number % 16 == 0 then call('PEXPIRE', KEYS[2], life) end

local at = 5 + queues
for queue = 1, queues do
  local key, first = KEYS[2 + queue], at
  at = at + tonumber(ARGV[4 + queue])
  for job = first, first + taken[queue] - 1 do call('XADD', key, '*', 'p', ARGV[job]) end
end
said[7] = late and 'late' or table.concat(taken, ' ')
return said
