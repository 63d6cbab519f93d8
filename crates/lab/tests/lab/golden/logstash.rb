# Calls elk/logstash.rb as Logstash does, for each line of the standard input: ruby logstash.rb elk/logstash.rb <LINES
# Prints what comes of it, one JSON object a line.

require "json"

module LogStash
  Timestamp = Struct.new(:written)

  # An event, as far as the script has to do with one.
  class Event
    attr_writer :timestamp

    def initialize(metadata, fields)
      @metadata = metadata
      @fields = fields
      @timestamp = Timestamp.new("1970-01-01T00:00:00Z")
    end

    def get(name)
      name.start_with?("[@metadata]") ? @metadata[name] : @fields[name]
    end

    def set(name, value)
      name.start_with?("[@metadata]") ? @metadata[name] = value : @fields[name.delete_prefix("[").delete_suffix("]")] = value
    end

    def remove(name)
      @fields.delete(name.delete_prefix("[").delete_suffix("]"))
    end

    def to_hash
      @fields.merge("@timestamp" => @timestamp.written)
    end
  end
end

require File.expand_path(ARGV.shift)

$stdin.set_encoding("UTF-8").each_line(chomp: true) do |line|
  event = LogStash::Event.new({ "[@metadata][file]" => "/var/log/golden.log" }, { "message" => line, "@version" => "1" })
  filter(event)
  puts event.to_hash.to_json
end
