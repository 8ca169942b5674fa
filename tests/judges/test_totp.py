"""Enrolment and codes, judged by pyotp; two proxies that share a real store: each code works once over both."""

import csv
import os
import pathlib
import re
import subprocess

import pyotp
import pytest

from conftest import until
from freeradius import FREERADIUS, free_port
from radius_proxy import BINARY, PLAIN, STORE_PASSWORD, Proxy, radclient

STORE = os.environ.get("JUDGES_STORE", "")
PROVIDER = """
[provider.totp]
seed_folders = ["seeds"]
[provider.totp.used_codes]
when_unavailable = "deny"
[provider.totp.used_codes.redis]
address = "127.0.0.1:PORT"
tls = false
password_file = "store-password"
"""

if not FREERADIUS or not STORE:
    pytest.skip("no radclient or no valkey-server or redis-server here, and they cannot be installed", allow_module_level=True)


def ready(process, log):
    assert process.poll() is None, log.read_text()
    return "Ready to accept connections" in log.read_text()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    port = free_port()
    log = open(tmp_path_factory.mktemp("store") / "log", "w+")
    command = [STORE, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--requirepass", STORE_PASSWORD]
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=os.path.dirname(log.name))
    try:
        until(lambda: ready(process, pathlib.Path(log.name)))
        yield port
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def proxies(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    running = [Proxy(folder / name, PROVIDER.replace("PORT", str(store))) for name in ("one", "two")]
    yield running
    for proxy in running:
        proxy.end()


def enrol(tmp_path, proxies, users, *options):
    """Has the program make keys, gives them to both proxies while they run, and to the test as lines."""
    with open(tmp_path / "users.csv", "w") as file:
        csv.writer(file).writerows([["user", "mail"], *([user, f"{user}@example.com"] for user in users)])
    command = [BINARY, "totp", "enrol", "--csv", tmp_path / "users.csv", "--issuer", "The judges", *options]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for proxy in proxies:
        (proxy.folder / "seeds" / f"{users[0]}.new").write_text(lines)
    # Live within seconds. Who has no key hears the same as who types a wrong code; the record tells them apart.
    for proxy, user in zip(proxies, users[-2:]):
        until(lambda proxy=proxy, user=user: is_known(proxy, user))
    return lines.splitlines()


def is_known(proxy, user):
    said(proxy, user, "00000000")
    return any(record["reason"] == "wrong_passcode" for record in proxy.records(user))


def said(proxy, user, text):
    return radclient(proxy.port, [f'User-Name = "{user}"', f'User-Password = "{text}"', "Message-Authenticator = 0x00"], source=PLAIN)


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
@pytest.mark.parametrize("digits", [6, 7, 8])
def test_a_code_of_pyotp_works_once_over_two_proxies(tmp_path, proxies, algorithm, digits):
    users = [f"{algorithm.lower()}-{digits}-{name}" for name in ("ann", "bea")]
    uris = enrol(tmp_path, proxies, users, "--algorithm", algorithm, "--digits", str(digits), "--period", "60")
    for user, uri in zip(users, uris):
        totp = pyotp.parse_uri(uri)
        assert (totp.name, totp.issuer, totp.digits, totp.interval) == (user, "The judges", digits, 60)
        code = totp.now()
        assert said(proxies[0], user, code).answer == "accept"
        for proxy in (proxies[1], proxies[0]):
            again = said(proxy, user, code)
            assert again.answer == "reject" and "used before" in again.text, again.text


def test_a_scratch_code_works_once_over_two_proxies(tmp_path, proxies):
    users = ["scratch-ann", "scratch-bea"]
    lines = enrol(tmp_path, proxies, users, "--scratch", "3")
    for user, line in zip(users, [line for line in lines if line.startswith("scratch:")]):
        codes = re.fullmatch(rf"scratch:{user}:(\d{{10}}),(\d{{10}}),(\d{{10}})", line).groups()
        for n, code in enumerate(codes):
            assert said(proxies[n % 2], user, code).answer == "accept"
            assert said(proxies[(n + 1) % 2], user, code).answer == "reject"
    (record,) = [r for r in proxies[0].records("scratch-ann") if r["result"] == "accept"][:1]
    assert record["basis"] == "scratch_code"
