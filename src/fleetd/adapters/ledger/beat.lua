-- core/fleet/rules.py, beat, and core/fleet/slot.py, after_beat.

local function contains(list, name)
  for _, one in ipairs(list) do
    if one == name then return true end
  end
  return false
end

local function begun(call, time_ms, run_id)
  local clock = call.clock_ms
  return {
    format = FORMAT, fleet = call.fleet, run_id = run_id, generation = call.generation + 1, clock_ms = clock,
    time_ms = time_ms, gathering_ms = clock, leader = '', leader_nonce = '', token = 0, until_ms = 0, epoch = 0,
    committed_ms = 0, holder = '', unit = 'there', sighted_ms = clock, holder_ms = clock, rival_ms = clock,
    orders_version = 0, members_version = 0, hosts = 0, telling = 0, plan_format = 0,
  }
end

local function gather_again(call, time_ms, run_id)
  local clock = math.max(ledger.clock_ms, call.clock_ms)
  ledger.run_id, ledger.time_ms, ledger.until_ms = run_id, time_ms, 0
  ledger.generation = math.max(ledger.generation, call.generation) + 1
  ledger.clock_ms, ledger.gathering_ms = clock, clock
  ledger.sighted_ms, ledger.holder_ms, ledger.rival_ms = clock, clock, clock
end

-- Whether this ledger went back in time: its clock goes on within a generation.
local function knows_more(call)
  if call.generation ~= ledger.generation then return call.generation > ledger.generation end
  return call.clock_ms > ledger.clock_ms
end

local function later(call, time_ms)
  local step = math.min(math.max(0, time_ms - ledger.time_ms), math.max(STEP_MS_MAX, 2 * call.tick_ms))
  return ledger.clock_ms + step
end

local function refuse_name(call, time_ms, clock)
  ledger.clock_ms, ledger.time_ms = clock, time_ms
  if call.own_scheduler == 'there' or call.own_scheduler == 'unknown' then ledger.sighted_ms = clock end
  if call.own_scheduler == 'there' then ledger.rival_ms = clock end
  save()
  refuse('name_taken', call.host)
end

local function refuse_beat(call, time_ms)
  if ledger.fleet ~= call.fleet then refuse('fleet', ledger.fleet) end
  local entry = entry_of(call.host)
  if not entry then
    if ledger.hosts >= HOSTS_MAX then refuse('full') end
    return
  end
  if call.nonce == entry.replaced_nonce and call.nonce ~= '' then refuse('replaced', call.host) end
  local clock = later(call, time_ms)
  local silent_ms = clock - entry.beat_ms
  if call.boot_id == entry.boot_id and call.sent_ms < entry.sent_ms and silent_ms < SILENT_MS then
    ledger.clock_ms, ledger.time_ms = clock, time_ms
    save()
    refuse('late')
  end
  local taken = entry.boot_id ~= '' and entry.boot_id ~= call.boot_id
  if taken and silent_ms < math.max(NAME_MS, NAME_TICKS * call.tick_ms) then refuse_name(call, time_ms, clock) end
end

local function add_named(call)
  local joined = false
  for _, name in ipairs(call.members) do
    if not entry_of(name) and ledger.hosts < HOSTS_MAX then
      put_entry(name, bare(ledger.clock_ms))
      ledger.hosts = ledger.hosts + 1
      joined = true
    end
  end
  return joined
end

