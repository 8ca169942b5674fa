"""Okta's Factors API and token endpoint, judged by okta 2 and 3 (PyPI) and @okta/okta-sdk-nodejs (npm)."""

import base64
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import time
import urllib.parse
import uuid

import jwt
import pyotp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from conftest import until

HERE = pathlib.Path(__file__).resolve().parent
LOGIN = "alice@corp.example.com"
SEED = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
CLIENT = "0oaSIMULATOR0000001"
FACTORS = [
    {"type": "push", "delay_ms": 200},
    {"type": "token:software:totp", "provider": "GOOGLE", "secret": SEED},
    {"type": "sms"},
    {"type": "call"},
    {"type": "token:hardware", "provider": "YUBICO", "codes": ["cccccc"]},
]
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
JWKS = {"keys": [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "k1"}]}


@pytest.fixture(scope="module")
def started(shared_fleet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("okta")
    simulator = shared_fleet.okta("--ca-out", folder / "ca.pem")
    simulator.ca = str(folder / "ca.pem")
    simulator.pem = folder / "key.pem"
    simulator.pem.write_bytes(KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return simulator


@pytest.fixture
def sim(started):
    started.post("/reset")
    started.post("/reset?only=users")
    started.put("/settings", {"client_jwks": JWKS})
    started.put(f"/users/{LOGIN}", {"factors": FACTORS})
    return started


def fresh_code():
    """A code that has at least five seconds left."""
    until(lambda: time.time() % 30 < 25)
    return pyotp.TOTP(SEED).now()


def script(sim, *command, **environment):
    everything = {**os.environ, "SSL_CERT_FILE": sim.ca, "NODE_EXTRA_CA_CERTS": sim.ca, **environment}
    ended = subprocess.run([str(part) for part in command], env=everything, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return json.loads(ended.stdout.strip().splitlines()[-1])


def org(sim):
    return f"https://localhost:{sim.port}"


# The vendor's clients


def test_okta_2_looks_up_verifies_and_polls(sim):
    seen = script(sim, sys.executable, HERE / "okta2_client.py", org(sim), LOGIN, fresh_code())
    assert seen["login"] == LOGIN
    assert ["token:software:totp", "GOOGLE"] in seen["factors"] and ["push", "OKTA"] in seen["factors"]
    assert (seen["wrong"], seen["again"]) == ("E0000068", "E0000082")
    assert seen["right"].endswith("SUCCESS") and seen["push"].endswith("WAITING") and seen["polled"].endswith("SUCCESS")
    assert seen["nobody"] == "E0000007"


@pytest.mark.parametrize("kind", ["bearer", "dpop"])
def test_okta_3_comes_with_a_private_key(sim, kind):
    python = os.environ.get("JUDGES_OKTA3_PYTHON")
    if not python:
        pytest.skip("no environment with okta 3")
    sim.put("/settings", {"dpop_required": kind == "dpop"})
    seen = script(sim, python, HERE / "okta3_client.py", org(sim), LOGIN, sim.pem, kind)
    assert seen["login"] == LOGIN and "push" in seen["factors"] and seen["push"].endswith("WAITING")
    assert sim.get("/counters")["calls"]["token"] >= 1


@pytest.mark.parametrize("kind", ["ssws", "private-key"])
def test_the_node_sdk_does_everything(sim, kind, tmp_path):
    modules = os.environ.get("JUDGES_NODE_MODULES")
    if not modules:
        pytest.skip("no npm here")
    judge = tmp_path / "judge.js"
    shutil.copy(HERE / "node" / "judge.js", judge)
    (tmp_path / "node_modules").symlink_to(pathlib.Path(modules) / "node_modules")
    more = [sim.pem] if kind == "private-key" else []
    seen = script(sim, "node", judge, org(sim), LOGIN, fresh_code(), *more)
    assert seen["login"] == LOGIN and len(seen["factors"]) == 5
    assert (seen["wrong"], seen["right"], seen["again"]) == ("E0000068", "SUCCESS", "E0000082")
    assert (seen["sms"], seen["push"], seen["polled"]) == ("CHALLENGE", "WAITING", "SUCCESS")
    assert seen["nobody"] == [404, "E0000007"]


# By hand, for what no client does on purpose


def call(sim, method, path, body=None, headers=None, form=None, agent="judge"):
    context = ssl.create_default_context(cafile=sim.ca)
    connection = http.client.HTTPSConnection("localhost", sim.port, context=context, timeout=10)
    sent = {"Authorization": "SSWS simulator-okta-token", "Accept": "application/json", **(headers or {})}
    if agent:
        sent["User-Agent"] = agent
    data = None
    if form is not None:
        data, sent["Content-Type"] = urllib.parse.urlencode(form), "application/x-www-form-urlencoded"
    elif body is not None:
        data, sent["Content-Type"] = json.dumps(body), "application/json"
    if path.startswith("https://"):
        path = urllib.parse.urlsplit(path).path
    connection.request(method, path, body=data, headers=sent)
    answer = connection.getresponse()
    text = answer.read()
    answer.json = json.loads(text) if text else None
    return answer


def factor(sim, kind, user=LOGIN):
    factors = call(sim, "GET", f"/api/v1/users/{user}/factors").json
    found = next(one for one in factors if one["factorType"] == kind)
    return found["_links"]["verify"]["href"]


def verify(sim, kind, code=None, **more):
    return call(sim, "POST", factor(sim, kind), body={"passCode": code} if code else None, **more)


def code_of(answer):
    assert answer.json["errorId"] and answer.json["errorLink"] == answer.json["errorCode"]
    return answer.status, answer.json["errorCode"]


def test_a_push_is_polled_by_its_links(sim):
    started = verify(sim, "push")
    assert started.status == 201 and started.json["factorResult"] == "WAITING" and started.json["expiresAt"]
    poll = started.json["_links"]["poll"]["href"]
    assert poll.startswith(org(sim))
    until(lambda: call(sim, "GET", poll).json["factorResult"] == "SUCCESS")


@pytest.mark.parametrize("answer, result", [("deny", "REJECTED"), ("ignore", "TIMEOUT")])
def test_a_push_can_end_badly(sim, answer, result):
    sim.put("/settings", {"push_timeout_ms": 300})
    sim.put(f"/users/{LOGIN}", {"factors": [{"type": "push", "answer": answer}]})
    poll = verify(sim, "push").json["_links"]["poll"]["href"]
    until(lambda: call(sim, "GET", poll).json["factorResult"] == result)
    assert call(sim, "GET", poll).status == 200


def test_a_push_is_cancelled_by_its_link(sim):
    sim.put(f"/users/{LOGIN}", {"factors": [{"type": "push", "answer": "manual"}]})
    cancel = verify(sim, "push").json["_links"]["cancel"]["href"]
    assert call(sim, "DELETE", cancel).status == 204
    assert code_of(call(sim, "GET", cancel)) == (404, "E0000007")
    assert sim.get("/pushes")["pushes"] == []
    assert sim.get("/counters")["users"][LOGIN]["cancelled"] == 1


def test_a_number_challenge_runs_into_its_timeout(sim):
    sim.put("/settings", {"push_timeout_ms": 400})
    sim.put(f"/users/{LOGIN}", {"factors": [{"type": "push", "number_challenge": True}]})
    started = verify(sim, "push").json
    assert 10 <= started["_embedded"]["challenge"]["correctAnswer"] <= 99
    until(lambda: call(sim, "GET", started["_links"]["poll"]["href"]).json["factorResult"] == "TIMEOUT")


def test_a_person_decides_by_hand(sim):
    sim.put(f"/users/{LOGIN}", {"factors": [{"type": "push", "answer": "manual"}]})
    poll = verify(sim, "push").json["_links"]["poll"]["href"]
    (pending,) = sim.get("/pushes")["pushes"]
    sim.post(f"/pushes/{pending['id']}", {"answer": "deny"})
    assert call(sim, "GET", poll).json["factorResult"] == "REJECTED"


def test_links_can_point_elsewhere(sim):
    sim.put("/settings", {"link_origin": "https://elsewhere.invalid"})
    assert verify(sim, "push").json["_links"]["poll"]["href"].startswith("https://elsewhere.invalid/")


def test_texted_codes_work_once_and_not_too_often(sim):
    assert verify(sim, "sms").json["factorResult"] == "CHALLENGE"
    assert code_of(verify(sim, "sms")) == (429, "E0000109")
    (code,) = sim.get(f"/users/{LOGIN}/codes")["sent"].values()
    assert code_of(verify(sim, "sms", "x")) == (403, "E0000068")
    assert verify(sim, "sms", code).json == {"factorResult": "SUCCESS"}
    assert code_of(verify(sim, "sms", code)) == (403, "E0000068")
    assert verify(sim, "call").json["factorResult"] == "CHALLENGE"
    assert code not in str(sim.get("/journal")) + "".join(sim.log)


def test_hardware_codes_work_once(sim):
    assert verify(sim, "token:hardware", "cccccc").json["factorResult"] == "SUCCESS"
    assert code_of(verify(sim, "token:hardware", "cccccc")) == (403, "E0000082")
    assert code_of(verify(sim, "token:hardware")) == (400, "E0000001")


def test_who_cannot_verify_is_told_why(sim):
    for status, code in (("LOCKED_OUT", "E0000069"), ("SUSPENDED", "E0000038"), ("DEPROVISIONED", "E0000038")):
        sim.put(f"/users/{LOGIN}", {"status": status, "factors": FACTORS})
        assert code_of(verify(sim, "push")) == (403, code)
    sim.put(f"/users/{LOGIN}", {"factors": [{"type": "push", "status": "PENDING_ACTIVATION"}]})
    assert code_of(verify(sim, "push")) == (403, "E0000079")


def test_wrong_codes_lock_out_when_so_set(sim):
    sim.put("/settings", {"lockout_failures": 2})
    for _ in range(2):
        assert code_of(verify(sim, "token:software:totp", "000000")) == (403, "E0000068")
    assert code_of(verify(sim, "token:software:totp", fresh_code())) == (403, "E0000069")
    assert call(sim, "GET", f"/api/v1/users/{LOGIN}").json["status"] == "LOCKED_OUT"


def test_users_are_found_by_login_short_name_and_id(sim):
    sim.put("/users/bob@a.example", {})
    sim.put("/users/bob@b.example", {})
    one = call(sim, "GET", "/api/v1/users/ALICE%40corp.example.com").json
    assert call(sim, "GET", "/api/v1/users/alice").json["id"] == one["id"]
    assert call(sim, "GET", f"/api/v1/users/{one['id']}").json["profile"]["login"] == LOGIN
    assert code_of(call(sim, "GET", "/api/v1/users/bob")) == (404, "E0000007"), "two of that name"


def test_rate_limits_are_told_and_kept(sim):
    sim.put("/settings", {"rate_limit_per_minute": 3})
    until(lambda: time.time() % 60 < 55, 10)
    used = sim.get("/counters")
    answers = [call(sim, "GET", "/api/v1/users/alice") for _ in range(4 + len(used["calls"]))]
    assert code_of(answers[-1]) == (429, "E0000047")
    headers = answers[-1].headers
    assert headers["X-Rate-Limit-Limit"] == "3" and headers["X-Rate-Limit-Remaining"] == "0"
    assert 0 < int(headers["X-Rate-Limit-Reset"]) - time.time() <= 60


def test_wrong_credentials_are_refused(sim):
    for wrong in ("SSWS wrong", "SSWSsimulator-okta-token", "Bearer nothing", "", "SSWS "):
        assert code_of(call(sim, "GET", "/api/v1/users/alice", headers={"Authorization": wrong})) == (401, "E0000011")
    assert call(sim, "GET", "/api/v1/users/alice", agent=None).status == 403
    assert code_of(call(sim, "PUT", "/api/v1/users/alice")) == (405, "E0000022")
    assert "simulator-okta-token" not in str(sim.get("/state"))


@pytest.mark.parametrize("code, status", [("E0000004", 401), ("E0000011", 401), ("E0000015", 401), ("E0000006", 403), ("E0000119", 403), ("E0000047", 429), ("E0000009", 500)])
def test_any_error_can_be_injected(sim, code, status):
    sim.put("/faults", {"faults": [{"operation": "user", "kind": "error", "code": code, "times": 1, "user": LOGIN}]})
    assert code_of(call(sim, "GET", "/api/v1/users/alice")) == (status, code)
    assert call(sim, "GET", "/api/v1/users/alice").status == 200


@pytest.mark.parametrize("kind", ["close", "cut", "malformed"])
def test_faults_are_felt(sim, kind):
    sim.put("/faults", {"faults": [{"operation": "user", "kind": kind}]})
    with pytest.raises((http.client.HTTPException, OSError, ValueError)):
        call(sim, "GET", "/api/v1/users/alice")


# OAuth


def assertion(sim, key=KEY, algorithm="RS256", **changes):
    now = int(time.time())
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": f"{org(sim)}/oauth2/v1/token", "iat": now, "exp": now + 300, "jti": str(uuid.uuid4()), **changes}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm=algorithm, headers={"kid": "k1"})


def token(sim, signed=None, scope="okta.users.read", headers=None, **changes):
    form = {
        "grant_type": "client_credentials", "scope": scope, "client_assertion": signed or assertion(sim),
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", **changes,
    }
    return call(sim, "POST", "/oauth2/v1/token", form=form, headers={"Authorization": "", **(headers or {})})


def test_a_token_is_issued_and_limited_to_its_scopes(sim):
    answer = token(sim)
    assert answer.status == 200 and answer.json["token_type"] == "Bearer" and answer.json["expires_in"] == 3600
    bearer = {"Authorization": "Bearer " + answer.json["access_token"]}
    assert call(sim, "GET", "/api/v1/users/alice", headers=bearer).status == 200
    assert code_of(verify(sim, "push", headers=bearer)) == (403, "E0000006")
    more = {"Authorization": "Bearer " + token(sim, scope="okta.users.manage okta.users.read").json["access_token"]}
    assert verify(sim, "push", headers=more).status == 201
    sim.post("/revoke")
    assert code_of(call(sim, "GET", "/api/v1/users/alice", headers=bearer)) == (401, "E0000011")


def test_wrong_assertions_are_refused(sim):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    used = assertion(sim)
    token(sim, used)
    for wrong in (
        used,
        assertion(sim, key=other),
        assertion(sim, iss="somebody"),
        assertion(sim, sub="somebody"),
        assertion(sim, aud="https://localhost/oauth2/v1/token"),
        assertion(sim, exp=int(time.time()) - 600),
        assertion(sim, exp=int(time.time()) + 7200),
        assertion(sim, exp=None),
        "rubbish",
    ):
        answer = token(sim, wrong)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client"), answer.json
    assert token(sim, scope="okta.apps.manage").json["error"] == "invalid_scope"
    assert token(sim, scope="").json["error"] == "invalid_scope"
    assert token(sim, grant_type="password").json["error"] == "unsupported_grant_type"
    assert token(sim, client_assertion_type="x").json["error"] == "invalid_client"


def test_a_token_runs_out(sim):
    sim.put("/settings", {"token_seconds": 1})
    bearer = {"Authorization": "Bearer " + token(sim).json["access_token"]}
    until(lambda: call(sim, "GET", "/api/v1/users/alice", headers=bearer).status == 401)


def proof(sim, key, method, url, **changes):
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    algorithm = jwt.algorithms.RSAAlgorithm if is_rsa else jwt.algorithms.ECAlgorithm
    public = json.loads(algorithm.to_jwk(key.public_key()))
    public.pop("key_ops", None)
    claims = {"htm": method, "htu": url, "iat": int(time.time()), "jti": str(uuid.uuid4()), **changes}
    return jwt.encode(claims, key, algorithm="RS256" if is_rsa else "ES256", headers={"typ": "dpop+jwt", "jwk": public})


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_tokens_are_bound_to_a_key_when_demanded(sim, kind):
    sim.put("/settings", {"dpop_required": True})
    key = KEY if kind == "RS256" else ec.generate_private_key(ec.SECP256R1())
    url = f"{org(sim)}/oauth2/v1/token"
    assert token(sim).json["error"] == "invalid_dpop_proof"
    asked = token(sim, headers={"DPoP": proof(sim, key, "POST", url)})
    assert (asked.status, asked.json["error"]) == (400, "use_dpop_nonce")
    nonce = asked.headers["DPoP-Nonce"]
    answer = token(sim, headers={"DPoP": proof(sim, key, "POST", url, nonce=nonce)})
    assert answer.json["token_type"] == "DPoP", answer.json
    access = answer.json["access_token"]
    api = f"{org(sim)}/api/v1/users/alice"
    ath = base64.urlsafe_b64encode(hashlib.sha256(access.encode()).digest()).rstrip(b"=").decode()

    def ask(proof, scheme="DPoP"):
        return call(sim, "GET", "/api/v1/users/alice", headers={"Authorization": f"{scheme} {access}", "DPoP": proof}).status

    good = proof(sim, key, "GET", api, ath=ath)
    assert ask(good) == 200
    assert ask(good) == 400, "a proof works once"
    assert ask(proof(sim, key, "POST", api, ath=ath)) == 400
    assert ask(proof(sim, key, "GET", api)) == 400, "not bound to the token"
    assert ask(proof(sim, ec.generate_private_key(ec.SECP256R1()), "GET", api, ath=ath)) == 400
    assert ask(proof(sim, key, "GET", api, ath=ath), scheme="Bearer") == 401
