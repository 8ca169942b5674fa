"""Duo's Auth API v2, judged by duo_client."""

import email.utils
import hashlib
import http.client
import json
import ssl
import threading
import time

import duo_client
import pytest

from conftest import until

IKEY, SKEY = "DISIMULATOR000000001", "simulatorsimulatorsimulatorsimulator0000"


@pytest.fixture(scope="module")
def started(shared_fleet, tmp_path_factory):
    ca = tmp_path_factory.mktemp("duo") / "ca.pem"
    simulator = shared_fleet.duo("--ca-out", ca)
    simulator.ca = str(ca)
    return simulator


@pytest.fixture
def sim(started):
    started.post("/reset")
    started.post("/reset?only=users")
    started.put("/users/alice", {"passcodes": ["123456", "234567"]})
    return started


def auth(sim, ikey=IKEY, skey=SKEY, sig_version=5, digestmod=hashlib.sha512, **more):
    more.setdefault("timeout", 30)
    return duo_client.Auth(ikey, skey, "localhost", port=sim.port, ca_certs=sim.ca, sig_version=sig_version, digestmod=digestmod, **more)


def refused(call, *arguments, **parameters):
    with pytest.raises(RuntimeError) as caught:
        call(*arguments, **parameters)
    return caught.value.data


SIGNATURES = [(2, hashlib.sha1, "2-sha1"), (2, hashlib.sha512, "2-sha512"), (4, hashlib.sha512, "4-sha512"), (5, hashlib.sha512, "5-sha512")]


