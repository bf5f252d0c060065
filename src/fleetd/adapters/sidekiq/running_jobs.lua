-- What is needed of large running jobs, for running_jobs.py: their sizes, or queue, begin, id and class. It writes nothing.
--
-- A running job holds its whole payload, and a field of a hash can't be read in part, so its size is asked first.
--
-- ARGV: sizes KEY...           Reply: for each key a list TID, BYTES, TID, BYTES …, or an error's text
--       jobs BYTES KEY TID...  Reply: for each tid that is there [QUEUE,RUN_AT,JID,CLASS] as JSON, its own JSON if that is
--                              short, or '' where it is larger than BYTES or not as Sidekiq writes it

local WHOLE_MAX = 2048 -- bytes of JSON sent whole
local TAILS = {1024, 65536} -- bytes at the end of a job searched for its id
local HEAD_BYTES = 512 -- of a job searched for its class
local JID_MAX, CLASS_MAX = 64, 128
local JID_TRIES_MAX = 8 -- nested objects that have an id as well

local function sizes_of(key)
  local tids = redis.pcall('HKEYS', key)
  if tids.err then return tids.err end
  local sizes = {}
  for _, tid in ipairs(tids) do
    local size = redis.pcall('HSTRLEN', key, tid)
    sizes[#sizes + 1] = tid
    sizes[#sizes + 1] = type(size) == 'number' and size or -1
  end
  return sizes
end

-- Sidekiq's id of a job, or ''. The job is JSON in a string here, its last brace at `close`. Quotes of its keys are
-- escaped once and those inside its strings twice, so what is found can only be a key. It is the job's own, and not one
-- of a nested object, if there is no other brace between it and the last. Sidekiq writes it after the arguments.
local function job_id(json, close, tail)
  local at = math.max(1, #json - tail)
  for _ = 1, JID_TRIES_MAX do
    local from, to = string.find(json, 'jid\\":\\"', at, true) -- j is a rare letter: found 40 times faster than with the quote before it
    if not from then return '' end
    if string.find(json, '}', to, true) == close and string.find(json, '^[,{]\\"', from - 3) then
      local jid = string.match(json, '^([%w_.:-]+)\\"', to + 1)
      return jid and #jid <= JID_MAX and jid or ''
    end
    at = to
  end
  return ''
end

-- The name of a job's class, or ''. It is the job's own if no other object or list begins before it.
local function job_class(json)
  local head = string.sub(json, 1, HEAD_BYTES)
  local _, open = string.find(head, '","payload":"{', 1, true)
  if not open then return '' end
  local nested = string.find(head, '[{%[]', open + 1) or #head
  for _, key in ipairs({'wrapped', 'class'}) do -- ActiveJob's own class is `wrapped`, and `class` the same for all
    local from, _, name = string.find(head, '\\"' .. key .. '\\":\\"([%w_:]+)\\"', open)
    if from and from < nested and #name <= CLASS_MAX and string.find(head, '^[,{]', from - 1) then return name end
  end
  return ''
end

local function entry_of(json)
  if #json <= WHOLE_MAX then return json end
  local queue = string.match(json, '^{"queue":"([^"\\%c]+)","payload":')
  local run_at = string.match(string.sub(json, -40), ',"run_at":(%d+%.?%d*)}$')
  if not (queue and run_at) then return '' end
  local close, jid = #json - #run_at - #'","run_at":}', ''
  for _, tail in ipairs(TAILS) do
    if jid == '' then jid = job_id(json, close, tail) end
  end
  return '["' .. queue .. '",' .. run_at .. ',"' .. jid .. '","' .. job_class(json) .. '"]'
end

local reply = {}
if ARGV[1] == 'sizes' then
  for index = 2, #ARGV do reply[#reply + 1] = sizes_of(ARGV[index]) end
  return reply
end
local limit, key = tonumber(ARGV[2]), ARGV[3]
for index = 4, #ARGV do
  local size = redis.pcall('HSTRLEN', key, ARGV[index]) -- again: a beat may have replaced it, or removed it
  if size ~= 0 then
    local json = type(size) == 'number' and size <= limit and redis.pcall('HGET', key, ARGV[index])
    reply[#reply + 1] = type(json) == 'string' and entry_of(json) or ''
  end
end
return reply
