-- How the ledger is kept: one hash, so that no part of it can be lost without the rest, and nothing of it expires.
--
-- Its fields: those in SCALARS, plan, memory; for each host `host:NAME` (who beats, and what it needs), `claims:NAME`
-- and `record:NAME`; for each order `order:ABOUT`. As text, numbers are whole and written with %.0f, because cjson
-- would write large ones with an exponent; objects are written here, because cjson writes an empty one as it likes.
-- Others may have written to it: what no fleetd writes is refused as malformed, before anything is changed.

if redis.replicate_commands then redis.replicate_commands() end -- Redis 4 lets no script write after TIME without it

local KEY = KEYS[1]
local SCALARS = {
  'format', 'fleet', 'run_id', 'generation', 'clock_ms', 'time_ms', 'gathering_ms', 'leader', 'leader_nonce', 'token',
  'until_ms', 'epoch', 'committed_ms', 'holder', 'unit', 'sighted_ms', 'holder_ms', 'rival_ms', 'orders_version',
  'members_version',
  'hosts', -- how many
  'telling', -- how many of them have beaten and are not gone
  'plan_format', -- the newest that all of these know
}
local TEXTS = {fleet = true, run_id = true, leader = true, leader_nonce = true, holder = true, unit = true}
local UNITS = {there = true, kept = true, gone = true}

-- Ends the script with this reply.
local function stop(reply) error({reply = reply}) end
local function refuse(code, about, wait_ms, over) stop({'refused', code, about or '', wait_ms or 0, over or 0}) end
local function malformed(field) stop({'malformed', string.sub(field, 1, 100)}) end