@pytest.mark.parametrize("version, digest, name", SIGNATURES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_signature_version_does_everything(sim, version, digest, name):
    ours = auth(sim, sig_version=version, digestmod=digest)
    assert abs(ours.ping()["time"] - time.time()) < 5
    assert abs(ours.check()["time"] - time.time()) < 5
    found = ours.preauth(username="alice", ipaddr="192.0.2.1")
    assert found["result"] == "auth"
    assert found["devices"][0]["number"] == "XXX-XXX-4788"
    assert "push" in found["devices"][0]["capabilities"]
    assert ours.auth("push", username="alice", device="auto") == {"result": "allow", "status": "allow", "status_msg": "Success. Logging you in..."}
    txid = ours.auth("push", username="alice", device="auto", async_txn=True, type="WorkSpaces login é & +", pushinfo="from=192.0.2.1&directory=corp")["txid"]
    assert ours.auth_status(txid)["success"]
    counters = sim.get("/counters")
    assert counters["signatures"] == {name: 5}, "all but ping are signed"
    assert counters["users"]["alice"]["pushes"] == 2 and counters["users"]["alice"]["approved"] == 2


def test_wrong_keys_and_clocks_have_their_codes(sim, monkeypatch):
    assert refused(auth(sim, ikey="DIWRONG").check)["code"] == 40102
    assert refused(auth(sim, skey="wrong").check)["code"] == 40103
    for version, digest, _ in SIGNATURES:
        assert refused(auth(sim, skey="wrong", sig_version=version, digestmod=digest).preauth, username="alice")["code"] == 40103
    real = email.utils.formatdate
    for minutes in (-6, 6):
        monkeypatch.setattr(email.utils, "formatdate", lambda *a, minutes=minutes, **k: real(time.time() + 60 * minutes))
        assert refused(auth(sim).check)["code"] == 40105
    monkeypatch.setattr(email.utils, "formatdate", lambda *a, **k: "yesterday")
    assert refused(auth(sim).check)["code"] == 40105
    monkeypatch.undo()
    sim.put("/settings", {"clock_offset_seconds": 600})
    assert auth(sim).ping()["time"] - time.time() > 590
    assert refused(auth(sim).check)["code"] == 40105
    sim.put("/settings", {"clock_offset_seconds": 0, "integration_permitted": False})
    assert refused(auth(sim).check)["code"] == 40301
    assert SKEY not in str(sim.get("/state"))


def test_signature_versions_can_be_withdrawn(sim):
    sim.put("/settings", {"signatures": ["5"]})
    auth(sim).check()
    assert refused(auth(sim, sig_version=2).check)["code"] == 40103
    assert refused(auth(sim, sig_version=4).preauth, username="alice")["code"] == 40103


def raw(sim, method, path, headers=None, body=None):
    context = ssl.create_default_context(cafile=sim.ca)
    connection = http.client.HTTPSConnection("localhost", sim.port, context=context, timeout=10)
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_missing_credentials_and_paths_have_their_codes(sim):
    assert raw(sim, "GET", "/auth/v2/check")[1]["code"] == 40101
    basic = {"Authorization": "Basic RElTSU1VTEFUT1IwMDAwMDAwMDE6YWFhYQ=="}
    assert raw(sim, "GET", "/auth/v2/check", basic) == (401, {"stat": "FAIL", "code": 40104, "message": "Missing request timestamp"})
    assert raw(sim, "GET", "/auth/v2/nothing")[0] == 404
    assert raw(sim, "POST", "/auth/v2/ping")[0] == 405


def test_preauth_knows_everybody(sim):
    ours = auth(sim)
    for name, status, result in (
        ("bypassed", "bypass", "allow"), ("disabled", "disabled", "deny"), ("locked", "locked_out", "deny"), ("newcomer", "unenrolled", "enroll"),
    ):
        sim.put(f"/users/{name}", {"status": status})
        answer = ours.preauth(username=name)
        assert answer["result"] == result and answer["status_msg"]
        assert ("enroll_portal_url" in answer) == (result == "enroll")
    for rule, result in (("enroll", "enroll"), ("allow", "allow"), ("deny", "deny")):
        sim.put("/settings", {"unknown_users": rule})
        assert ours.preauth(username="nobody")["result"] == result
    assert ours.auth("push", username="bypassed", device="auto")["status"] == "bypass"
    assert ours.auth("push", username="locked", device="auto")["status"] == "locked_out"


def test_names_are_compared_without_case_and_by_alias(sim):
    sim.put("/users/bob", {"aliases": ["bob@corp.example.com"]})
    assert auth(sim).preauth(username="BOB")["result"] == "auth"
    assert auth(sim).preauth(username="bob@corp.example.com")["result"] == "auth"
    assert auth(sim).preauth(user_id="DUbob")["result"] == "auth"


@pytest.mark.parametrize(
    "parameters, code, detail",
    [
        ({"factor": "push"}, 40001, "username"),
        ({"factor": "push", "username": "alice", "user_id": "DUalice"}, 40002, "username"),
        ({"factor": "smoke", "username": "alice"}, 40002, "factor"),
        ({"factor": "push", "username": "alice"}, 40001, "device"),
        ({"factor": "push", "username": "alice", "device": "DPNONE"}, 40002, "device"),
        ({"factor": "passcode", "username": "alice"}, 40001, "passcode"),
        ({"factor": "push", "username": "alice", "device": "auto", "pushinfo": "a=" + "x" * 20_000}, 40002, "pushinfo"),
    ],
)
def test_wrong_parameters_are_named(sim, parameters, code, detail):
    answer = refused(auth(sim).auth, **parameters)
    assert (answer["code"], answer["message_detail"]) == (code, detail)


def test_an_async_push_blocks_until_its_end(sim):
    sim.put("/users/alice", {"answer": "approve", "delay_ms": 700})
    ours = auth(sim)
    began = time.monotonic()
    txid = ours.auth("push", username="alice", device="auto", async_txn=True)["txid"]
    first = ours.auth_status(txid)
    assert first["waiting"] and first["status"] == "pushed"
    assert time.monotonic() - began < 0.6
    last = ours.auth_status(txid)
    assert last["success"] and last["status"] == "allow" and time.monotonic() - began >= 0.7
    assert ours.auth_status(txid)["success"], "the end is told again"


@pytest.mark.parametrize("answer, status", [("deny", "deny"), ("fraud", "fraud")])
def test_a_push_that_is_not_approved(sim, answer, status):
    sim.put("/users/alice", {"answer": answer})
    result = auth(sim).auth("push", username="alice", device="auto")
    assert (result["result"], result["status"]) == ("deny", status)


def test_a_push_that_nobody_answers_times_out(sim):
    sim.put("/users/alice", {"answer": "ignore"})
    sim.put("/settings", {"push_timeout_ms": 400})
    assert auth(sim).auth("push", username="alice", device="auto")["status"] == "timeout"
    assert sim.get("/counters")["users"]["alice"]["timeouts"] == 1


def test_a_push_that_cannot_be_delivered(sim):
    sim.put("/users/alice", {"devices": [{"id": "DP1", "push": "push_failed"}]})
    sim.put("/settings", {"push_timeout_ms": 400})
    ours = auth(sim)
    txid = ours.auth("push", username="alice", device="DP1", async_txn=True)["txid"]
    assert ours.auth_status(txid)["status"] == "push_failed"
    assert ours.auth_status(txid)["status"] == "timeout"


def test_a_person_can_decide_by_hand(sim):
    sim.put("/users/alice", {"answer": "manual"})
    ours = auth(sim)
    txid = ours.auth("push", username="alice", device="auto", async_txn=True, pushinfo="a=b", type="login")["txid"]
    (pending,) = sim.get("/pushes")["pushes"]
    assert (pending["txid"], pending["user"], pending["pushinfo"], pending["type"]) == (txid, "alice", "a=b", "login")
    assert ours.auth_status(txid)["waiting"]
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(ours.auth_status(txid)))
    waiting.start()
    sim.post(f"/pushes/{txid}", {"answer": "approve"})
    waiting.join(10)
    assert answers[0]["success"]
    assert sim.get("/pushes")["pushes"] == []


