#!/usr/bin/env python3
"""How long after a request its log line is in Elasticsearch and its trace in Jaeger, and how exactly a tenth is sampled.

    bench/arrival/run.py [arrival] [sampling]

Starts a lab of its own (--port-offset 4000) and ends it; needs `cargo build`, or LAB=target/release/lab and a release build. Takes
about six minutes. See docs/traces.md. Exit status 1 when something that must hold does not.
"""

import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = ROOT / os.environ.get("LAB", "target/debug/lab")
OFFSET = 4000
REQUESTS = 100
SAMPLED_OF = 100_000
good = True


def check(ok, text):
    global good
    good = good and ok
    print(f"{'ok    ' if ok else 'FAILED'} {text}", flush=True)


def get(port, path, headers=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port + OFFSET}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def arrival():
    """One request at a time, each under a trace of its own, then a look at both stores until it is there."""
    waits = {"log line in Elasticsearch": [], "trace in Jaeger": []}
    for _ in range(REQUESTS):
        trace = f"{random.getrandbits(128) | 1:032x}"
        sent = time.monotonic()
        get(5000, "/api/products", {"traceparent": f"00-{trace}-{random.getrandbits(64) | 1:016x}-01"})
        found = {
            "log line in Elasticsearch": lambda: get(9200, f"/flask-logs-*/_count?q=trace.id:{trace}").get("count", 0) > 0,
            "trace in Jaeger": lambda: bool(get(16686, f"/api/traces/{trace}").get("data")),
        }
        while found:
            for name, there in list(found.items()):
                if there():
                    waits[name].append(time.monotonic() - sent)
                    del found[name]
            time.sleep(0.02)
    for (name, times), most in zip(waits.items(), [5, 6]):
        middle = statistics.median(times)
        check(middle <= most, f"{name}: median {middle:.2f} s, longest {max(times):.2f} s of {REQUESTS} (allowed: {most} s)")


def sampling():
    """A replica that samples a tenth; Jaeger counts its server spans, of which there is one for each request."""
    admin, public = 5600 + OFFSET, 5700 + OFFSET
    with tempfile.TemporaryDirectory() as dir:
        environment = dict(
            os.environ,
            OTEL_TRACES_SAMPLER="parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG="0.1",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{4318 + OFFSET}",
        )
        service = subprocess.Popen(
            [LAB, "component", "flask-api", f"--listen=127.0.0.1:{public}", f"--admin-listen=127.0.0.1:{admin}",
             f"--database-url=sqlite://{dir}/shop.db", f"--payments-url=http://127.0.0.1:{5010 + OFFSET}"],
            env=environment, stdout=subprocess.DEVNULL,
        )
        try:
            metrics = lambda: urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
            for _ in range(100):
                try:
                    metrics()
                    break
                except OSError:
                    time.sleep(0.1)
            number = lambda name: sum(float(v) for v in re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", metrics(), re.M))
            result = pathlib.Path(dir) / "result.json"
            subprocess.run(
                [LAB, "component", "loadgen", "run", f"http://127.0.0.1:{public}/api/products/1", "--rate", "500",
                 "--for", f"{SAMPLED_OF // 500 + 5}s", "--trace-ratio", "0", "--json", result],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            sent = json.loads(result.read_text())
            while number("telemetry_spans_queued") > 0:
                time.sleep(0.2)
            spans, lost = number("telemetry_spans_sampled_total"), number("telemetry_spans_dropped_total") + number("telemetry_spans_failed_total")
        finally:
            service.terminate()
            service.wait()
    # A request is a server span and one of the database.
    share = spans / 2 / sent["received"]
    check(
        sent["received"] >= SAMPLED_OF and 0.097 <= share <= 0.103 and lost == 0,
        f"{share:.2%} of {sent['received']} requests sampled, {lost:.0f} spans lost (allowed: 9.7 to 10.3 %, none)",
    )


def main():
    parts = {"arrival": arrival, "sampling": sampling}
    for name in sys.argv[1:]:
        if name not in parts:
            sys.exit(f"{name} is none of {', '.join(parts)}")
    with tempfile.TemporaryDirectory() as dir:
        place = ["--data-dir", dir, "--port-offset", str(OFFSET), "--project", str(ROOT)]
        subprocess.run([LAB, "up", "--detach", *place], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for name in sys.argv[1:] or parts:
                parts[name]()
        finally:
            subprocess.run([LAB, "down", *place[:2]], stdout=subprocess.DEVNULL)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
