"""Exports the shop's products to Prometheus: python3 exporter.py --listen 127.0.0.1:9870 --api http://127.0.0.1:5000"""
import argparse, http.server


def page(api):
    """What Prometheus reads."""
    return ""


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