@pytest.mark.parametrize("end, code", [("waiting", None), ("40002", 40002)])
def test_a_long_poll_ends(sim, end, code):
    sim.put("/users/alice", {"answer": "ignore"})
    sim.put("/settings", {"long_poll_ms": 200, "long_poll_end": end})
    ours = auth(sim)
    txid = ours.auth("push", username="alice", device="auto", async_txn=True)["txid"]
    assert ours.auth_status(txid)["waiting"]
    if code:
        assert refused(ours.auth_status, txid)["code"] == code
    else:
        assert ours.auth_status(txid)["waiting"]


def test_a_txid_runs_out(sim):
    ours = auth(sim)
    txid = ours.auth("push", username="alice", device="auto", async_txn=True)["txid"]
    sim.put("/settings", {"txid_ttl_ms": 1})
    until(lambda: unless_refused(ours.auth_status, txid).get("code") == 40002)
    assert refused(ours.auth_status, "no-such-txid")["code"] == 40002


def unless_refused(call, *arguments):
    try:
        return call(*arguments)
    except RuntimeError as error:
        return error.data


def test_a_phone_call_rings_and_is_answered(sim):
    sim.put("/users/alice", {"answer": "approve", "delay_ms": 400})
    ours = auth(sim)
    txid = ours.auth("phone", username="alice", device="auto", async_txn=True)["txid"]
    assert [ours.auth_status(txid)["status"] for _ in range(3)] == ["calling", "answered", "allow"]
    assert sim.get("/counters")["users"]["alice"]["calls"] == 1


def test_passcodes_work_once_and_texted_ones_too(sim):
    ours = auth(sim)
    assert ours.auth("passcode", username="alice", passcode="123456")["result"] == "allow"
    assert ours.auth("passcode", username="alice", passcode="123456")["result"] == "deny"
    assert ours.auth("passcode", username="alice", passcode="000000")["status"] == "deny"
    texted = ours.auth("sms", username="alice", device="auto")
    assert (texted["result"], texted["status"]) == ("deny", "sent")
    codes = sim.get("/users/alice/codes")["sms"]
    txid = ours.auth("passcode", username="alice", passcode=codes[0], async_txn=True)["txid"]
    assert ours.auth_status(txid)["success"]
    assert ours.auth("passcode", username="alice", passcode=codes[0])["result"] == "deny"
    journal = str(sim.get("/journal")) + "".join(sim.log)
    assert "123456" not in journal and codes[0] not in journal
    assert sim.get("/journal?user=alice")["entries"][0]["passcode_length"] == 6


def test_wrong_passcodes_lock_out_when_so_set(sim):
    sim.put("/settings", {"lockout_failures": 2})
    ours = auth(sim)
    for _ in range(2):
        ours.auth("passcode", username="alice", passcode="000000")
    assert ours.preauth(username="alice")["result"] == "deny"
    assert ours.auth("passcode", username="alice", passcode="123456")["status"] == "locked_out"


def test_factors_follow_the_devices(sim):
    sim.put("/users/token", {"devices": [{"id": "DH1", "type": "token", "name": "20361492"}]})
    sim.put("/users/landline", {"devices": [{"id": "DP2", "number": "+1 555 0100", "capabilities": ["auto", "phone"]}]})
    ours = auth(sim)
    assert ours.preauth(username="token")["devices"] == [{"device": "DH1", "type": "token", "name": "20361492"}]
    assert refused(ours.auth, "push", username="token", device="auto")["code"] == 40002
    assert refused(ours.auth, "auto", username="token", device="auto")["code"] == 40002
    assert refused(ours.auth, "push", username="landline", device="DP2")["code"] == 40002
    assert ours.auth("auto", username="landline", device="auto")["result"] == "allow"
    assert sim.get("/counters")["users"]["landline"]["calls"] == 1


