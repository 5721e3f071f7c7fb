"""Drives the REST service with requests: python rest.py URL..."""

import sys
import threading

import requests

nodes = sys.argv[1:]
session = requests.Session()


def check(response, status, body):
    assert (response.status_code, response.json()) == (status, body), (response.status_code, response.text)


topics = []
for number, node in enumerate(nodes):
    other = nodes[(number + 1) % len(nodes)]
    topic = f"t\u00e4glich/{number} ?#"
    path = requests.utils.quote(topic, safe="")
    check(session.put(f"{node}/topic", json={"topic": topic}), 201, {"success": True})
    check(session.put(f"{node}/topic", json={"topic": topic}), 409, {"success": False})
    topics.append(topic)
    check(session.get(f"{other}/topic"), 200, {"success": True, "topics": topics})
    check(session.get(f"{node}/message/{path}"), 404, {"success": False})
    check(session.put(f"{node}/message", json={"topic": "missing", "message": "m"}), 404, {"success": False})
    for message in ("first", "", "\U0001f600 \"quoted\""):
        check(session.put(f"{node}/message", json={"topic": topic, "message": message}), 201, {"success": True})
    for message in ("first", "", "\U0001f600 \"quoted\""):
        check(session.get(f"{other}/message/{path}"), 200, {"success": True, "message": message})
    check(session.get(f"{node}/message/{path}"), 404, {"success": False})

    status = session.get(f"{node}/status").json()
    assert status["role"] in ("Leader", "Follower") and isinstance(status["term"], int), status
    refused = session.put(f"{node}/topic", data="{")
    assert refused.status_code == 400 and set(refused.json()) == {"success", "error", "message"}, refused.text
    assert session.head(f"{node}/message/{path}").status_code == 405
    assert session.get(f"{node}/health").status_code == 200

    key = {"Idempotency-Key": f"once-{number}"}
    for _ in range(2):
        body = {"topic": topic, "message": "once"}
        check(session.put(f"{node}/message", json=body, headers=key), 201, {"success": True})
    body = {"topic": topic, "message": "other"}
    check(session.put(f"{node}/message", json=body, headers=key), 422, {"success": False})
    assert session.get(f"{node}/topic/{path}").json()["length"] == 1

    [delivery] = session.post(f"{other}/message/{path}/receive", params={"lease_ms": 30000}).json()["messages"]
    assert (delivery["message"], delivery["deliveries"]) == ("once", 1), delivery
    lease = {"id": delivery["id"], "lease": delivery["lease"]}
    check(session.post(f"{node}/message/{path}/ack", json=lease), 200, {"success": True})
    assert session.post(f"{node}/message/{path}/ack", json=lease).status_code == 409

    received = []
    wait = threading.Thread(
        target=lambda: received.extend(
            requests.post(f"{node}/message/{path}/receive", params={"wait_ms": 20000}).json()["messages"]
        )
    )
    wait.start()
    check(session.put(f"{other}/message", json={"topic": topic, "message": "awaited"}), 201, {"success": True})
    wait.join()
    assert [delivery["message"] for delivery in received] == ["awaited"], received

    tag = session.put(f"{node}/kv/k{number}", json={"value": "1"}).headers["ETag"]
    assert session.put(f"{node}/kv/k{number}", json={"value": "2"}, headers={"If-Match": tag}).status_code == 200
    assert session.put(f"{node}/kv/k{number}", json={"value": "3"}, headers={"If-Match": tag}).status_code == 412
    assert session.get(f"{other}/kv/k{number}").json()["value"] == "2"

print("ok")
