// Calls elk/filebeat.js as Filebeat does, for each line of the standard input: node filebeat.js elk/filebeat.js <LINES
// Prints what comes of it, one JSON object a line.

const fs = require("fs");
const vm = require("vm");

const script = {};
vm.runInNewContext(fs.readFileSync(process.argv[2], "utf8"), script);

let offset = 0;
for (const line of fs.readFileSync(0, "utf8").trimEnd().split("\n")) {
    const given = {"message": line, "log.file.path": "/var/log/golden.log", "log.offset": offset};
    offset += Buffer.byteLength(line) + 1;
    const event = {
        fields: {"message": line, "log": {}, "agent": {}, "host": {}},
        Get: name => given[name],
        Put: (name, value) => given[name] = value,
    };
    script.process(event);
    const at = given["@metadata.written_at"] || "1970-01-01T00:00:00Z";
    console.log(JSON.stringify(Object.assign({"@timestamp": at}, event.fields)));
}