local function ask(command, ...)
  local reply = redis.pcall(command, KEY, ...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then malformed(KEY) end
    stop(reply)
  end
  return reply
end

local function ask_many(fields, field_of)
  if #fields == 0 then return {} end
  local names = {}
  for index, name in ipairs(fields) do names[index] = field_of .. name end
  return ask('HMGET', unpack(names))
end

local function is_whole(value)
  return type(value) == 'number' and value == math.floor(value) and math.abs(value) <= NUMBER_MAX
end

local function number_in(text, field)
  local number = string.find(text, '^%-?%d+$') and #text <= 17 and tonumber(text)
  if not is_whole(number) then malformed(field) end
  return number
end

local function number_text(number) return string.format('%.0f', number) end

-- {source = connections}
local function checked_by_source(object, field)
  if type(object) ~= 'table' then malformed(field) end
  for source, connections in pairs(object) do
    if type(source) ~= 'string' or not is_whole(connections) or connections < 0 then malformed(field) end
  end
  return object
end

local function object_text(object, text_of)
  local parts = {}
  for name, value in pairs(object) do parts[#parts + 1] = cjson.encode(name) .. ':' .. text_of(value) end
  return '{' .. table.concat(parts, ',') .. '}'
end

local function by_source_text(object) return object_text(object, number_text) end
local function claims_text(claims) return object_text(claims, by_source_text) end

local function decoded(text, field)
  if #text > VALUE_BYTES_MAX then malformed(field) end
  local good, object = pcall(cjson.decode, text)
  if not good or type(object) ~= 'table' then malformed(field) end
  return object
end

local function claims_in(text, field)
  local claims = decoded(text, field)
  for name, of_process in pairs(claims) do
    if type(name) ~= 'string' then malformed(field) end
    checked_by_source(of_process, field)
  end
  return claims
end

-- A host that was only named.
local function bare(beat_ms)
  return {
    boot_id = '', nonce = '', replaced_nonce = '', sent_ms = 0, beat_ms = beat_ms, told_generation = 0, fit = false,
    plan_format = 0, gone = false, missing = {}, scheduler = {},
  }
end

local function entry_text(entry)
  return object_text(entry, function(value)
    if type(value) == 'number' then return number_text(value) end
    if type(value) == 'table' then return by_source_text(value) end
    return cjson.encode(value)
  end)
end

local function entry_in(text, field)
  local entry = decoded(text, field)
  for name, default in pairs(bare(0)) do
    local value = entry[name]
    if type(value) ~= type(default) then malformed(field) end
    if type(value) == 'number' and not is_whole(value) then malformed(field) end
    if type(value) == 'table' then checked_by_source(value, field) end
  end
  return entry
end

-- The scalars of the ledger; nil: there is none.
local ledger
local as_read = {}

local function load()
  local fields = ask('HLEN')
  if fields == 0 then return end
  local values = ask('HMGET', unpack(SCALARS))
  local format = number_in(values[1] or '', 'format')
  if format > FORMAT then refuse('format', number_text(format)) end
  if fields > FIELDS_MAX then malformed(KEY) end
  ledger = {}
  for index, field in ipairs(SCALARS) do
    local value = values[index]
    if not value or #value > VALUE_BYTES_MAX then malformed(field) end
    as_read[field] = value
    if TEXTS[field] then
      ledger[field] = value
    elseif field ~= 'gathering_ms' or value ~= '' then
      ledger[field] = number_in(value, field)
    end
  end
  if not UNITS[ledger.unit] then malformed('unit') end
end

-- The names of all fields, once they were asked for; and what is to be written, false: to be deleted.
local keys
local changes = {}

local function save()
  for _, field in ipairs(SCALARS) do
    local value = ledger[field] or ''
    local text = type(value) == 'number' and number_text(value) or value
    if text ~= as_read[field] then changes[field] = text end
  end
  local writes, deletes = {}, {}
  for field, text in pairs(changes) do
    if text then
      writes[#writes + 1] = field
      writes[#writes + 1] = text
    else
      deletes[#deletes + 1] = field
    end
  end
  -- The writes first: a Redis that is full or a replica refuses these, and then nothing is changed.
  if #writes > 0 then ask('HSET', unpack(writes)) end
  if #deletes > 0 then ask('HDEL', unpack(deletes)) end
  keys = nil
end

-- The names of all fields `kind:NAME`.
local function names_of(kind)
  keys = keys or ask('HKEYS')
  local names = {}
  for _, field in ipairs(keys) do
    if string.sub(field, 1, #kind) == kind then names[#names + 1] = string.sub(field, #kind + 1) end
  end
  return names
end

-- By host; false: there is none.
local entries, claims_read = {}, {}

local function entry_of(host)
  if entries[host] == nil then
    local text = ask('HGET', 'host:' .. host)
    entries[host] = text and entry_in(text, 'host:' .. host)
  end
  return entries[host]
end

local function put_entry(host, entry)
  entries[host] = entry
  changes['host:' .. host] = entry and entry_text(entry)
end

-- All hosts: only for the leader, for who starts something, and while the truth is gathered.
local every_entry = false
local function all_entries()
  if not every_entry then
    local unread = {}
    for _, host in ipairs(names_of('host:')) do
      if entries[host] == nil then unread[#unread + 1] = host end
    end
    for index, text in ipairs(ask_many(unread, 'host:')) do
      entries[unread[index]] = entry_in(text, 'host:' .. unread[index])
    end
    every_entry = true
  end
  local found = {}
  for host, entry in pairs(entries) do found[host] = entry or nil end
  return found
end

local function claims_of(host)
  if claims_read[host] == nil then
    local text = ask('HGET', 'claims:' .. host)
    claims_read[host] = text and claims_in(text, 'claims:' .. host)
  end
  return claims_read[host]
end

local function put_claims(host, claims)
  claims_read[host] = claims
  changes['claims:' .. host] = claims and claims_text(claims)
end

-- What a follower is told of all hosts, so that it need not look at them: to be counted after one of these changed.
local function count_hosts()
  ledger.telling, ledger.plan_format = 0, 0
  for _, entry in pairs(all_entries()) do
    if entry.boot_id ~= '' and not entry.gone then ledger.telling = ledger.telling + 1 end
    if entry.plan_format ~= 0 and not entry.gone then
      local newest = ledger.plan_format
      ledger.plan_format = newest == 0 and entry.plan_format or math.min(newest, entry.plan_format)
    end
  end
end

-- Whether no other host has told anything.
local function alone(host)
  local entry = entry_of(host)
  local own = entry and entry.boot_id ~= '' and not entry.gone and 1 or 0
  return ledger.telling - own <= 0
end

local function forget_host(host)
  put_entry(host, false)
  claims_read[host] = false
  changes['claims:' .. host], changes['record:' .. host] = false, false
  ledger.hosts = ledger.hosts - 1
end