local function take_host(call, record, claims)
  local host, known = call.host, call.generation == ledger.generation
  local before = entry_of(host)
  local joined = not before
  before = before or bare(0)
  local same = before.nonce == '' or before.nonce == call.nonce
  put_entry(host, {
    boot_id = call.boot_id,
    nonce = call.nonce,
    replaced_nonce = same and before.replaced_nonce or before.nonce,
    sent_ms = call.sent_ms,
    beat_ms = ledger.clock_ms,
    told_generation = known and claims and ledger.generation or before.told_generation,
    fit = call.fit,
    plan_format = call.plan_format,
    gone = false,
    -- A fleetd that has just begun, or can't read its units, does not know what it may have to start.
    missing = checked_by_source(claims and call.missing or before.missing, 'missing'),
    scheduler = checked_by_source(claims and call.scheduler or before.scheduler, 'scheduler'),
  })
  changes['record:' .. host] = record
  if claims then changes['claims:' .. host] = claims end
  if joined then ledger.hosts = ledger.hosts + 1 end
  if ledger.gathering_ms and known then joined = add_named(call) or joined end
  if joined then ledger.members_version = ledger.members_version + 1 end
  if before.gone or (before.boot_id == '') ~= (call.boot_id == '') or before.plan_format ~= call.plan_format then
    count_hosts()
  end
end

local function may_adopt(call)
  local holder = ledger.holder
  if holder == '' or ledger.unit ~= 'there' then return true end
  if call.schedulers == cjson.null or contains(call.schedulers, holder) then return false end
  local entry = entry_of(holder)
  if ledger.gathering_ms and (not entry or entry.beat_ms < ledger.gathering_ms) then return true end
  return ledger.clock_ms - ledger.holder_ms >= GHOST_MS
end

local function see_scheduler(call)
  local own, seen = call.own_scheduler, call.schedulers
  if own == 'there' and ledger.holder ~= call.host and may_adopt(call) then
    ledger.holder, ledger.unit = call.host, 'there'
  elseif own == 'kept' and ledger.holder == '' then
    ledger.holder, ledger.unit = call.host, 'kept' -- the ledger forgot that a person stopped it, or never knew
  elseif ledger.holder == call.host and own ~= 'unknown' then
    ledger.unit = own
  end
  local ours = ledger.holder == call.host and own ~= 'gone'
  local unsure = own == 'unknown' or seen == cjson.null
  local rival = own == 'there' and not ours
  if seen == cjson.null then seen = {} end
  for _, host in ipairs(seen) do rival = rival or host ~= ledger.holder end
  if ours or unsure or own == 'there' or #seen > 0 then ledger.sighted_ms = ledger.clock_ms end
  if ours or unsure or contains(seen, ledger.holder) then ledger.holder_ms = ledger.clock_ms end
  if rival then ledger.rival_ms = ledger.clock_ms end
end

local function take_lease(call)
  local ours = ledger.leader == call.host and ledger.leader_nonce == call.nonce
  if not call.fit then
    if ours then ledger.until_ms = 0 end
    return
  end
  if not ours and ledger.until_ms > ledger.clock_ms and ledger.leader ~= call.host then return end
  if not ours then ledger.token = ledger.token + 1 end
  ledger.leader, ledger.leader_nonce = call.host, call.nonce
  ledger.until_ms = ledger.clock_ms + LEASE_TICKS * call.tick_ms
end

local function leads(call)
  return ledger.leader == call.host and ledger.leader_nonce == call.nonce and ledger.until_ms > 0
end

-- Returns whether nothing is left of this silent host.
local function end_processes(host, was_gone, ended)
  local claims, gone, fewer = claims_of(host) or {}, was_gone, false
  for _, one in ipairs(ended) do
    if one[1] == host then
      gone = gone or one[2] == ''
      fewer = fewer or claims[one[2]] ~= nil
      claims[one[2]] = nil
    end
  end
  if fewer then put_claims(host, claims) end
  return gone and next(claims) == nil
end

local function drop_ended(call)
  local forgotten, left = false, false
  for host, entry in pairs(all_entries()) do
    local silent_ms = ledger.clock_ms - entry.beat_ms
    if silent_ms >= SILENT_MS and host ~= call.host and end_processes(host, entry.gone, call.ended) then
      if silent_ms >= FORGOTTEN_MS then
        forget_host(host)
        forgotten = true
      elseif not entry.gone or next(entry.missing) or next(entry.scheduler) then
        entry.gone, entry.missing, entry.scheduler = true, {}, {}
        put_entry(host, entry)
        left = true
      end
    end
  end
  if forgotten then ledger.members_version = ledger.members_version + 1 end
  if forgotten or left then count_hosts() end
