"""Exports the shop's products to Prometheus: python3 exporter.py --listen 127.0.0.1:9870 --api http://127.0.0.1:5000"""
import argparse, http.server, itertools, json, time, urllib.parse, urllib.request

# Prometheus gives up after some seconds: whoever asks it for more than that gets nothing at all.
LIMIT = 2

scrapes = itertools.count(1)


def products(api):
    """All of them, page by page, or an error and none."""
    found, cursor, until = [], None, time.monotonic() + LIMIT
    while True:
        query = {"limit": 100} | ({"cursor": cursor} if cursor else {})
        url = f"{api}/api/products?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=max(0.1, until - time.monotonic())) as answer:
            page = json.load(answer)
        found += page["items"]
        cursor = page.get("next_cursor")
        if not cursor:
            return found
        if time.monotonic() > until:
            raise TimeoutError(f"the products took more than {LIMIT} s")


def family(name, kind, text, samples):
    head = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return "".join(f"{line}\n" for line in head + [f"{name}{labels} {value}" for labels, value in samples])


def page(api):
    """What Prometheus reads."""
    try:
        found = products(api)
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(error, flush=True)
        found = None
    text = family("myshop_up", "gauge", "Whether the shop's API could be read.", [("", int(found is not None))])
    text += family("myshop_scrapes_total", "counter", "How often this page was read.", [("", next(scrapes))])
    if found is not None:
        text += family("myshop_products", "gauge", "Products that the shop offers.", [("", len(found))])
        stock = [(f'{{product_id="{it["id"]}"}}', it["stock"]) for it in found]
        text += family("myshop_stock_units", "gauge", "Units of a product that are left.", stock)
    return text


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/metrics":
            self.send_error(404)
            return
        body = page(arguments.api).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


parser = argparse.ArgumentParser()
parser.add_argument("--listen", default="127.0.0.1:9870")
parser.add_argument("--api", default="http://127.0.0.1:5000")
arguments = parser.parse_args()
host, port = arguments.listen.split(":")
server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
print(f"http://{host}:{server.server_port}", flush=True)
server.serve_forever()
