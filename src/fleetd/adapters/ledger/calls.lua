-- core/fleet/admission.py, and of core/fleet/rules.py what is no beat. Then the call itself.
-- ARGV: which call; its JSON; and of a beat its record and claims, of an admit its claims and [missing, starts].

-- By bytes, as Python sorts. Lua's own < goes by the server's locale.
local function comes_before(one, other)
  for index = 1, math.min(#one, #other) do
    local byte, against = string.byte(one, index), string.byte(other, index)
    if byte ~= against then return byte < against end
  end
  return #one < #other
end

local function is_scheduler(name) return string.sub(name, 1, #SCHEDULER) == SCHEDULER end

local function add_to(sums, more, sign)
  for source, connections in pairs(more) do sums[source] = (sums[source] or 0) + sign * connections end
end

-- The claims of all hosts: by source, and by name as it is seen in the database; and whether one is a scheduler's.
local claimed, known, scheduled = {}, {}, false

local function count_process(name, claims)
  known[name] = known[name] or {}
  add_to(known[name], claims, 1)
  add_to(claimed, claims, 1)
  scheduled = scheduled or is_scheduler(name)
end

local function count_claims(host, own)
  for name, claims in pairs(own) do count_process(name, claims) end
  local others = {}
  for _, other in ipairs(names_of('claims:')) do
    if other ~= host then others[#others + 1] = other end
  end
  for index, text in ipairs(ask_many(others, 'claims:')) do
    for name, claims in pairs(claims_in(text, 'claims:' .. others[index])) do count_process(name, claims) end
  end
end

-- Connections of a source that are seen beyond the claims of the process of this name.
local function above(name, source, connections)
  local claims = known[name]
  if not claims then return math.max(0, connections) end
  return claims[source] and math.max(0, connections - claims[source]) or 0
end

-- By source, what counts besides claims: what hosts may still open, one scheduler, what is seen above. Adding it all up
-- for each start took 50 ms in a fleet of 128 hosts.
local besides = {}

local function besides_claims(source, seen)
  local sums = besides[source]
  if not sums then
    sums = {missing = 0, scheduler = 0, above = 0}
    for _, entry in pairs(all_entries()) do
      sums.missing = sums.missing + (entry.missing[source] or 0)
      sums.scheduler = math.max(sums.scheduler, entry.scheduler[source] or 0)
    end
    for name, connections in pairs(seen) do sums.above = sums.above + above(name, source, connections) end
    besides[source] = sums
  end
  return sums
end

local function count_start(name, more, connections)
  for source, sums in pairs(besides) do
    sums.above = sums.above - (connections and above(name, source, connections) or 0)
  end
  count_process(name, more)
  for source, sums in pairs(besides) do
    sums.above = sums.above + (connections and above(name, source, connections) or 0)
  end
end

-- The source on which a start does not fit, and by how much; nil: it fits.
local function unfitting(call, start, before)
  local sources = {}
  for source in pairs(start.claims) do
    if call.limits[source] then sources[#sources + 1] = source end
  end
  table.sort(sources, comes_before)
  for _, source in ipairs(sources) do
    local more = besides_claims(source, call.seen)
    local needed = (claimed[source] or 0) + more.missing + more.above
    if not (scheduled or start.scheduler) then needed = needed + more.scheduler end
    local over = needed + math.max(0, start.claims[source] - (before[source] or 0)) - call.limits[source]
    if over > 0 then return source, over end
  end
end

-- How long nobody must be seen yet before this host's scheduler may start; 0 or less: it may.
local function slot_wait_ms(call)
  if ledger.holder == call.host then return RIVAL_MS - (ledger.clock_ms - ledger.rival_ms) end
  local free = ledger.holder == '' or ledger.unit == 'gone'
  return (call.here and free and HERE_MS or call.takeover_ms) - (ledger.clock_ms - ledger.sighted_ms)
end

-- Grants the first of the starts that fit; `own` becomes what is then claimed. Returns how many, and why not the next.
local function grant(call, starts, own)
  for index, start in ipairs(starts) do
    local wait_ms = start.scheduler and slot_wait_ms(call) or 0
    if wait_ms > 0 then
      return {'admitted', index - 1, 'slot', ledger.holder == call.host and '' or ledger.holder, wait_ms, 0}
    end
    local before = own[start.name] or {}
    local source, over = unfitting(call, start, before)
    if source then return {'admitted', index - 1, 'claims', source, 0, over} end
    local more, after = {}, {}
    add_to(after, before, 1)
    for name, connections in pairs(start.claims) do
      after[name] = math.max(before[name] or 0, connections)
      more[name] = after[name] - (before[name] or 0)
    end
    own[start.name] = after
    count_start(start.name, more, call.seen[start.name])
    if start.scheduler then
      ledger.holder, ledger.unit = call.host, 'there'
      ledger.sighted_ms, ledger.holder_ms = ledger.clock_ms, ledger.clock_ms
    end
  end
  return {'admitted', #starts, '', '', 0, 0}
end

local function admit(call, claims, wanted)
  if #claims > CLAIMS_BYTES_MAX or #wanted > CLAIMS_BYTES_MAX or #ARGV[2] > SEEN_BYTES_MAX then refuse('too_large') end
  local _, run_id = server()
  load()
  if not ledger then refuse('no_ledger') end
  local entry = entry_of(call.host)
  if not entry or entry.nonce ~= call.nonce then refuse('replaced', call.host) end
  if call.sent_ms < entry.sent_ms then refuse('late') end
  if ledger.run_id ~= run_id or ledger.generation ~= call.generation then refuse('generation') end
  if ledger.gathering_ms then refuse('gathering') end
  wanted = cjson.decode(wanted)
  local own, was_gone = claims_in(claims, 'claims'), entry.gone
  entry.missing, entry.gone, entry.sent_ms = checked_by_source(wanted[1], 'missing'), false, call.sent_ms
  put_entry(call.host, entry)
  if was_gone then count_hosts() end
  count_claims(call.host, own)
  local answer = grant(call, wanted[2], own)
  put_claims(call.host, own)
  save()
  return answer
end

local function commit(call, plan, memory)
  if #plan + #memory > PLAN_BYTES_MAX then refuse('too_large') end
  local _, run_id = server()
  load()
  if not ledger then refuse('no_ledger') end
  if ledger.run_id ~= run_id or ledger.generation ~= call.generation then refuse('generation') end
  if ledger.leader ~= call.host or ledger.token ~= call.token then refuse('lease', ledger.leader) end
  if call.epoch ~= ledger.epoch + 1 then refuse('epoch') end
  if alone(call.host) then refuse('alone') end
  ledger.epoch, ledger.committed_ms = call.epoch, ledger.clock_ms
  changes.plan, changes.memory = plan, memory
  save()
  return {'done'}
end

-- `what`: nil: the order ends.
local function order(about, what)
  if #about > NAME_BYTES_MAX or (what and #what > RECORD_BYTES_MAX) then refuse('too_large') end
  load()
  if not ledger then refuse('no_ledger') end
  local others = 0
  for _, other in ipairs(names_of('order:')) do
    if other ~= about then others = others + 1 end
  end
  if what and others >= ORDERS_MAX then refuse('full') end
  changes['order:' .. about] = what or false
  ledger.orders_version = ledger.orders_version + 1
  save()
  return {'done'}
end

local function forget(host)
  load()
  if not ledger then refuse('no_ledger') end
  if entry_of(host) then
    forget_host(host)
    count_hosts()
  else
    changes['claims:' .. host] = false
  end
  ledger.members_version = ledger.members_version + 1
  if ledger.holder == host then ledger.unit = 'gone' end
  if ledger.leader == host then ledger.until_ms = 0 end
  save()
  return {'done'}
end

local function answer()
  local what = ARGV[1]
  if what == 'beat' then return beat(cjson.decode(ARGV[2]), ARGV[3], ARGV[4]) end
  if what == 'admit' then return admit(cjson.decode(ARGV[2]), ARGV[3], ARGV[4]) end
  if what == 'commit' then return commit(cjson.decode(ARGV[2]), ARGV[3], ARGV[4]) end
  if what == 'order' then return order(ARGV[2], ARGV[3]) end
  return forget(ARGV[2])
end

local good, reply = pcall(answer)
if not good then
  if type(reply) ~= 'table' then error(reply) end -- a bug
  return reply.reply or reply -- or an error reply of Redis's
end
return reply
