#!/usr/bin/env python3
"""Take the alerts of a Langbiang hub as webhooks: check the signature, throw away
what has come already, answer 204.

    LANGBIANG_WEBHOOK_SECRET=... webhook.py 8090

Python's own library only. The secret is the one of hub.yaml: whsec_ and base64, or
any text. What has been handled is kept in memory here; a real receiver keeps it where
its alerts are.
"""
import base64, hashlib, hmac, http.server, json, os, sys, time

secret = os.environ["LANGBIANG_WEBHOOK_SECRET"].strip()
key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
handled = set()


def signed(headers, body):
    id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > 300:
        return False
    want = base64.b64encode(hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(one, "v1," + want) for one in headers.get("webhook-signature", "").split())


def handle(event):
    kind = event["type"].removeprefix("io.github.langbiang.")
    if kind.startswith("alert."):  # heartbeats and notices come here, too
        alert = event["data"]["alert"]
        print(event["time"], kind, event["severitytext"], alert["site"], alert["message"]["vi"], flush=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not signed(self.headers, body):
            self.send_error(401)  # holds the target: the hub says so, and somebody looks
            return
        event = json.loads(body)
        if event["id"] not in handled:  # after a kill the last ones may come again
            handle(event)
            handled.add(event["id"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
