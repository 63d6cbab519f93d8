#!/usr/bin/env python3
"""How long the console's pages take and what memory it needs, on a running lab: bench/console/run.py [--lab target/release/lab] [--json]

Starts consoles of its own beside the lab's, with the same back ends, to measure the first page of a process that has served none;
then every page of the lab's console, again and again, and that process' memory afterwards. Needs a lab that runs with the
program to be measured (`cargo build --release -p lab`, `target/release/lab up --detach`). Exit status 1 when a first page takes
300 ms or more, or the console 50 MB or more.
"""

import argparse
import http.client
import json
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIRST_PAGE_MS, MEMORY_MB = 300, 50

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--lab", default=ROOT / "target/release/lab", help="the program; the lab that is measured runs with it")
parser.add_argument("--data-dir", default=ROOT / ".lab", help="of that lab")
parser.add_argument("--first", type=int, default=20, help="how many consoles are started for their first page")
parser.add_argument("--each", type=int, default=50, help="how often each page is loaded")
parser.add_argument("--json", action="store_true", help="print JSON")
options = parser.parse_args()


def page(port, path):
    """The page, and the milliseconds to its last byte."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    started = time.monotonic()
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    took = (time.monotonic() - started) * 1000
    if answer.status != 200:
        sys.exit(f"{path} answers {answer.status}")
    connection.close()
    return text, took


def summary(times):
    times = sorted(times)
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    return {"n": len(times), "median_ms": statistics.median(times), "p95_ms": p95, "max_ms": times[-1]}


def lab_console():
    """Process id and port of the lab's console."""
    told = subprocess.run([options.lab, "--data-dir", options.data_dir, "status", "--json"], stdout=subprocess.PIPE)
    components = json.loads(told.stdout or "{}").get("components", [])
    console = next((it for it in components if it["name"] == "console" and it["state"] == "ready"), None)
    if not console:
        sys.exit(f"no lab with a console runs on {options.data_dir}; start it: {options.lab} up --detach")
    return console["pid"], console["ports"]["http"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def first_page(pid):
    """Of a console like that one, which nobody has asked for anything."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        # Its ports and the messages it keeps are its own.
        own = {"--listen": f"127.0.0.1:{port}", "--smtp-listen": f"127.0.0.1:{free_port()}", "--store": f"{directory}/messages.jsonl"}
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
        for number, word in enumerate(command):
            option, equals, _ = word.partition("=")
            if option in own:
                command[number if equals else number + 1] = f"{option}={own[option]}" if equals else own[option]
        program = pathlib.Path(f"/proc/{pid}/exe").resolve()
        console = subprocess.Popen([program, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    return page(port, "/")[1]
                except ConnectionRefusedError:
                    if console.poll() is not None or time.monotonic() > until:
                        sys.exit(f"this console does not start: {command}")
                    time.sleep(0.01)
        finally:
            console.terminate()
            console.wait()


def pages(port):
    boards = sorted(file.stem for file in (ROOT / "grafana/dashboards").glob("*.json"))
    explore, _ = page(port, "/explore")
    trace = re.search(r"/explore/trace/[0-9a-f]{32}", explore)
    if not trace:
        sys.exit("there is no trace to look at yet; give the lab a minute of traffic")
    return [
        "/", "/dashboards", *(f"/dashboards/{board}" for board in boards), "/explore", "/explore/logs",
        "/explore/metrics?query=sum+by+(route)+(rate(flask_requests_total[1m]))", trace[0], "/break", "/inbox", "/docs", "/docs/console.md",
    ]


def memory(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return {name: number * 1024 / 1e6 for name, number in {"rss_mb": kib["Rss"], "pss_mb": kib["Pss"], "private_mb": private}.items()}


def main():
    pid, port = lab_console()
    first = summary([first_page(pid) for _ in range(options.first)])
    every = {path: summary([page(port, path)[1] for _ in range(options.each)]) for path in pages(port)}
    needs = memory(pid)
    kept = {"first_page": first["max_ms"] < FIRST_PAGE_MS, "memory": needs["rss_mb"] < MEMORY_MB}
    if options.json:
        print(json.dumps({"ok": all(kept.values()), "first_page": first, "pages": every, "memory": needs}, indent=2))
    else:
        figures = lambda it: f"median {it['median_ms']:6.1f}  p95 {it['p95_ms']:6.1f}  max {it['max_ms']:6.1f} ms of {it['n']}"
        for path, times in every.items():
            print(f"       {figures(times)}  {path}")
        word = lambda name: "kept  " if kept[name] else "BROKEN"
        print(f"{word('first_page')} {figures(first)}  first page of a new console (under {FIRST_PAGE_MS} ms)")
        print(f"{word('memory')} RSS {needs['rss_mb']:.1f} MB, PSS {needs['pss_mb']:.1f}, private {needs['private_mb']:.1f} (RSS under {MEMORY_MB} MB)")
    sys.exit(0 if all(kept.values()) else 1)


if __name__ == "__main__":
    main()
