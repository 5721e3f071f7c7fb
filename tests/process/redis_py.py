"""Drives a node with redis-py, in both protocols: python redis_py.py HOST PORT"""

import sys

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
