"""Measures when the burn-rate alerts of a lab fire and end; started by ./run, which builds it.

Times are read off Prometheus itself: since when an alert is active, and when it was last seen.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

LAB = "target/debug/lab"
CLOCK = 60
SCRAPE = EVALUATION = 5  # seconds, prometheus/prometheus.yml
BUDGET = 0.001
RATE = 200  # requests a second: 1 % of them are enough to be 1 % in every minute
QUIET_BEFORE = 120  # seconds without errors, so that there is something to average with
PATIENCE = 120
QUICK, SLOW = (14.4, 3600 / CLOCK), (6, 6 * 3600 / CLOCK)  # burn rate, long window
LONGEST_SHORT = 30  # seconds: 30m of the slow pair; the quick pair's 5m are raised to 20 s


class Lab:
    def __init__(self, offset):
        self.offset = str(offset)
        self.data = tempfile.TemporaryDirectory()
        self.place = ["--data-dir", self.data.name, "--port-offset", self.offset]
        self.prometheus = f"http://127.0.0.1:{9090 + offset}/api/v1/"
        self.apis = [f"http://127.0.0.1:{port + offset}/api/products" for port in (5000, 5001)]

    def run(self, *arguments, quiet=True):
        subprocess.run([LAB, *arguments, *self.place], check=True, stdout=subprocess.DEVNULL if quiet else None)

    def get(self, path, **query):
        url = self.prometheus + path + "?" + urllib.parse.urlencode(query)
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, query):
        result = self.get("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None

    def pages(self):
        """Whether the availability page fires."""
        return any(
            alert["state"] == "firing"
            and alert["labels"]["alertname"] == "AvailabilityBudgetBurn"
            and alert["labels"]["sloth_severity"] == "page"
            for alert in self.get("alerts")["alerts"]
        )

    def load(self, seconds):
        """Requests that only read, so that nothing else can fail."""
        return subprocess.Popen(
            [LAB, "component", "loadgen", "run", *self.apis, "--rate", str(RATE), "--for", f"{seconds}s"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def seconds_until(condition, limit):
    """Seconds until the condition holds, or None."""
    started = time.monotonic()
    while time.monotonic() - started < limit:
        if condition():
            return time.monotonic() - started
        time.sleep(0.2)
    return None


def show(seconds):
    return "never" if seconds is None else f"{seconds:.1f} s"


def outage(lab):
    burn, window = QUICK
    errors = burn * BUDGET * window
    latest = errors + SCRAPE + 2 * EVALUATION
    print("Total outage (every request answers 500)")
    lab.run("chaos", "start", "errors", "--probability", "1", "--for", "60s")
    fired = seconds_until(lab.pages, PATIENCE)
    print(f"  page fires   {show(fired)}; theory {errors:.1f} s, with a scrape and two evaluations at most {latest:.1f} s")
    lab.run("chaos", "stop")
    ended = seconds_until(lambda: not lab.pages(), PATIENCE)
    quickest, slowest = 20 - SCRAPE, LONGEST_SHORT + SCRAPE + 2 * EVALUATION
    print(
        f"  page ends    {show(ended)} after the last error; the short windows forget it in 20 s and {LONGEST_SHORT} s,"
        f" with a scrape and two evaluations at most {slowest} s"
    )
    # A second of grace for the polling and the command that starts the fault.
    return fired is not None and fired <= latest + 1 and ended is not None and quickest <= ended <= slowest + 1


def one_percent(lab, before):
    rate = 0.01 / BUDGET
    # The long window of the slow pair: as much of it as there is, good and bad together.
    slow = min(SLOW[0] * BUDGET * SLOW[1] / 0.01, before * SLOW[0] / (rate - SLOW[0]))
    print(f"1 % of errors: a burn rate of {rate:.0f}, below {QUICK[0]} and above {SLOW[0]}")
    lab.run("chaos", "start", "errors", "--probability", "0.01", "--for", "10m")
    started = time.monotonic()
    peak, fired = 0.0, None
    quick = f'slo:sli_error:ratio_rate1h{{sloth_slo="availability"}} / on () group_left () vector({BUDGET})'
    while fired is None and time.monotonic() - started < slow + PATIENCE:
        peak = max(peak, lab.value(quick) or 0.0)
        if lab.pages():
            fired = time.monotonic() - started
        time.sleep(0.5)
    window = max(int(fired or slow) - 30, 30)
    burned = lab.value(f'avg_over_time(slo:current_burn_rate:ratio{{sloth_slo="availability"}}[{window}s])')
    lab.run("chaos", "stop")
    print(f"  quick pair   never reached: burn rate over its hour at most {peak:.1f} of {QUICK[0]}")
    print(f"  budget       spent {burned:.1f} times as fast as it lasts, on average over {window} s")
    latest = slow + SCRAPE + 2 * EVALUATION
    print(f"  slow pair    pages after {show(fired)}; theory {slow:.0f} s after {before:.0f} s without errors, at most {latest:.0f} s")
    on_real_clock = SLOW[0] * BUDGET * 6 * 3600 / 0.01 / 3600
    print(f"               on the real clock, with a full window before it: {on_real_clock:.1f} h, as the workbook has it")
    # The errors are chosen by chance: a tenth either way is three standard deviations.
    return peak < QUICK[0] and 9 <= burned <= 11 and fired is not None and slow * 0.85 <= fired <= latest * 1.15


def main():
    parser = argparse.ArgumentParser(description="when burn-rate alerts fire and end, against theory")
    parser.add_argument("--port-offset", type=int, default=7000)
    lab = Lab(parser.parse_args().port_offset)
    # Whatever ends this ends the lab.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    good, load = False, None
    try:
        lab.run("up", "--detach", "--without", "elasticsearch", "--without", "otelcol", "--without", "cadvisor")
        # One load for both; it ends by itself.
        load = lab.load(900)
        started = time.monotonic()
        print(f"lab is up; {QUIET_BEFORE} s of {RATE} requests a second without errors")
        time.sleep(QUIET_BEFORE)
        if lab.pages():
            sys.exit("a page fires before anything is broken")
        good = one_percent(lab, time.monotonic() - started)
        # Until the long windows of the quick pair have forgotten it.
        if seconds_until(lambda: not lab.pages(), 400) is None:
            sys.exit("the page does not end")
        time.sleep(QUICK[1])
        good &= outage(lab)
    finally:
        if load:
            load.terminate()
            load.wait()
        lab.run("down")
    print("as theory has it" if good else "NOT as theory has it")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
