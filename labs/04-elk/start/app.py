"""Looks at products of the shop, and says on standard output what it sees: python3 app.py [HOW_OFTEN] >> FILE"""
import itertools, json, secrets, sys, time, urllib.request

SHOP = "http://127.0.0.1:5000"


def log(level, message):
    print(level.upper(), message, flush=True)


def look(product):
    # With this header the shop's trace has an id that we know (W3C Trace Context).
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    request = urllib.request.Request(f"{SHOP}/api/products/{product}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            found = json.load(answer)
        log("info", f"{found['stock']} units of {found['name']} are left")
    except OSError as error:
        log("error", f"product {product} cannot be looked at: {error}")


# There is no product 9999.
products = itertools.cycle([1, 2, 9999])
for product in itertools.islice(products, int(sys.argv[1]) if len(sys.argv) > 1 else None):
    look(product)
    time.sleep(1)
