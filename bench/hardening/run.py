#!/usr/bin/env python3
"""What the service promises under pressure, measured: python3 bench/hardening/run.py [--bin target/debug] [--only NAME]

Needs `cargo build -p flask-api -p loadgen` and a quiet machine; four and a half minutes in all. Everything is on
the loopback interface and ended afterwards. Prints a line for each promise; exit code 1 when one is not kept.
"""

import argparse, asyncio, http.client, json, os, pathlib, re, signal, socket, subprocess, sys, tempfile, threading, time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--bin", default="target/debug", help="directory of flask-api and loadgen")
parser.add_argument("--only", action="append", help="collector, end, output, slow or body; may be given several times")
options = parser.parse_args()
BIN = pathlib.Path(options.bin)
kept = True


def promise(text, holds):
    global kept
    kept &= bool(holds)
    print(f"{'kept  ' if holds else 'BROKEN'} {text}", flush=True)


class Sink:
    """A collector. `accept` answers 200; `silent` takes everything and never answers; `full` leaves connections in a
    full backlog, where packets are dropped."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self.address = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.mode, self.connections, self.fillers = "accept", [], []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            if self.mode == "full":
                time.sleep(0.05)
                continue
            try:
                self.listener.settimeout(0.1)
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        stream = connection.makefile("rb")
        try:
            while stream.readline():
                length = 0
                while (line := stream.readline().strip()):
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                stream.read(length)
                while self.mode != "accept":
                    time.sleep(0.05)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except OSError:
            pass

    def turn(self, mode):
        self.mode = mode
        if mode == "full":
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(self.listener.getsockname())
                self.fillers.append(filler)
        else:
            while self.fillers:
                self.fillers.pop().close()


class Service:
    def __init__(self, directory, sink=None, stdout=None, *flags):
        ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.port, self.admin = (port.getsockname()[1] for port in ports)
        for port in ports:
            port.close()
        environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
        if sink:
            environment |= {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.address}
        self.log = None if stdout else open(pathlib.Path(directory) / f"log-{self.port}", "w+b")
        self.process = subprocess.Popen(
            [BIN / "flask-api", f"--listen=127.0.0.1:{self.port}", f"--admin-listen=127.0.0.1:{self.admin}",
             f"--database-url=sqlite://{directory}/shop.db", *flags],
            env=environment, stdout=stdout or self.log)
        deadline = time.time() + 30
        while time.time() < deadline:
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        sys.exit("flask-api does not get ready")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metrics(self):
        found = re.findall(r"^(\w+)(?:\{\})? ([\d.e+]+)$", self.get("/metrics")[1], re.M)
        return {name: float(value) for name, value in found}

    def rss(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        started = time.time()
        code = self.process.wait(60)
        return code, time.time() - started


def load(service, directory, rate, seconds, background=False):
    result = pathlib.Path(directory) / f"load-{time.time()}.json"
    process = subprocess.Popen(
        [BIN / "loadgen", "run", f"http://127.0.0.1:{service.port}/api/products/1", "--rate", str(rate), "--for", f"{seconds}s",
         "--json", result],
        env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finish = lambda: (process.wait(), json.loads(result.read_text()))[1]
    return finish if background else finish()


def spans(metrics):
    return {k: int(metrics[f"telemetry_spans_{k}{'' if k == 'queued' else '_total'}"]) for k in ("sampled", "exported", "failed", "dropped", "queued")}


def ok(result):
    return result["failed"] == 0 and result["timed_out"] == 0 and result["dropped"] == 0 and not result["limited_by_generator"]


def figures(result):
    return f"{result['achieved_rate']:.0f}/s, {result['failed'] + result['timed_out']} failed, p50 {result['latency_ms']['p50']:.2f} p99 {result['latency_ms']['p99']:.2f} ms"


def collector(directory):
    sink = Sink()
    service = Service(directory, sink)
    load(service, directory, 1000, 5)
    before = load(service, directory, 1000, 20)
    print(f"       collector accepts:        {figures(before)}")
    for mode in ("silent", "full"):
        sink.turn(mode)
        rss, unequal, scrapes = service.rss(), 0, 0
        running = load(service, directory, 1000, 60, background=True)
        until = time.time() + 61
        while time.time() < until:
            s = spans(service.metrics())
            scrapes += 1
            unequal += s["sampled"] != s["exported"] + s["failed"] + s["dropped"] + s["queued"]
            time.sleep(0.5)
        during, grown = running(), service.rss() - rss
        print(f"       collector {mode} for 60 s:  {figures(during)}, memory {rss:.0f} {grown:+.1f} MiB, {s}")
        promise(f"collector {mode}: no failed request at 1000/s", ok(during))
        promise(f"collector {mode}: p99 within 10 % of before", during["latency_ms"]["p99"] <= 1.1 * before["latency_ms"]["p99"])
        promise(f"collector {mode}: memory grows less than 20 MB", grown < 20e6 / 2**20)
        promise(f"collector {mode}: sampled = exported + failed + dropped + queued in each of {scrapes} scrapes", unequal == 0)
        sink.turn("accept")
        load(service, directory, 100, 3)
    service.stop()


def end(directory):
    for mode, bound in (("accept", 10), ("silent", 15)):
        sink = Sink()
        service = Service(directory, sink)
        running = load(service, directory, 500, 8, background=True)
        time.sleep(4)
        sink.turn(mode)
        code, took = service.stop()
        running()
        service.log.seek(0)
        aborted = sum(b'"error.type":"aborted"' in line for line in service.log)
        promise(f"SIGTERM at 500/s, collector {mode}: exit code {code} after {took:.1f} s (bound {bound}), {aborted} aborted", code == 0 and took < bound and not aborted)


def output(directory):
    reading, writing = os.pipe()
    service = Service(directory, None, writing)
    os.close(writing)
    during = load(service, directory, 1000, 30)
    dropped = service.metrics()["telemetry_log_lines_dropped_total"]
    print(f"       output blocked for 30 s:  {figures(during)}, {dropped:.0f} lines dropped")
    promise("output blocked: requests go on", ok(during))
    text = bytearray()
    reader = threading.Thread(target=lambda: [text.extend(part) for part in iter(lambda: os.read(reading, 1 << 16), b"")], daemon=True)
    reader.start()
    time.sleep(1)
    load(service, directory, 10, 1)
    dropped = service.metrics()["telemetry_log_lines_dropped_total"]
    service.stop()
    reader.join(10)
    told = sum(json.loads(line).get("labels.log_lines_dropped", 0) for line in text.decode().splitlines())
    promise(f"output blocked: the next lines tell of {told} of {dropped:.0f} dropped ones", told == dropped > 0)


def slow(directory):
    service = Service(directory)
    load(service, directory, 300, 3)
    before = load(service, directory, 300, 10)
    print(f"       without slow clients:     {figures(before)}")
    head = b"POST /api/orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"

    async def client(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        started = time.time()
        writer.write(head if number % 2 else head + b"\r\n")
        try:
            while not reader.at_eof():
                writer.write(b"X: y\r\n" if number % 2 else b" ")
                await asyncio.wait_for(reader.read(4096), 1)
        except (TimeoutError, asyncio.TimeoutError):
            pass
        except OSError:
            return time.time() - started
        # Still open: go on as long as it lets us.
        while True:
            try:
                writer.write(b"X: y\r\n" if number % 2 else b" ")
                await writer.drain()
                data = await asyncio.wait_for(reader.read(4096), 1)
                if not data:
                    return time.time() - started
            except (TimeoutError, asyncio.TimeoutError):
                if time.time() - started > 60:
                    return None
            except OSError:
                return time.time() - started

    async def clients():
        return await asyncio.gather(*(client(number) for number in range(500)))

    running = load(service, directory, 300, 15, background=True)
    closed = asyncio.run(clients())
    during = running()
    open_still = closed.count(None)
    longest = max((time for time in closed if time is not None), default=float("nan"))
    print(f"       500 slow clients:         {figures(during)}, the last closed after {longest:.1f} s")
    promise("500 slow heads and bodies: all closed within 15 s", open_still == 0 and longest < 15)
    promise("500 slow heads and bodies: others' p99 at most doubled", during["latency_ms"]["p99"] <= 2 * before["latency_ms"]["p99"] and ok(during))
    service.stop()


def body(directory):
    service = Service(directory)
    text, statuses = b" " * (10 * 2**20), {}

    def post():
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.settimeout(10)
        try:
            connection.sendall(b"POST /api/orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text))
            connection.sendall(text)
        except OSError:
            pass
        try:
            status = connection.recv(12)[9:12].decode()
        except OSError:
            status = "cut"
        statuses[status] = statuses.get(status, 0) + 1
        connection.close()

    post()
    rss = service.rss()
    for _ in range(200):
        post()
    grown = service.rss() - rss
    promise(f"200 bodies of 10 MiB: answered {statuses}, memory {rss:.0f} {grown:+.1f} MiB", grown < 10 and set(statuses) <= {"413", "cut"} and statuses.get("413", 0) > 0)
    service.stop()


for name, measure in (("collector", collector), ("end", end), ("output", output), ("slow", slow), ("body", body)):
    if not options.only or name in options.only:
        with tempfile.TemporaryDirectory() as directory:
            measure(directory)
sys.exit(0 if kept else 1)
