-- The server's own clock, in milliseconds, and the id of its run. Tests put another in this one's place.
local function server()
  local now = redis.call('TIME')
  local run_id = string.match(redis.call('INFO', 'server'), '\nrun_id:(%w+)')
  if not run_id then return 0 end
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000), run_id
end
