#!/usr/bin/env python3
"""Is what loadgen says true, and how fast is it? See docs/loadgen.md.

    bench/loadgen/run.py [oracle] [rate] [peak] [held]

Needs a release build (cargo build --release -p loadgen), rustc and taskset. wrk, hey and oha are measured beside it when
they are installed. Server and generator get one core each; BENCH_PREFIX="chrt -f 50" keeps others off them. Exit status 1 when something that must hold does not.
"""

import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOADGEN = ROOT / "target/release/loadgen"
SERVER = ROOT / "target/bench/stalling-server"

# The delay is the ground that a stall stands out of. A sleeping core of a virtual machine wakes up to 4 ms late once in a few
# hundred times (the row without a stall shows it): 2 % of the shortest figure has to be no less than that.
SECONDS, RATE, CAPACITY, DELAY_MS = 30, 500, 5000, 200
# Between two requests, as the formula knows of no first one.
STALL_AFTER = 10.001
STALLS = [0, 0.2, 1, 5]
QUANTILES = [0.5, 0.99, 0.999]
CONNECTIONS = 200
MAX_IN_FLIGHT = 6000
# Such as "chrt -f 50" where other programs are busy on the same cores.
PREFIX = shlex.split(os.environ.get("BENCH_PREFIX", ""))

good = True


def check(ok, text):
    global good
    good = good and ok
    print(f"{'ok    ' if ok else 'FAILED'} {text}")


def allow_files():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Server:
    def __init__(self, *arguments):
        self.command = [*PREFIX, "taskset", "-c", "1", str(SERVER), *map(str, arguments)]

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, text=True, preexec_fn=allow_files
        )
        return self.process.stdout.readline().strip()

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def on_one_core(*command):
    result = subprocess.run(
        [*PREFIX, "taskset", "-c", "0", *map(str, command)], capture_output=True, text=True
    )
    if result.returncode != 0:
        sys.exit(f"{command}: {result.stderr}")
    return result.stdout


def loadgen(url, *arguments):
    if "--trace-ratio" not in arguments:
        arguments += ("--trace-ratio", 0)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        on_one_core(
            LOADGEN, "run", url, "--json", file.name, *arguments
        )
        return json.load(file)


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


def by_loadgen(url):
    latency = loadgen(
        url, "--rate", RATE, "--for", f"{SECONDS}s", "--max-in-flight", MAX_IN_FLIGHT
    )["latency_ms"]
    return [latency["p50"], latency["p99"], latency["p99.9"]]


def by_wrk(url):
    # A closed loop: it has no rate, and sends no request while it waits for answers.
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            "done = function(summary, latency, requests)\n"
            "  for _, p in pairs({50, 99, 99.9}) do print('Q ' .. latency:percentile(p) / 1000) end\n"
            "end\n"
        )
        script.flush()
        out = on_one_core(
            "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--timeout", "60s", "-s", script.name, url
        )
    return [float(ms) for ms in re.findall(r"^Q ([\d.]+)", out, re.M)]


def by_hey(url):
    out = on_one_core(
        "hey", "-z", f"{SECONDS}s", "-c", CONNECTIONS, "-q", RATE / CONNECTIONS, "-t", 60, url
    )
    found = {p: float(s) * 1e3 for p, s in re.findall(r"(\d+)%+ in ([\d.]+) secs", out)}
    return [found.get("50"), found.get("99"), None]


def by_oha(url):
    def ask(*more):
        out = on_one_core(
            "oha", "--no-tui", "-z", f"{SECONDS}s", "-q", RATE, "-c", CONNECTIONS,
            "--output-format", "json", *more, url,
        )
        found = json.loads(out)["latencyPercentiles"]
        return [found[p] * 1e3 for p in ("p50", "p99", "p99.9")]

    return ask("--latency-correction")


PEERS = {"wrk": by_wrk, "hey": by_hey, "oha": by_oha}


def installed():
    for name in PEERS:
        if shutil.which(name):
            yield name
        else:
            print(f"{name} is not installed: skipped")


def oracle():
    """p50, p99 and p99.9 of a server that stalls once, against base + S - (1 - q) T (1 - R / C)."""
    base = DELAY_MS + 1000 / CAPACITY
    peers = list(installed())
    for stall in STALLS:
        expected = [
            max(base, base + 1000 * (stall - (1 - q) * SECONDS * (1 - RATE / CAPACITY)))
            for q in QUANTILES
        ]

        def row(name, numbers):
            cells = [
                "          -          " if n is None else f"{n:10.1f} ({n / e:6.4f})"
                for n, e in zip(numbers, expected)
            ]
            print(f"  {name:10}" + "  ".join(cells))

        print(f"\nstall of {stall} s: p50, p99, p99.9 in ms (over the truth)")
        row("truth", expected)
        asked = [("loadgen", by_loadgen), *((n, PEERS[n]) for n in peers if stall)]
        for name, ask in asked:
            with Server(CAPACITY, DELAY_MS, STALL_AFTER, stall) as url:
                measured = ask(url)
            row(name, measured)
            if name == "loadgen":
                worst = max(abs(n / e - 1) for n, e in zip(measured, expected))
        check(worst < 0.02, f"loadgen is within {worst:.2%} of the truth (allowed: 2 %)")


