-- What Sidekiq keeps in Redis, for reading.py: queues, processes and counters. It writes nothing.
--
-- It runs inside Redis because other keys say which keys to read, and one round trip is then enough; and because only
-- the end of a large job is sent. This script reads, cuts and bounds. What the content means is for formats.py.
-- A Lua string costs Redis 2 ns a byte, as it hashes each: the script reads no large value that it can avoid.
--
-- ARGV: key prefix; 1 to read everything, 0 for the named ones only; most queues; hashes of job classes with a blank
--       between them; how many queues and how many processes are named; for each queue its name and a length (the oldest
--       job is not read if the queue still has it; * never, '' always); for each process its identity, last beat and
--       size of info, '' where they are not known; then identity and last beat of known processes of which only the
--       beats are asked for.
-- Reply: a list of records, each a list that begins with its kind:
--   time SECONDS MICROSECONDS | counter NAME VALUE-or-nil | waiting SET JOBS | scheduled LINES
--   classes KEY {NAME FAILED PROCESSED...}   only those with failures; a count is nil if its field is missing
--   queue NAME LENGTH BYTES JOB HEAD   BYTES of the oldest job; 0 if there is none, -1 if it was not read, -2 because
--     this call has done enough. JOB is whole, or what follows the first key in its tail that looks like a time; HEAD is the beginning of such a job.
--   same N...   the Nth of the named processes have not beaten since
--   beats {N BUSY BEAT QUIET}...   of those of which only the beats are asked for
--   process IDENTITY INFO BUSY BEAT QUIET RSS CONCURRENCY KEY JOBS BYTES {ENTRY...}   INFO is nil if its size is as
--     known. KEY is that of its running jobs, '' if there are none; ENTRY is their JSON, if all are small.
--   left IDENTITY   not read, because this call has done enough
--   members SIZE DEAD   of `processes`; DEAD of them have no heartbeat, -1 if they are too many to look at here
--   empty   neither `queues` nor `processes` exists
--   fault ABOUT OWNER KEY WHY | cut ABOUT OWNER KEY LIMIT
--     ABOUT says what is unknown because of it: queues, queue, processes, work (of process OWNER), counter, waiting,
--     scheduled, classes.

local prefix, everything, queues_max = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local NAME_MAX = 256 -- bytes of a queue's or process's name
local WHOLE_MAX = 2048 -- bytes of a job sent whole
local HEAD_BYTES = 1024
local TAIL_MAX = 65536 -- bytes of a longer job searched: after its times a failed one has up to 10,000 characters
local INFO_MAX = 65536
local MEMBERS_MAX = 1000 -- of `processes`, looked at here; more are for members.lua
local PAGE = 50 -- members checked at once
local SMALL_MAX = 16384 -- bytes of running jobs sent from here, all processes together
local SCHEDULES_MAX, SCHEDULES_BYTES = 500, 131072
local CLASS_FIELDS_MAX, CLASS_BYTES_MAX = 2000, 262144 -- Mastodon has 100 classes, with three fields each
local COUNT_MAX = 40 -- bytes of a count
-- One call blocks Redis for a few milliseconds at most, unless a single job is larger than this.
local CALLS_MAX, BYTES_MAX = 2000, 1048576

