-- Keeps what a process says of some subjects, and returns what all say of them.
-- KEYS: one a subject. ARGV: me, life in ms, most who are listened to, then what I say of each subject.
-- Returns this server's time in ms, then for each subject all names and what they say. What they say bears a code that
-- this server cannot check, and no moment in it is believed without one.
local time = redis.call('TIME')
local answers = {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
for n = 1, #KEYS do
  if redis.call('HLEN', KEYS[n]) > tonumber(ARGV[3]) then redis.call('DEL', KEYS[n]) end
  redis.call('HSET', KEYS[n], ARGV[1], ARGV[3 + n])
  redis.call('PEXPIRE', KEYS[n], ARGV[2])
  answers[n + 1] = redis.call('HGETALL', KEYS[n])
end
return answers
