"""AWS's page for Entra ID: AD Connector, the proxy, and a real FreeRADIUS in the place of NPS with the Entra extension.

The connectors are the directory simulator's; they verify the MS-CHAPv2 success answer and every signature."""

import concurrent.futures
import itertools

import pytest

import freeradius
from conftest import until
from radius_proxy import SECRET, Proxy, upstream

ID = "d-9067012345"
METHODS = ["PAP", "CHAP", "MS-CHAPv1", "MS-CHAPv2"]
PASSWORD = "Winter2026"
# Longer than all tries of the proxy at the NPS, which are 1 s and 2 s.
PUSH_S = 4

# AWS documents nowhere whether a connector signs: one of these does, two do not.
SIGNS = "127.0.0.31"
UNSIGNED = "127.0.0.32"
UNSIGNED_ALLOWED = "127.0.0.33"
CLIENTS = f"""
[[clients]]
name = "connector"
networks = ["{SIGNS}", "{UNSIGNED}"]
secret_files = ["secret"]
directory = true
timeout_seconds = 10
retries = 1

[[clients]]
name = "trusting"
networks = ["{UNSIGNED_ALLOWED}"]
secret_files = ["secret"]
directory = true
unauthenticated_push = true
timeout_seconds = 10
retries = 1
"""

if not freeradius.FREERADIUS:
    pytest.skip("no FreeRADIUS here, and it cannot be installed", allow_module_level=True)

NAMES = (f"user{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def nps(tmp_path_factory):
    running = freeradius.nps(tmp_path_factory.mktemp("nps"), demand=True, delay=PUSH_S)
    try:
        running.wait()
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def proxy(nps, tmp_path_factory):
    running = Proxy(tmp_path_factory.mktemp("entra") / "proxy", *upstream(nps.port, freeradius.SECRET), clients=CLIENTS)
    yield running
    running.end()


@pytest.fixture(scope="module")
def connectors(shared_fleet):
    directory = shared_fleet.directory()
    directory.put(f"/directories/{ID}", {"type": "ADConnector"})
    return {address: shared_fleet.controller(directory, ID, address) for address in (SIGNS, UNSIGNED, UNSIGNED_ALLOWED)}


def login(connectors, proxy, address, method, username, password=PASSWORD, timeout_s=20):
    asked = {
        "username": username,
        "password": password,
        "servers": ["127.0.0.1"],
        "port": proxy.port,
        "shared_secret": SECRET,
        "timeout_s": timeout_s,
        "retries": 0,
        "protocol": method,
        "radius_client": {"message_authenticator": "send" if address == SIGNS else "none"},
    }
    return connectors[address].post("/login", asked)


def at_once(*calls):
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(*call) for call in calls]]


def test_a_push_is_waited_for_by_every_method_signed_and_unsigned(nps, proxy, connectors):
    names = {(address, method): next(NAMES) for address in (SIGNS, UNSIGNED_ALLOWED) for method in METHODS}
    results = at_once(*[(login, connectors, proxy, address, method, name) for (address, method), name in names.items()])
    for (case, name), result in zip(names.items(), results):
        assert result["outcome"] == "accept", (case, result, nps.said())
        assert result["message_authenticator"] == "verified", (case, result)
        (record,) = proxy.records(name)
        assert (record["result"], record["client"]) == ("accept", "connector" if case[0] == SIGNS else "trusting"), record
        assert record["duration_ms"] >= PUSH_S * 900, "the push was waited for"
        assert PASSWORD not in str(record)


def test_a_wrong_password_is_the_answer_of_the_server(proxy, connectors):
    for address in (SIGNS, UNSIGNED_ALLOWED):
        for method in METHODS:
            name = next(NAMES)
            result = login(connectors, proxy, address, method, name, "another")
            assert result["outcome"] == "reject", (address, method, result)
            assert proxy.records(name)[0]["reason"] == "denied", (address, method)


def test_what_proves_no_secret_does_not_reach_the_server_unless_a_setting_says_so(nps, proxy, connectors):
    for method in ("CHAP", "MS-CHAPv1", "MS-CHAPv2"):
        name = next(NAMES)
        result = login(connectors, proxy, UNSIGNED, method, name)
        assert result["outcome"] == "reject", (method, result)
        assert proxy.records(name)[0]["reason"] == "unproven", method
        assert f'"{name}"' not in nps.said(), method
    # PAP is encrypted with the secret, which proves it.
    assert login(connectors, proxy, UNSIGNED, "PAP", next(NAMES))["outcome"] == "accept"


def test_a_push_that_somebody_ignores_does_not_keep_the_next_one_from_being_approved(proxy, connectors):
    def silent():
        return proxy.metric('radius_proxy_provider_calls_total{provider="radius",step="auth",class="timeout"}')

    before = silent()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ignored = pool.submit(login, connectors, proxy, SIGNS, "MS-CHAPv2", "ignores-it", timeout_s=4)
        until(lambda: silent() > before)
        assert login(connectors, proxy, SIGNS, "MS-CHAPv2", next(NAMES))["outcome"] == "accept"
        assert ignored.result()["outcome"] == "timeout"
