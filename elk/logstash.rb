# What a line becomes, for Logstash: the same document, or the same dead letter, as by otel-collector.yaml. golden.ndjson holds both to it.

require "digest"
require "json"
require "time"

NO_OBJECT = "no JSON object"
NOT_PLAIN = "not plain values only, or a field name that Elasticsearch does not take"
NO_TIME = "@timestamp is no RFC 3339 time"

NO_FIELD_NAME = /\A_|\A\s*\z|\A[.]|[.]\z|[.]\s*[.]|.{513}/m
RFC_3339 = /\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d{1,9})?(Z|[+-]\d\d:\d\d)\z/
INTEGERS = ["http.response.status_code", "event.duration"]

# The fields of a line; raises why there are none.
def fields_of(line)
  begin
    fields = line.start_with?("{") ? JSON.parse(line) : nil
  rescue JSON::ParserError
    fields = nil
  end
  raise ArgumentError, NO_OBJECT unless fields
  plain = fields.all? { |name, value| name !~ NO_FIELD_NAME && !value.is_a?(Hash) && !value.is_a?(Array) }
  raise ArgumentError, NOT_PLAIN unless plain
  at = fields["@timestamp"]
  raise ArgumentError, NO_TIME unless at.nil? || (at.is_a?(String) && at =~ RFC_3339)
  INTEGERS.each { |name| fields[name] = fields[name].to_i if fields[name].is_a?(Float) }
  fields
end

# Called by Logstash for each line.
def filter(event)
  line = event.get("message")
  file = File.basename(event.get("[@metadata][file]"))
  # File and text name the line: the same on every reading. A file that was renamed meanwhile (x.log to x.log.1) is the same one; a
  # line that is no JSON, and so has no time of its own, may stand in both alike: then the name decides.
  original = line.start_with?("{") ? file.sub(/[.]log.*/, ".log") : file
  event.set("[@metadata][id]", Digest::SHA256.hexdigest("#{original} #{line}"))
  event.set("[@metadata][index]", "flask-logs")

  # All that Logstash has to say of itself and the machine goes, but for the time of the reading.
  event.to_hash.each_key { |name| event.remove("[#{name}]") unless name == "@timestamp" }
  begin
    fields = fields_of(line)
  rescue ArgumentError => why
    event.set("[@metadata][index]", "flask-logs-dead-letter")
    fields = {
      "message" => line,
      "event.original" => line,
      "event.kind" => "pipeline_error",
      "error.message" => why.message,
      "log.file.name" => file,
    }
  end
  at = fields.delete("@timestamp")
  event.timestamp = LogStash::Timestamp.new(at) if at
  fields.each { |name, value| event.set("[#{name}]", value) }
  [event]
end
