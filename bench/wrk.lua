-- wrk's script: numbered bodies from a request template, and the result as one line of JSON.
--   wrk ... -s wrk.lua URL -- TEMPLATE FIRST STRIDE
-- Thread t sends the numbers from FIRST + t * STRIDE.
local MARK = "@@@@@@"
local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  parts = {}
  local from = 1
  while true do
    local at = string.find(text, MARK, from, true)
    parts[#parts + 1] = string.sub(text, from, (at or 0) - 1)
    if not at then break end
    from = at + #MARK
  end
  number = tonumber(args[2]) + id * tonumber(args[3])
end

function request()
  local key = string.format("%06d", number)
  number = number + 1
  return table.concat(parts, key)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"answered":%d,"seconds":%f,"refused":%d,"lost":%d}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout
  ))
end
