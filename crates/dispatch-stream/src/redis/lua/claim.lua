-- Claims jobs where more wait than one read brought: calls before the others, with a tenth kept for these.
-- KEYS: the calls, the others. ARGV: group, me, most jobs.
-- Returns two lists of entries.
local function read(key, count)
  if count < 1 then return {} end
  local streams = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count, 'STREAMS', key, '>')
  return streams and streams[1] and streams[1][2] or {}
end
local most = tonumber(ARGV[3])
local calls = read(KEYS[1], most - math.floor(most / 10))
local others = read(KEYS[2], most - #calls)
local more = read(KEYS[1], most - #calls - #others)
for n = 1, #more do calls[#calls + 1] = more[n] end
return {calls, others}