local records = {}
local function record(...) records[#records + 1] = {...} end

local calls, bytes = 0, 0
local function enough() return calls >= CALLS_MAX or bytes >= BYTES_MAX end

local about, owner = '', ''
local function record_fault(key, why) record('fault', about, owner, prefix .. key, why) end

-- The reply (false: no such thing), or nil after recording a fault.
local function ask(command, key, ...)
  calls = calls + 1
  local reply = redis.pcall(command, prefix .. key, ...)
  if type(reply) == 'table' and reply.err then
    record_fault(key, reply.err)
    return nil
  end
  if type(reply) == 'string' then bytes = bytes + #reply end
  return reply
end

-- Bytes that a hash takes, or -1 if this user may not ask.
local function size_of(key)
  calls = calls + 1
  local reply = redis.pcall('MEMORY', 'USAGE', prefix .. key, 'SAMPLES', '0')
  return type(reply) == 'number' and reply or -1
end

local function short_names(key, names)
  local short = {}
  for _, name in ipairs(names) do
    if #name > NAME_MAX then record_fault(key, 'LONGNAME') else short[#short + 1] = name end
  end
  return short
end

-- The rest of a job from the first key that is named like a time. Such a key is its own or one of a nested object.
-- `_` is a rare letter: it is found many times faster than the quote before the key.
local function from_first_time(job)
  local at = math.max(1, #job - TAIL_MAX)
  while true do
    at = string.find(job, '_at":', at, true)
    if not at then return '' end
    if string.sub(job, at - 9, at - 1) == '"enqueued' then return string.sub(job, at - 9) end
    if string.sub(job, at - 8, at - 1) == '"created' then return string.sub(job, at - 8) end
    at = at + 1
  end
end

local function read_queue(name, known_length)
  about = 'queue'
  local length = ask('LLEN', 'queue:' .. name)
  if not length then return end
  if length == 0 then return record('queue', name, 0, 0, false, '') end
  if enough() then return record('queue', name, length, -2, false, '') end
  if known_length == '*' or known_length == tostring(length) then return record('queue', name, length, -1, false, '') end
  local job = ask('LINDEX', 'queue:' .. name, -1)
  if not job then return end
  if #job <= WHOLE_MAX then return record('queue', name, length, #job, job, '') end
  local head = string.sub(job, 1, HEAD_BYTES)
  if not string.find(head, 'd_at":', 1, true) then head = '' end
  record('queue', name, length, #job, from_first_time(job), head)
end

local function read_queues(seen, processes)
  about = 'queues'
  local size = ask('SCARD', 'queues')
  if not size then return end
  if size == 0 and processes == 0 then record('empty') end
  local names
  if size <= queues_max then
    names = ask('SMEMBERS', 'queues') or {}
  else -- never reads a whole set of unknown size
    record('cut', about, owner, prefix .. 'queues', queues_max)
    names = (ask('SSCAN', 'queues', '0', 'COUNT', queues_max) or {'0', {}})[2]
  end
  local left = queues_max
  for _, name in ipairs(short_names('queues', names)) do
    if not seen[name] and left > 0 then
      left = left - 1
      read_queue(name, '')
    end
  end
end

-- The running jobs of a process: key, how many, bytes, and the jobs themselves if they are small.
local small_left = SMALL_MAX
local function running(identity)
  about, owner = 'work', identity
  for _, ending in ipairs({':work', ':workers'}) do -- ':workers' up to Sidekiq 6.4.1
    local key = identity .. ending
    local jobs = ask('HLEN', key)
    if not jobs then return '', 0, 0, {} end
    if jobs > 0 then
      local size = size_of(key)
      if size < 0 or size > small_left then return prefix .. key, jobs, size, {} end
      small_left = small_left - size
      return prefix .. key, jobs, size, ask('HVALS', key) or {}
    end
  end
  return '', 0, 0, {}
end

-- Whether it was read, or its fault recorded; false: there is no heartbeat.
local function read_process(identity, info_known)
  about, owner = 'processes', ''
  local size = ask('HSTRLEN', identity, 'info')
  if not size then return true end
  if size > INFO_MAX then
    record_fault(identity, 'LONGINFO')
    return true
  end
  local beat = ask('HMGET', identity, 'busy', 'beat', 'quiet', 'rss', 'concurrency')
  if not beat then return true end
  if size == 0 and not (beat[1] or beat[2]) then return false end
  local info = size ~= tonumber(info_known) and ask('HGET', identity, 'info')
  if info == nil then return true end
  local key, jobs, job_bytes, entries = '', 0, 0, {}
  if beat[1] ~= '0' then key, jobs, job_bytes, entries = running(identity) end
  record('process', identity, info, beat[1], beat[2], beat[3], beat[4], beat[5], key, jobs, job_bytes, entries)
  return true
end

-- Named processes: their places in ARGV by identity. From beats_from on only their beats are asked for.
local named, named_from, beats_from, whole = {}, 0, 0, 0
local same, beats = {'same'}, {'beats'}

-- Flat, because Redis takes long for a list in a list: a host that follows asks for most beats like that.
local function read_beat(identity, number)
  local beat = ask('HMGET', identity, 'busy', 'beat', 'quiet')
  if not beat then return true end
  if not (beat[1] or beat[2]) then return false end
  local at = #beats
  beats[at + 1], beats[at + 2], beats[at + 3], beats[at + 4] = number, beat[1], beat[2], beat[3]
  return true
end

local function read_named(identity)
  local place = named[identity]
  local beat_known, beats_only = ARGV[place + 1], place >= beats_from
  local number = beats_only and whole + (place - beats_from) / 2 + 1 or (place - named_from) / 3 + 1
  about, owner = 'processes', ''
  if beat_known ~= '' then
    calls = calls + 1
    if redis.pcall('HGET', prefix .. identity, 'beat') == beat_known then
      same[#same + 1] = number
      return true
    end
  end
  if enough() then
    record('left', identity)
    return true
  end
  if beats_only then return read_beat(identity, number) end
  return read_process(identity, ARGV[place + 2])
end

local function exist(names, first, last)
  local keys = {}
  for index = first, last do keys[#keys + 1] = prefix .. names[index] end
  calls = calls + #keys / 4
  local found = redis.pcall('EXISTS', unpack(keys))
  return type(found) ~= 'number' or found > 0
end

-- Nobody may have cleaned up after processes that were killed: most of the set can be dead.
local function read_new(names)
  local dead = 0
  for first = 1, #names, PAGE do
    local last = math.min(#names, first + PAGE - 1)
    if #names > PAGE and not exist(names, first, last) then
      dead = dead + last - first + 1
    else
      for index = first, last do
        if enough() then
          record('left', names[index])
        elseif not read_process(names[index], '') then
          dead = dead + 1
        end
      end
    end
  end
  return dead
end

local function read_processes()
  about = 'processes'
  local size = ask('SCARD', 'processes')
  if not size then return end
  if size > MEMBERS_MAX then
    record('members', size, -1)
    for identity in pairs(named) do
      if ask('SISMEMBER', 'processes', identity) == 1 then read_named(identity) end
    end
    return size
  end
  local new, dead = {}, 0
  for _, identity in ipairs(short_names('processes', ask('SMEMBERS', 'processes') or {})) do
    if not named[identity] then
      new[#new + 1] = identity
    elseif not read_named(identity) then
      dead = dead + 1
    end
  end
  dead = dead + read_new(new)
  record('members', size, dead)
  return size
end

-- When each schedule of sidekiq-scheduler was pushed last.
local function read_scheduled()
  about, owner = 'scheduled', ''
  local key = 'sidekiq-scheduler:last_times'
  local schedules = ask('HLEN', key)
  if not schedules or schedules == 0 then return end
  local size = size_of(key)
  if schedules > SCHEDULES_MAX or size > SCHEDULES_BYTES then return end
  if size < 0 then
    for _, name in ipairs(ask('HKEYS', key) or {}) do
      if (ask('HSTRLEN', key, name) or 0) > NAME_MAX then return end
    end
  end
  record('scheduled', table.concat(ask('HVALS', key) or {}, '\n'))
end

-- The classes whose jobs failed in one minute, as Sidekiq counts them from 7.0 on.
local function read_classes(key)
  about, owner = 'classes', ''
  local count = ask('HLEN', key)
  if not count or count == 0 then return end
  local size = size_of(key)
  if count > CLASS_FIELDS_MAX or size > CLASS_BYTES_MAX then return record_fault(key, 'MANYFIELDS') end
  local fields = {}
  for _, field in ipairs(ask('HKEYS', key) or {}) do
    if string.sub(field, -2) == '|f' then
      if #field > NAME_MAX then return record_fault(key, 'LONGNAME') end
      fields[#fields + 1] = field
      fields[#fields + 1] = string.sub(field, 1, -2) .. 'p'
    end
  end
  if size < 0 then
    for _, field in ipairs(fields) do
      if (ask('HSTRLEN', key, field) or 0) > COUNT_MAX then return record_fault(key, 'LONGCOUNT') end
    end
  end
  local counts = #fields > 0 and ask('HMGET', key, unpack(fields)) or {}
  local classes = {}
  for index = 1, #fields, 2 do
    classes[#classes + 1] = string.sub(fields[index], 1, -3)
    classes[#classes + 1] = counts[index] or false
    classes[#classes + 1] = counts[index + 1] or false
  end
  record('classes', key, classes)
end

local now = redis.call('TIME')
record('time', now[1], now[2])

local queues = tonumber(ARGV[5])
whole = tonumber(ARGV[6])
named_from = 7 + 2 * queues
beats_from = named_from + 3 * whole
for place = named_from, beats_from - 1, 3 do named[ARGV[place]] = place end
for place = beats_from, #ARGV, 2 do named[ARGV[place]] = place end

if everything then
  about = 'counter'
  for _, name in ipairs({'processed', 'failed'}) do
    local value = ask('GET', 'stat:' .. name)
    if value ~= nil then record('counter', name, value) end
  end
  about = 'waiting'
  for _, set in ipairs({'retry', 'dead', 'schedule'}) do
    local jobs = ask('ZCARD', set)
    if jobs then record('waiting', set, jobs) end
  end
  read_scheduled()
end
-- Heartbeats come first: the time above is then that of each, whatever the queues hold.
local processes
if everything then
  processes = read_processes()
else
  for place = named_from, beats_from - 1, 3 do read_named(ARGV[place]) end
  for place = beats_from, #ARGV, 2 do read_named(ARGV[place]) end
end
owner = ''
local seen = {}
for index = 1, queues do
  local name = ARGV[5 + 2 * index]
  seen[name] = true
  read_queue(name, ARGV[6 + 2 * index])
end
if everything then
  read_queues(seen, processes)
  for key in string.gmatch(ARGV[4], '%S+') do read_classes(key) end
end
records[#records + 1] = same
records[#records + 1] = beats

return records