def test_verified_push_hides_push_from_those_who_cannot_show_codes(sim):
    sim.put("/settings", {"verified_push": True})
    ours = auth(sim)
    assert "push" not in ours.preauth(username="alice")["devices"][0]["capabilities"]
    assert "push" in ours.preauth(username="alice", client_supports_verified_push="1")["devices"][0]["capabilities"]


def test_too_many_pushes_are_429_and_the_client_backs_off(sim):
    sim.put("/settings", {"pushes_per_minute": 1, "retry_after": 7})
    ours = auth(sim)
    ours._MAX_BACKOFF_WAIT_SECS = 1
    ours.auth("push", username="alice", device="auto")
    began = time.monotonic()
    assert refused(ours.auth, "push", username="alice", device="auto")["code"] == 42901
    assert time.monotonic() - began > 1, "it tried again with the same signature"
    assert sim.get("/counters")["errors"]["42901"] == 2
    sim.put("/faults", {"faults": [{"operation": "preauth", "kind": "error", "code": "42901", "times": 1}]})
    assert auth(sim).preauth(username="alice")["result"] == "auth"


@pytest.mark.parametrize("kind", ["close", "lost", "cut", "malformed"])
def test_faults_are_felt(sim, kind):
    sim.put("/faults", {"faults": [{"operation": "preauth", "kind": kind}]})
    with pytest.raises(Exception):
        auth(sim).preauth(username="alice")
    sim.put("/faults", {"faults": []})
    assert auth(sim).preauth(username="alice")["result"] == "auth"


def test_faults_can_be_for_one_user_and_have_any_status(sim):
    sim.put("/users/bob", {})
    sim.put("/faults", {"faults": [{"operation": "*", "kind": "status", "status": 503, "user": "bob"}]})
    assert auth(sim).preauth(username="alice")["result"] == "auth"
    with pytest.raises(RuntimeError) as caught:
        auth(sim).preauth(username="bob")
    assert caught.value.status == 503
    sim.put("/faults", {"faults": [{"operation": "auth", "kind": "error", "code": "50000"}]})
    assert refused(auth(sim).auth, "push", username="alice", device="auto")["code"] == 50000
    sim.put("/faults", {"faults": [{"operation": "preauth", "kind": "slow", "interval_ms": 1}]})
    assert auth(sim).preauth(username="alice")["result"] == "auth"
    sim.put("/faults", {"faults": [{"operation": "preauth", "kind": "hang"}]})
    with pytest.raises(TimeoutError):
        auth(sim, timeout=0.5).preauth(username="alice")


@pytest.mark.parametrize("face", ["untrusted", "wrong-name", "expired", "garbage", "close"])
def test_every_wrong_tls_is_refused_by_the_client(sim, face):
    sim.put("/settings", {"tls": face})
    with pytest.raises((OSError, duo_client.https_wrapper.InvalidCertificateException)):
        auth(sim).check()
    sim.put("/settings", {"tls": "ok"})
    auth(sim).check()


def test_connections_are_kept(sim):
    context = ssl.create_default_context(cafile=sim.ca)
    connection = http.client.HTTPSConnection("localhost", sim.port, context=context)
    for _ in range(3):
        connection.request("GET", "/auth/v2/ping")
        assert json.loads(connection.getresponse().read())["stat"] == "OK"
    counters = sim.get("/counters")
    assert counters["connections"] == 1 and counters["calls"]["ping"] == 3 and counters["http"] == {"HTTP/1.1": 3}


def test_http_2_is_offered(sim):
    context = ssl.create_default_context(cafile=sim.ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    import socket

    with context.wrap_socket(socket.create_connection(("localhost", sim.port)), server_hostname="localhost") as tls:
        assert tls.selected_alpn_protocol() == "h2"


def test_thousands_of_users_are_made_at_once(sim):
    sim.put("/users", {"generate": {"count": 5000, "prefix": "load", "reusable_passcodes": ["111111"]}})
    ours = auth(sim)
    for _ in range(2):
        assert ours.auth("passcode", username="load4999", passcode="111111")["result"] == "allow"


def test_it_ends_in_order(fleet):
    simulator = fleet.duo("--plain-http")
    assert simulator.stop() == 0
