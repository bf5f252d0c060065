-- Which members of a large set `processes` have a heartbeat, for members.py. It writes nothing.
--
-- After many kills most are dead: their hashes have expired, and nobody has cleaned up. Many are checked with one EXISTS.
--
-- ARGV: key prefix, cursor of SSCAN
-- Reply: the next cursor ('0': the end), members looked at, names that are too long, {IDENTITY...} with a heartbeat

local prefix, cursor = ARGV[1], ARGV[2]
local NAME_MAX = 256
local PAGES_MAX, PAGE = 3, 1000 -- 3,000 members take 3 to 4 ms
local PART = 50

local function exist(names, first, last)
  local keys = {}
  for index = first, last do keys[#keys + 1] = prefix .. names[index] end
  return redis.call('EXISTS', unpack(keys))
end

local found, looked_at, long = {}, 0, 0
for _ = 1, PAGES_MAX do
  local page = redis.call('SSCAN', prefix .. 'processes', cursor, 'COUNT', PAGE)
  cursor = page[1]
  local names = {}
  for _, name in ipairs(page[2]) do
    if #name > NAME_MAX then long = long + 1 else names[#names + 1] = name end
  end
  looked_at = looked_at + #page[2]
  for start = 1, #names, PAGE do -- a page can be larger than asked for
    local stop = math.min(#names, start + PAGE - 1)
    if exist(names, start, stop) > 0 then
      for first = start, stop, PART do
        local last = math.min(stop, first + PART - 1)
        if exist(names, first, last) > 0 then
          for index = first, last do
            if exist(names, index, index) > 0 then found[#found + 1] = names[index] end
          end
        end
      end
    end
  end
  if cursor == '0' then break end
end
return {cursor, looked_at, long, found}
