-- Calls elk/fluent-bit.lua as Fluent Bit does, for each line of the standard input: luajit fluent-bit.lua elk/fluent-bit.lua <LINES
-- Prints what comes of it, one JSON object a line.

flb_null = {}
dofile(arg[1])

local function json(value)
  if value == flb_null then return "null" end
  if type(value) == "number" then return ("%.17g"):format(value) end
  if type(value) ~= "string" then return tostring(value) end
  return '"' .. value:gsub('[%z\1-\31"\\]', function(char) return ("\\u%04x"):format(char:byte()) end) .. '"'
end

local offset = 0
for line in io.lines() do
  local _, at, _, record = document("logs", { sec = 0, nsec = 0 }, {}, {}, { log = line, file = "/var/log/golden.log", offset = offset })
  offset = offset + #line + 1
  record["@timestamp"] = os.date("!%Y-%m-%dT%H:%M:%S", at.sec) .. (".%09dZ"):format(at.nsec)
  local fields = {}
  for name, value in pairs(record) do fields[#fields + 1] = json(name) .. ":" .. json(value) end
  print("{" .. table.concat(fields, ",") .. "}")
end
