-- Adds what a process has seen of some apps, and returns what all have seen in the last minutes.
-- KEYS: one an app. ARGV: length of a bucket in ms, how many count, then for each app: devices called dead, pushes
--       accepted, ms since the last one was (-1 for none), ms for which its credential is still paused.
-- Returns for each app {dead, accepted, ms since the last accepted one or -1, ms of pause left}.
-- What is told are durations; every moment that is kept is this server's. One that lies ahead was written before the
-- server's clock went back: it counts as of now.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local bucket = math.floor(now / length)
local text = function(number) return string.format('%.0f', number) end
local answers = {}
for n = 1, #KEYS do
  local key, at = KEYS[n], 3 + (n - 1) * 4
  local dead, accepted = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local ago, pause = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local fields, known, gone = redis.call('HGETALL', key), {}, {}
  for f = 1, #fields, 2 do known[fields[f]] = tonumber(fields[f + 1]) end
  local sums = {d = dead, a = accepted}
  for field, value in pairs(known) do
    local kind, of = string.match(field, '^([da])(%d+)$')
    if kind then
      of = tonumber(of)
      if of > bucket - count and of <= bucket then sums[kind] = sums[kind] + value else gone[#gone + 1] = field end
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  if dead > 0 then redis.call('HINCRBY', key, 'd' .. text(bucket), dead) end
  if accepted > 0 then redis.call('HINCRBY', key, 'a' .. text(bucket), accepted) end
  local last, told = known.l, ago >= 0 and now - ago
  if last and last > now then last = now; told = told or now end
  if told and told > (last or 0) then last = told; redis.call('HSET', key, 'l', text(last)) end
  -- A pause is kept with its end and its length: what is left of it never is more than that.
  local till, long = known.p or 0, known.o or 0
  local left = math.min(math.max(till - now, 0), long)
  if pause > left then left = pause; redis.call('HSET', key, 'p', text(now + pause), 'o', text(pause)) end
  if till - now > long then redis.call('HSET', key, 'p', text(now + left), 'o', text(left)) end
  redis.call('PEXPIRE', key, math.max(length * count, left))
  answers[n] = {sums.d, sums.a, last and now - last or -1, left}
end
return answers