def rate():
    """The achieved rate below saturation."""
    print()
    paces = ["1", "10", "100", "1000", "3000", "10000", "30000"]
    for pace in [*paces, "ramp:0..2000/5s", "sine:100..1000/2s", "poisson:500"]:
        with Server(0, 0, 0, 0) as url:
            result = loadgen(url, "--pace", pace, "--for", "5s", "--seed", 1)
        wanted, got = result["wanted_rate"], result["achieved_rate"]
        check(
            abs(got / wanted - 1) < 0.001 and result["dropped"] == 0,
            f"{pace}: {got} /s of {wanted} /s wanted, {result['dropped']} dropped, "
            f"p99 of lateness {result['lateness_ms']['p99']} ms, {result['generator']['cpu_share']:.0%} of a core",
        )


def peak():
    """Requests a second that one core can make, against a server that answers at once, and the memory it takes."""
    print()
    seconds, connections = 3, 64
    rounds = 5
    # A generator with a plan has its peak where it is asked for a little more than it can.
    asked = [60000, 90000, 120000, 150000]
    memory = 0

    def by_loadgen(*more):
        nonlocal memory
        best = 0
        for rate in asked:
            with Server(0, 0, 0, 0) as url:
                result = loadgen(
                    url, "--rate", rate, "--for", f"{seconds}s", "--max-in-flight", connections, *more
                )
            memory = max(memory, result["generator"]["max_rss_bytes"])
            best = max(best, result["sent"] / result["elapsed_seconds"])
        return best

    def by_wrk():
        with Server(0, 0, 0, 0) as url:
            out = on_one_core("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url)
        return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])

    def by_oha():
        with Server(0, 0, 0, 0) as url:
            out = on_one_core(
                "oha", "--no-tui", "-z", f"{seconds}s", "-c", connections, "--output-format", "json", url
            )
        return json.loads(out)["summary"]["requestsPerSec"]

    def by_hey():
        with Server(0, 0, 0, 0) as url:
            out = on_one_core("hey", "-cpus", 1, "-z", f"{seconds}s", "-c", connections, url)
        return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])

    peers = {"wrk": by_wrk, "oha": by_oha, "hey": by_hey}
    peers = {name: ask for name, ask in peers.items() if shutil.which(name)}
    found = {name: [] for name in ["loadgen", *peers]}
    for _ in range(rounds):
        found["loadgen"].append(by_loadgen())
        for name, ask in peers.items():
            found[name].append(ask())
    middle = {name: sorted(rates)[rounds // 2] for name, rates in found.items()}
    for name, rates in found.items():
        print(
            f"  {name:10}{middle[name]:8.0f} /s ({min(rates):.0f} to {max(rates):.0f}),"
            f" loadgen is {middle['loadgen'] / middle[name]:.2f} of it"
        )
    traced = by_loadgen("--trace-ratio", 1)
    print(f"  with a traceparent on every request {traced:.0f} /s")
    for name, share in [("wrk", 0.6), ("oha", 1.0)]:
        if name in middle:
            check(middle["loadgen"] >= share * middle[name], f"at least {share} of {name}")
        else:
            print(f"{name} is not installed: skipped")
    check(memory < 40e6, f"{memory / 1e6:.1f} MB at most (allowed: 40)")


def held():
    """Ten thousand connections, all open from before the run to its end, all used."""
    print()
    connections, rate, seconds = 10_000, 5000, 10
    with Server(0, 0, 0, 0) as url:
        result = loadgen(
            url, "--connections", connections, "--rate", rate, "--for", f"{seconds}s"
        )
    used = result["generator"]
    check(
        used["connections"] == used["max_connections"] == connections,
        f"{used['max_connections']} connections held, {used['connections']} made",
    )
    check(
        result["received"] == rate * seconds and result["dropped"] == 0,
        f"{result['received']} of {rate * seconds} answered, {result['failed']} failed, "
        f"p99 {result['latency_ms']['p99']} ms, {used['cpu_share']:.0%} of a core",
    )
    check(used["max_rss_bytes"] < 40e6, f"{used['max_rss_bytes'] / 1e6:.1f} MB (allowed: 40)")


def main():
    sys.stdout.reconfigure(line_buffering=True)
    if not LOADGEN.exists():
        sys.exit("no release build: cargo build --release -p loadgen")
    SERVER.parent.mkdir(parents=True, exist_ok=True)
    source = pathlib.Path(__file__).with_name("server.rs")
    subprocess.run(["rustc", "--edition", "2024", "-O", "-o", SERVER, source], check=True)
    parts = {"oracle": oracle, "rate": rate, "peak": peak, "held": held}
    for name in sys.argv[1:] or parts:
        if name not in parts:
            sys.exit(f"{name} is none of {', '.join(parts)}")
        parts[name]()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
