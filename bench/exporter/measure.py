"""Measures target/release/custom-flask-exporter; started by ./run, which builds it.

Python's standard library makes the database and does the scraping, so that there is nothing to
install. Its own time is part of each figure: the exporter is a little quicker than shown.
"""

import argparse
import glob
import http.client
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlsplit

P99_LIMIT_MS = 5.0
RSS_LIMIT_MB = 20.0


def arguments():
    parser = argparse.ArgumentParser(description="p50, p99 and RSS of the exporter")
    parser.add_argument("--series", type=int, default=1000, help="series of the page (%(default)s)")
    parser.add_argument("--orders", type=int, default=10_000, help="orders in the shop (%(default)s)")
    parser.add_argument("--scrapes", type=int, default=2000, help="scrapes timed (%(default)s)")
    parser.add_argument("--pause-ms", type=float, default=0, help="between two scrapes (%(default)s)")
    return parser.parse_args()


def make_shop(path, products, orders):
    """The shop's own schema, with this many products and orders."""
    shop = sqlite3.connect(path)
    shop.execute("PRAGMA journal_mode = WAL")
    for migration in sorted(glob.glob("crates/flask-api/migrations/sqlite/*.sql")):
        with open(migration, encoding="utf-8") as file:
            shop.executescript(file.read())
    shop.execute("DELETE FROM products")
    shop.executemany(
        "INSERT INTO products (name, price_cents, stock) VALUES (?, 100, 100000)",
        ((f"product {number}",) for number in range(products)),
    )
    statuses = ["paid", "paid", "paid", "paid", "paid", "paid", "paid", "cancelled", "failed", "pending"]
    shop.executemany(
        "INSERT INTO orders (status, failure, total_cents, created_at, updated_at)"
        " VALUES (?, ?, 100, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')",
        (
            (status, "payment_declined" if status == "failed" else None)
            for status in (statuses[number % len(statuses)] for number in range(orders))
        ),
    )
    shop.commit()
    # Left open: the log beside the file is there, as with a running shop.
    return shop


def address_of(exporter):
    for line in exporter.stdout:
        message = json.loads(line)["message"]
        if message.startswith("serving "):
            return urlsplit(message.removeprefix("serving ")).netloc
    sys.exit("the exporter has ended without serving")


def scrape(connection):
    """One scrape on a kept connection, as Prometheus does it: milliseconds, and the page."""
    started = time.perf_counter_ns()
    connection.request("GET", "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})
    response = connection.getresponse()
    page = response.read()
    took = (time.perf_counter_ns() - started) / 1e6
    if response.status != 200 or b"\nshop_up 1\n" not in page:
        sys.exit(f"not a good scrape: {response.status}\n{page.decode()[:2000]}")
    return took, page


def memory_mb(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    sys.exit(f"no {field} of process {pid}")


def series_of(page):
    return sum(1 for line in page.decode().splitlines() if line and not line.startswith("#"))


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "shop.db")
        # What the page holds beside one series for each product.
        others = 40
        shop = make_shop(path, max(1, args.series - others), args.orders)
        exporter = subprocess.Popen(
            ["target/release/custom-flask-exporter", "--listen=127.0.0.1:0", f"--database-url=sqlite://{path}"],
            stdout=subprocess.PIPE,
            text=True,
            env={"OTEL_TRACES_EXPORTER": "none"},
        )
        try:
            connection = http.client.HTTPConnection(address_of(exporter), timeout=60)
            _, page = scrape(connection)
            missing = args.series - series_of(page)
            if missing > 0:
                shop.executemany(
                    "INSERT INTO products (name, price_cents, stock) VALUES (?, 100, 1)",
                    ((f"one more {number}",) for number in range(missing)),
                )
                shop.commit()
            for _ in range(20):
                _, page = scrape(connection)
            times = []
            for _ in range(args.scrapes):
                time.sleep(args.pause_ms / 1000)
                times.append(scrape(connection)[0])
            rss, peak = (memory_mb(exporter.pid, field) for field in ("VmRSS", "VmHWM"))
        finally:
            exporter.terminate()
            exporter.wait()
            shop.close()

    times.sort()
    p50, p99 = (times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99))
    print(f"{series_of(page)} series, {len(page)} bytes, {args.orders} orders, {len(times)} scrapes")
    print(f"scrape  p50 {p50:.2f} ms   p99 {p99:.2f} ms   max {times[-1]:.2f} ms   (limit: p99 {P99_LIMIT_MS} ms)")
    print(f"memory  RSS {rss:.1f} MB   peak {peak:.1f} MB   (limit: RSS {RSS_LIMIT_MB} MB)")
    return 0 if p99 < P99_LIMIT_MS and rss < RSS_LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
