// What a line becomes, for Filebeat: the same document, or the same dead letter, as by otel-collector.yaml. golden.ndjson holds both to it.
//
// ECMAScript 5.1, which is what Filebeat's script processor runs.

var NO_OBJECT = "no JSON object";
var NOT_PLAIN = "not plain values only, or a field name that Elasticsearch does not take";
var NO_TIME = "@timestamp is no RFC 3339 time";

var NO_FIELD_NAME = /^_|^\s*$|^[.]|[.]$|[.]\s*[.]|.{513}/;
var RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d{1,9})?(Z|[+-]\d\d:\d\d)$/;
var INTEGERS = ["http.response.status_code", "event.duration"];

// The fields of a line; throws why there are none.
function fieldsOf(line) {
    var fields;
    try {
        fields = line.charAt(0) === "{" ? JSON.parse(line) : null;
    } catch (error) {
        fields = null;
    }
    if (fields === null) {
        throw NO_OBJECT;
    }
    for (var name in fields) {
        if (NO_FIELD_NAME.test(name) || (typeof fields[name] === "object" && fields[name] !== null)) {
            throw NOT_PLAIN;
        }
    }
    var at = fields["@timestamp"];
    if (at !== undefined && at !== null && !RFC_3339.test(at)) {
        throw NO_TIME;
    }
    INTEGERS.forEach(function (name) {
        if (typeof fields[name] === "number") {
            fields[name] = fields[name] < 0 ? Math.ceil(fields[name]) : Math.floor(fields[name]);
        }
    });
    return fields;
}

// Called by Filebeat for each line.
function process(event) {
    var line = event.Get("message");
    var file = event.Get("log.file.path").replace(/^.*\//, "");
    var offset = event.Get("log.offset");
    // File, place and text name the line: the same on every reading. A file that was renamed meanwhile (x.log to x.log.1) is the same
    // one; a line that is no JSON, and so has no time of its own, may stand in both alike: then the name decides.
    var original = line.charAt(0) === "{" ? file.replace(/[.]log.*$/, ".log") : file;
    event.Put("@metadata.line", original + " " + offset + " " + line);

    // All that Filebeat has to say of itself and the machine goes.
    Object.keys(event.fields).forEach(function (name) {
        delete event.fields[name];
    });
    var fields;
    try {
        fields = fieldsOf(line);
    } catch (why) {
        fields = {
            "message": line,
            "event.original": line,
            "event.kind": "pipeline_error",
            "error.message": why,
            "log.file.name": file,
            "log.offset": offset
        };
    }
    // Filebeat's output writes it; the timestamp processor takes it from here.
    if (fields["@timestamp"]) {
        event.Put("@metadata.written_at", fields["@timestamp"]);
    }
    delete fields["@timestamp"];
    // One by one, because Put would make objects of names with dots.
    for (var name in fields) {
        event.fields[name] = fields[name];
    }
}
