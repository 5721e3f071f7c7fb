"""Drives a node with redis-py, in both protocols: python redis_py.py HOST PORT"""

import sys
import threading
import time

import redis

host, port = sys.argv[1], int(sys.argv[2])

for protocol in (2, 3):
    r = redis.Redis(host=host, port=port, protocol=protocol, decode_responses=True, client_name=f"py{protocol}")
    assert r.ping() is True
    assert r.echo("hello") == "hello"
    assert r.client_getname() == f"py{protocol}"
    assert r.client_id() > 0
    assert "redis_version" in r.info()

    for key in r.keys("*"):
        r.delete(key)
    assert r.dbsize() == 0
    assert r.get("k") is None
    assert r.set("k", "1") is True
    assert r.get("k") == "1"
    assert r.set("k", "2", nx=True) is None
    assert r.set("k", "2", xx=True) is True
    assert r.set("k", "3", get=True) == "2"
    assert r.execute_command("SET", "k", "4", "IFEQ", "3") in (True, "OK")
    assert r.execute_command("SET", "k", "5", "IFEQ", "3") is None
    assert r.exists("k", "k", "missing") == 2
    assert r.execute_command("RAFT", "CAS", "k", "4", "5") in ("OK", True)
    for key, value, word in (("k", "4", "DIFFERENT"), ("missing", "4", "MISSING")):
        try:
            r.execute_command("RAFT", "CAS", key, value, "6")
            raise AssertionError("the compare-and-set should have failed")
        except redis.ResponseError as error:
            assert word in str(error), error
    assert r.delete("k", "missing") == 1

    names = {f"key:{n}" for n in range(500)}
    with r.pipeline(transaction=False) as pipeline:
        for name in sorted(names):
            pipeline.set(name, name)
            pipeline.get(name)
        answers = pipeline.execute()
    assert answers[1::2] == sorted(names), "a pipeline is answered in order, reads see the writes before them"
    assert set(r.scan_iter(match="key:*", count=7)) == names
    assert set(r.keys("key:*")) == names
    assert r.dbsize() == 500

    assert r.delete("n", "s", "q", "none") >= 0
    assert [r.incr("n"), r.incrby("n", 41), r.decr("n"), r.decrby("n", 2)] == [1, 42, 41, 39]
    assert r.append("s", "ab") == 2 and r.strlen("s") == 2 and r.getdel("s") == "ab" and r.get("s") is None
    assert r.mset({"a": 1, "b": 2}) is True and r.mget("a", "none", "b") == ["1", None, "2"]
    assert not r.msetnx({"b": 1, "c": 2}) and r.setnx("b", 3) in (False, 0) and r.type("b") == "string"
    assert r.set("t", "v", ex=100) is True and 98 <= r.ttl("t") <= 100 and 98_000 <= r.pttl("t") <= 100_000
    assert r.set("t", "w", keepttl=True) is True and r.ttl("t") > 0
    assert r.persist("t") and r.ttl("t") == -1 and r.ttl("none") == -2
    assert r.expire("t", 100, nx=True) and not r.expire("t", 200, nx=True) and r.expire("t", 200, gt=True)
    assert r.set("t", "v", px=1) is True
    deadline = time.monotonic() + 10
    while r.exists("t"):
        assert time.monotonic() < deadline, "the key never expires"

    assert r.rpush("q", "x", "y", "z") == 3 and r.llen("q") == 3 and r.lrange("q", 0, -1) == ["x", "y", "z"]
    assert r.type("q") == "list" and r.lpop("q") == "x" and r.lpop("q", 5) == ["y", "z"] and r.lpop("q") is None
    assert r.type("q") == "none" and r.blpop(["q", "none"], timeout=0.1) is None
    try:
        r.set("q", "v")
        raise AssertionError("the name is a topic's")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error), error
    with r.pipeline() as pipeline:
        answers = pipeline.incr("n").rpush("q", "x").blpop("q", 1).get("n").execute()
    assert answers[:2] == [40, 1] and list(answers[2]) == ["q", "x"] and answers[3] == "40", answers

    def double(pipeline):
        count = int(pipeline.get("n"))
        if count == 40:
            r.set("n", 50)  # Somebody else, the first time.
        pipeline.multi()
        pipeline.set("n", 2 * count)

    assert r.transaction(double, "n") == [True] and r.get("n") == "100"
    with r.pipeline() as pipeline:
        pipeline.watch("absent")
        r.set("absent", 1)
        r.delete("absent")
        pipeline.multi()
        pipeline.set("n", 0)
        try:
            pipeline.execute()
            raise AssertionError("it was there meanwhile")
        except redis.WatchError:
            pass
    waiter = redis.Redis(host=host, port=port, protocol=protocol, decode_responses=True)
    told = []
    thread = threading.Thread(target=lambda: told.append(waiter.blpop("q", timeout=20)))
    thread.start()
    assert r.rpush("q", "for the one who waits") == 1
    thread.join()
    assert list(told[0]) == ["q", "for the one who waits"], told
    r.delete("n", "a", "b", "q")

    raw = redis.Redis(host=host, port=port, protocol=protocol)
    binary = bytes(range(256))
    assert raw.set(binary, binary) is True
    assert raw.get(binary) == binary
    assert raw.delete(binary) == 1

    try:
        r.execute_command("FLUSHALL")
        raise AssertionError("an unknown command should be refused")
    except redis.ResponseError as error:
        assert "unknown command" in str(error), error
    try:
        r.execute_command("GET")
        raise AssertionError("a wrong number of arguments should be refused")
    except redis.ResponseError as error:
        assert "wrong number of arguments" in str(error), error
    assert r.execute_command("RAFT", "LEADER")[0] >= 1
    r.close()

print("ok")
