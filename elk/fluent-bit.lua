-- What a line becomes, for Fluent Bit: the same document, or the same dead letter, as by otel-collector.yaml. golden.ndjson holds both to it.
--
-- The line is read here and not by Fluent Bit's JSON parser, because that one takes more than JSON: of two objects that are glued
-- together it passes on the first, and nobody hears of the second.

local NO_OBJECT = "no JSON object"
local NOT_PLAIN = "not plain values only, or a field name that Elasticsearch does not take"
local NO_TIME = "@timestamp is no RFC 3339 time"

local ESCAPED = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local INTEGERS = { "http.response.status_code", "event.duration" }
-- Of a cluster only: what the API server knows of the pod that wrote the line.
local OF_PODS = {
  ["kubernetes.namespace"] = "namespace_name",
  ["kubernetes.pod.name"] = "pod_name",
  ["kubernetes.container.name"] = "container_name",
  ["kubernetes.node.name"] = "host",
}
local WORDS = { { "^true()", true }, { "^false()", false }, { "^null()", flb_null } }

local function utf8(code)
  local char, floor = string.char, math.floor
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + floor(code / 0x40), 0x80 + code % 0x40) end
  if code < 0x10000 then
    return char(0xE0 + floor(code / 0x1000), 0x80 + floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  return char(0xF0 + floor(code / 0x40000), 0x80 + floor(code / 0x1000) % 0x40, 0x80 + floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

-- The character of `\uXXXX` at `at` (of two of them where it takes a pair), and what comes behind it.
local function escaped(line, at)
  local high, behind = line:match("^\\u(%x%x%x%x)()", at)
  if not high then return nil end
  local code = tonumber(high, 16)
  if code >= 0xD800 and code < 0xDC00 then
    local low, behind_both = line:match("^\\u(%x%x%x%x)()", behind)
    low = low and tonumber(low, 16)
    if low and low >= 0xDC00 and low < 0xE000 then
      return utf8(0x10000 + (code - 0xD800) * 0x400 + low - 0xDC00), behind_both
    end
  end
  -- Half of a pair is no character.
  if code >= 0xD800 and code < 0xE000 then code = 0xFFFD end
  return utf8(code), behind
end

-- The string that begins at `at`, and what comes behind it; nil where there is none.
local function text(line, at)
  local whole, behind = line:match('^"([^"\\%z\1-\31]*)"()', at)
  if whole then return whole, behind end
  at = line:match('^"()', at)
  local parts = {}
  while at do
    parts[#parts + 1], at = line:match('^([^"\\%z\1-\31]*)()', at)
    local char, next = line:match('^(["\\])()', at)
    if char == '"' then return table.concat(parts), next end
    if not char then return nil end
    local plain = ESCAPED[line:sub(next, next)]
    if plain then
      parts[#parts + 1], at = plain, next + 1
    else
      parts[#parts + 1], at = escaped(line, at)
    end
  end
end

local function number(line, at)
  local digits, behind = line:match("^(%-?%d[%d.eE+-]*)()", at)
  if not digits or digits:find("^%-?0%d") or digits:find("%.%D") or digits:find("%.$") then return nil end
  return tonumber(digits), behind
end

-- The plain value that begins at `at`, and what comes behind it.
local function value(line, at)
  if line:find('^"', at) then return text(line, at) end
  for _, word in ipairs(WORDS) do
    local behind = line:match(word[1], at)
    if behind then return word[2], behind end
  end
  return number(line, at)
end

local function is_field_name(name)
  local characters = select(2, name:gsub("[^\128-\191]", ""))
  return characters <= 512 and not (name:find("^_") or name:find("^%s*$") or name:find("^%.") or name:find("%.$") or name:find("%.%s*%."))
end

-- The fields of a line, or nil and why there are none.
local function fields_of(line)
  local fields, plain = {}, true
  local at = line:match("^{[ \t\r\n]*()")
  if not at then return nil, NO_OBJECT end
  local behind = line:match("^}[ \t\r\n]*()$", at)
  while not behind do
    local name, found
    name, at = text(line, at)
    at = at and line:match("^[ \t\r\n]*:[ \t\r\n]*()", at)
    if not at then return nil, NO_OBJECT end
    -- What stands inside of it is not looked at.
    if line:find("^[{%[]", at) then return nil, NOT_PLAIN end
    found, at = value(line, at)
    if not at then return nil, NO_OBJECT end
    fields[name] = found
    plain = plain and is_field_name(name)
    behind = line:match("^[ \t\r\n]*}[ \t\r\n]*()$", at)
    at = line:match("^[ \t\r\n]*,[ \t\r\n]*()", at)
    if not (at or behind) then return nil, NO_OBJECT end
  end
  if not plain then return nil, NOT_PLAIN end
  for _, name in ipairs(INTEGERS) do
    if type(fields[name]) == "number" then fields[name] = fields[name] - math.fmod(fields[name], 1) end
  end
  return fields
end

-- Seconds and nanoseconds since 1970 of an RFC 3339 time.
local function time_of(written)
  local year, month, day, hour, minute, second, rest = written:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)(.*)$")
  if not year then return nil end
  local fraction, zone = rest:match("^%.(%d+)(.+)$")
  zone = zone or rest
  local sign, hours, minutes = zone:match("^([+-])(%d%d):(%d%d)$")
  if not (sign or zone == "Z") or #(fraction or "") > 9 then return nil end
  -- Days since 1970, counted in years that begin in March, so that the leap day is the last one.
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if month < 1 or month > 12 or day < 1 or day > 31 then return nil end
  if month <= 2 then year, month = year - 1, month + 12 end
  local floor = math.floor
  local days = 365 * year + floor(year / 4) - floor(year / 100) + floor(year / 400) + floor((153 * month - 457) / 5) + day - 719469
  local seconds = days * 86400 + hour * 3600 + minute * 60 + second
  if sign then seconds = seconds - tonumber(sign .. "1") * (hours * 3600 + minutes * 60) end
  return { sec = seconds, nsec = fraction and tonumber(fraction .. ("0"):rep(9 - #fraction)) or 0 }
end

-- 64 bits of a text, in hexadecimal digits: FNV-1a and djb2a side by side.
local function hash(written)
  local fnv, djb = 0x811C9DC5, 5381
  for at = 1, #written do
    local byte = written:byte(at)
    fnv, djb = bit.bxor(fnv, byte), bit.bxor(djb + bit.lshift(djb, 5), byte)
    fnv = bit.tobit(fnv + bit.lshift(fnv, 1) + bit.lshift(fnv, 4) + bit.lshift(fnv, 7) + bit.lshift(fnv, 8) + bit.lshift(fnv, 24))
  end
  return bit.tohex(fnv) .. bit.tohex(djb)
end

-- Called by Fluent Bit for each line; `record` has the line, its file and its place. The metadata that it returns is for the routes of
-- fluent-bit.yaml, whose conditions know no field with a dot in its name.
function document(_, read_at, _, _, record)
  local line, file = record.log, record.file:match("[^/]*$")
  local fields, why = fields_of(line)
  local written_at = fields and fields["@timestamp"]
  local at = read_at
  if written_at ~= nil and written_at ~= flb_null then
    at = type(written_at) == "string" and time_of(written_at)
    if not at then why = NO_TIME end
  end
  local metadata = {}
  if why then
    at, metadata = read_at, { dead_letter = "yes" }
    fields = {
      ["message"] = line,
      ["event.original"] = line,
      ["event.kind"] = "pipeline_error",
      ["error.message"] = why,
      ["log.file.name"] = file,
      ["log.offset"] = record.offset,
    }
  end
  -- Fluent Bit's output writes it, from the record's time.
  fields["@timestamp"] = nil
  -- File, place and text name the line: the same on every reading. A file that was renamed meanwhile (x.log to x.log.1) is the same one; a
  -- line that is no JSON, and so has no time of its own, may stand in both alike: then the name decides.
  local original = line:find("^{") and file:gsub("[.]log.*$", ".log") or file
  -- (Short, because Fluent Bit cuts off what does not fit into 165 characters with the name of the index.)
  fields["event.id"] = hash(("%s %d"):format(original, record.offset)) .. hash(line)
  for name, key in pairs(record.kubernetes and OF_PODS or {}) do fields[name] = record.kubernetes[key] end
  return 1, at, metadata, fields
end
