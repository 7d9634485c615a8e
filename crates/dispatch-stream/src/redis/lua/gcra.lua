-- Leases turns of a rate that all processes share (generic cell rate algorithm).
-- KEYS: the rate. ARGV: time between two turns in µs, burst in turns, how many turns are wanted at most.
-- Returns {turns granted, µs until the next one if none was}.
-- No rate is ever further ahead than its burst: what is, was written before this server's clock went back.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = tonumber(redis.call('GET', KEYS[1]) or now)
arrival = math.min(math.max(arrival, now), now + burst * step)
local free = math.floor((now + burst * step - arrival) / step)
if free < 1 then return {0, math.ceil(arrival + step - burst * step - now)} end
local granted = math.min(free, wanted)
arrival = arrival + granted * step
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
return {granted, 0}
