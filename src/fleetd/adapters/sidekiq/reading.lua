-- One reading of everything Sidekiq keeps in Redis, for reading.py. It writes nothing.
--
-- It runs inside Redis for two reasons: other keys say which keys to read, and one round trip is still enough; and a
-- job of 10 MB costs a copy in memory but no network, because only the end of its JSON is sent.
-- This script reads, cuts and bounds. What the content means is for reading.py and formats.py to find out.
--
-- ARGV: key prefix, most queues, most processes, most running jobs of a process, most bytes of running jobs,
--       then the names of the configured queues.
-- Reply: a list of records, each a list that begins with its kind:
--   time SECONDS MICROSECONDS | queue NAME LENGTH JOB-or-nil CUT(0|1) | counter NAME VALUE-or-nil
--   process IDENTITY INFO BUSY BEAT QUIET RSS CONCURRENCY | work IDENTITY KEY {ENTRY...}
--   An ENTRY is a list {QUEUE, RUN_AT, JID}, or the JSON itself where it does not look as Sidekiq writes it. A list
--   with an empty JID is followed by the JSON, if that is short, so that the reader can parse all of it.
--   fault ABOUT OWNER KEY WHY | cut ABOUT OWNER KEY LIMIT
--   ABOUT says what is unknown because of it: queues, queue, processes, work (of process OWNER) or counter.
--   JOB is whole, or when CUT what follows the first key in its tail that looks like a time.

local prefix = ARGV[1]
local queues_max, processes_max = tonumber(ARGV[2]), tonumber(ARGV[3])
local work_max, work_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local NAME_MAX = 256 -- bytes of a queue's or process's name
local WHOLE_MAX = 2048 -- bytes of JSON sent whole
local TAIL_MAX = 65536 -- bytes of a longer job searched: after its times a failed one has up to 10,000 characters
local INFO_MAX = 65536
local JID_MAX = 64
local JID_TRIES_MAX = 8 -- nested objects that have an id as well

local records = {}
local function record(...) records[#records + 1] = {...} end

local about, owner = '', ''
local function record_fault(key, why) record('fault', about, owner, prefix .. key, why) end
local function record_cut(key, limit) record('cut', about, owner, prefix .. key, limit) end

-- The reply (false: no such thing), or nil after recording a fault.
local function ask(command, key, ...)
  local reply = redis.pcall(command, prefix .. key, ...)
  if type(reply) == 'table' and reply.err then
    record_fault(key, reply.err)
    return nil
  end
  return reply
end

local function members(key, limit)
  about = key
  local size = ask('SCARD', key)
  if not size then return {} end
  local all
  if size <= limit then
    all = ask('SMEMBERS', key) or {}
  else -- never reads a whole set of unknown size
    record_cut(key, limit)
    all = (ask('SSCAN', key, '0', 'COUNT', limit) or {'0', {}})[2]
  end
  local names = {}
  for _, name in ipairs(all) do
    if #name > NAME_MAX then
      record_fault(key, 'LONGNAME')
    elseif #names < limit then
      names[#names + 1] = name
    end
  end
  return names
end

local function read_queue(name)
  about = 'queue'
  local length = ask('LLEN', 'queue:' .. name)
  if not length then return end
  local job = ask('LINDEX', 'queue:' .. name, -1)
  if job == nil then return end
  local cut = 0
  if job and #job > WHOLE_MAX then
    -- Sidekiq writes the times after the arguments. From the first that looks like one the reader finds out
    -- which is the job's own: a nested object of the arguments may have the same names.
    local from = math.max(1, #job - TAIL_MAX)
    local created = string.find(job, '"created_at":', from, true)
    local enqueued = string.find(job, '"enqueued_at":', from, true)
    local first = math.min(created or #job, enqueued or #job)
    job = first < #job and string.sub(job, first) or ''
    cut = 1
  end
  record('queue', name, length, job, cut)
end

-- Sidekiq's id of a job, or ''. The job is JSON in a string here, its last brace at `close`. Quotes of its keys are
-- escaped once and those inside its strings twice, so what is found can only be a key. It is the job's own, and not one
-- of a nested object, if there is no other brace between it and the last. Sidekiq writes it after the arguments.
local function job_id(json, close)
  local at = math.max(1, #json - TAIL_MAX)
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

local function work_entry(json)
  local queue = string.match(json, '^{"queue":"([^"\\]+)","payload":')
  local run_at = string.match(string.sub(json, -40), ',"run_at":([%d.]+)}$')
  local short = #json <= WHOLE_MAX and json or ''
  if not (queue and run_at) then return short end
  local jid = job_id(json, #json - #run_at - #'","run_at":}')
  if jid ~= '' or short == '' then return {queue, run_at, jid} end
  return {queue, run_at, jid, json}
end

local function read_work(identity)
  about, owner = 'work', identity
  local key = identity .. ':work'
  local tids = ask('HLEN', key)
  if tids == 0 then -- ':workers' up to Sidekiq 6.4.1
    key = identity .. ':workers'
    tids = ask('HLEN', key)
  end
  if not tids or tids == 0 then return end
  if tids > work_max then return record_cut(key, work_max) end
  local entries = {}
  for _, tid in ipairs(ask('HKEYS', key) or {}) do
    local size = ask('HSTRLEN', key, tid) or 0
    work_bytes = work_bytes - size
    -- It holds the job's whole payload, and HGET can't read a part of it.
    local json = work_bytes >= 0 and ask('HGET', key, tid)
    entries[#entries + 1] = json and work_entry(json) or ''
  end
  record('work', identity, prefix .. key, entries)
end

local function read_process(identity)
  about = 'processes'
  local size = ask('HSTRLEN', identity, 'info')
  if not size then return end
  if size > INFO_MAX then return record_fault(identity, 'LONGINFO') end
  local beat = ask('HMGET', identity, 'info', 'busy', 'beat', 'quiet', 'rss', 'concurrency')
  if not beat then return end
  if not (beat[1] or beat[2] or beat[3]) then return end -- it died, its hash expired, and nobody has cleaned up yet
  record('process', identity, unpack(beat, 1, 6))
  read_work(identity)
end

local now = redis.call('TIME')
record('time', now[1], now[2])

local seen = {}
for index = 6, #ARGV do
  seen[ARGV[index]] = true
  read_queue(ARGV[index])
end
for _, name in ipairs(members('queues', queues_max)) do
  if not seen[name] then read_queue(name) end
end
for _, identity in ipairs(members('processes', processes_max)) do
  read_process(identity)
end
about = 'counter'
for _, name in ipairs({'processed', 'failed'}) do
  local value = ask('GET', 'stat:' .. name)
  if value ~= nil then record('counter', name, value) end
end

return records