end

-- The hosts that gathering waits for; {''}: only for its shortest time. Empty: it is over.
local function waits()
  local age, untold = ledger.clock_ms - ledger.gathering_ms, {}
  if age >= GATHERING_MS_MAX then return untold end
  for host, entry in pairs(all_entries()) do
    if not entry.gone and entry.told_generation ~= ledger.generation then untold[#untold + 1] = host end
  end
  if #untold == 0 and age < GATHERING_MS_MIN then return {''} end
  return untold
end

-- Only for the leader. Of what others wrote, no more is sent than one answer may have.
local function told()
  local hosts, answers, bytes = {}, {}, 0
  for host in pairs(all_entries()) do hosts[#hosts + 1] = host end
  local records, claims = ask_many(hosts, 'record:'), ask_many(hosts, 'claims:')
  for index, host in ipairs(hosts) do
    local entry, record, text = entries[host], records[index] or '', claims[index] or '{}'
    bytes = bytes + #record + #text
    if #record > VALUE_BYTES_MAX or #text > VALUE_BYTES_MAX or bytes > TOLD_BYTES_MAX then malformed('host:' .. host) end
    answers[index] = {host, ledger.clock_ms - entry.beat_ms, entry.gone and 1 or 0, record, text}
  end
  return answers
end

local function orders()
  local abouts, answers = names_of('order:'), {}
  local texts = ask_many(abouts, 'order:')
  for index, about in ipairs(abouts) do
    if #texts[index] > RECORD_BYTES_MAX then malformed('order:' .. about) end
    answers[index] = {about, texts[index]}
  end
  return answers
end

-- Whether the caller has this version. Versions begin anew with a ledger, so an equal one may be of another.
local function has(call, field)
  return call.generation == ledger.generation and call[field] == ledger[field]
end

local function planned(call)
  if has(call, 'epoch') and (call.has_memory or not leads(call)) then return false end
  local texts = ask('HMGET', 'plan', 'memory')
  local plan, memory = texts[1] or '', texts[2] or ''
  if #plan + #memory > PLAN_BYTES_MAX then malformed('plan') end
  return {ledger.committed_ms, plan, leads(call) and memory or ''}
end

local function beat(call, record, claims)
  if #record > RECORD_BYTES_MAX or #claims > CLAIMS_BYTES_MAX or #ARGV[2] > CLAIMS_BYTES_MAX then refuse('too_large') end
  if claims == 'null' then claims = nil end
  local time_ms, run_id = server()
  if not run_id then malformed('run_id') end
  load()
  if ledger then refuse_beat(call, time_ms) end
  if not ledger then
    ledger = begun(call, time_ms, run_id)
  elseif ledger.run_id ~= run_id or knows_more(call) then
    gather_again(call, time_ms, run_id)
  end
  ledger.clock_ms, ledger.time_ms = later(call, time_ms), time_ms
  take_host(call, record, claims)
  see_scheduler(call)
  take_lease(call)
  -- While the truth is gathered, how long a host was silent may be wrong: its last beat was perhaps lost.
  if leads(call) and not ledger.gathering_ms then drop_ended(call) end
  local waited = ledger.gathering_ms and waits() or false
  if waited and #waited == 0 then ledger.gathering_ms, waited = nil, false end
  save()
  return {
    'beaten', ledger.generation, ledger.clock_ms, waited, ledger.leader, leads(call) and ledger.token,
    alone(call.host) and 1 or 0, ledger.plan_format, ledger.epoch, planned(call),
    {ledger.holder, ledger.unit, ledger.sighted_ms, ledger.holder_ms, ledger.rival_ms},
    ledger.orders_version, not has(call, 'orders_version') and orders(),
    ledger.members_version, not has(call, 'members_version') and names_of('host:'),
    leads(call) and told(),
  }
end
