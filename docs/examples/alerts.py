#!/usr/bin/env python3
"""Print every alert of a Langbiang hub, and miss none.

    alerts.py http://127.0.0.1:8080 alerts.position

Where the hub wants a token (langbiang-hub tokens new NAME --role viewer), it stands in
LANGBIANG_TOKEN; the hub's own authority, for https://, in the file SSL_CERT_FILE names.
Python's own library only. The position is saved after an event has been handled:
after a crash the last one may come again, with the same id.
"""
import json, os, sys, time, urllib.error, urllib.parse, urllib.request

hub, file = sys.argv[1].rstrip("/"), sys.argv[2]


def load():
    try:
        with open(file) as f:
            return f.read().strip()
    except FileNotFoundError:
        return "0"  # the whole log; "" begins now


def save(position):
    with open(file + ".new", "w") as f:
        f.write(position)
        f.flush()
        os.fsync(f.fileno())
    os.replace(file + ".new", file)


def handle(event):
    alert = event["data"]["alert"]
    print(event["id"], event["time"], event["data"]["kind"], event["severitytext"], alert["site"], alert["message"]["vi"], flush=True)


def follow():
    url = hub + "/api/v1/alerts/stream?" + urllib.parse.urlencode({"after": load()})
    headers = {"Accept": "application/x-ndjson"}
    if token := os.environ.get("LANGBIANG_TOKEN"):
        headers["Authorization"] = "Bearer " + token.strip()
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=45) as lines:  # a heartbeat comes every 15 s
        for line in lines:
            event = json.loads(line)
            kind = event["type"].removeprefix("io.github.langbiang.")
            if kind.startswith("alert."):
                handle(event)
                save(event["id"])
            elif kind in ("stream.trimmed", "stream.generation"):
                print("# read the list of alerts anew:", kind, file=sys.stderr)


while True:
    try:
        follow()
    except (OSError, urllib.error.URLError) as err:
        print("# again in 2 s:", err, file=sys.stderr)
    time.sleep(2)
