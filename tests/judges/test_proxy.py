"""The proxy, judged by radclient, radtest and pyrad, alone, with FreeRADIUS in front of it and with FreeRADIUS behind it.

Everything that radclient accepts it has verified: it computes the Response Authenticator and the Message-Authenticator by itself, and takes an
answer that is wrong for none. py3mschap makes MS-CHAPv2 responses and checks what a Windows client checks of the success answer.
"""

import hashlib
import itertools
import os
import re
import secrets
import socket
import subprocess

import pyrad.client
import pytest
from py3mschap import U32, mschap
from pyrad import dictionary, packet

import freeradius
from conftest import until
from radius_proxy import DIRECTORY, OLD_SECRET, PLAIN, SECRET, STRICT, Proxy, Said, radclient, upstream

# The package is older than Python 3.10, which asks chr() for __index__ where it has __int__.
U32.U32.__index__ = U32.U32.__int__

METHODS = ["PAP", "CHAP", "MS-CHAPv1", "MS-CHAPv2"]
SIGNED = "Message-Authenticator = 0x00"

if not freeradius.FREERADIUS:
    pytest.skip("no FreeRADIUS here, and it cannot be installed", allow_module_level=True)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    running = Proxy(tmp_path_factory.mktemp("proxy") / "totp")
    yield running
    running.end()


# Addresses that have not signed yet: the default policy demands a signature of one that has.
FRESH = (f"127.0.1.{n}" for n in itertools.count(1))


class MsChapV2:
    """A client's side of RFC 2759, by py3mschap."""

    def __init__(self, user, text):
        self.user, self.text, self.identifier = user.rsplit("\\", 1)[-1], text, secrets.randbelow(256)
        self.challenge, self.peer = secrets.token_bytes(16), secrets.token_bytes(16)
        self.response = mschap.generate_nt_response_mschap2(self.challenge, self.peer, self.user, self.text)

    def lines(self):
        response = bytes([self.identifier, 0]) + self.peer + bytes(8) + self.response
        return [f"MS-CHAP-Challenge = 0x{self.challenge.hex()}", f"MS-CHAP2-Response = 0x{response.hex()}"]

    def believes(self, said):
        """Whether the success answer proves that the server knows the text (RFC 2759 section 8.8)."""
        success = bytes.fromhex(said.value("MS-CHAP2-Success").removeprefix("0x")).decode("latin1")
        assert ord(success[0]) == self.identifier
        # py3mschap writes identifier 1 before the text.
        return mschap.check_authenticator_response(self.text, self.response, self.peer, self.challenge, self.user, "\x01" + success[1:])


def password(method, user, text):
    """The attributes that carry a text, and what checks the success answer, where the method has one."""
    if method == "MS-CHAPv2":
        client = MsChapV2(user, text)
        return client.lines(), client.believes
    name = {"PAP": "User-Password", "CHAP": "CHAP-Password", "MS-CHAPv1": "MS-CHAP-Password"}[method]
    return [f'{name} = "{text}"'], None


def login(port, method, user, text, more=(SIGNED,), **how):
    lines, believes = password(method, user, text)
    escaped = user.replace("\\", "\\\\")
    said = radclient(port, [f'User-Name = "{escaped}"', *lines, *more], **how)
    if believes and said.answer == "accept":
        assert believes(said), said.text
    return said


def ms_chap_error(said):
    """MS-CHAP-Error without its first byte, the identifier."""
    value = said.value("MS-CHAP-Error").strip('"')
    return re.search(r"E=.*", value).group()


# The four methods


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("method", METHODS)
def test_radclient_believes_the_accept_and_the_reject_of_every_method(proxy, method, signed):
    user, source = proxy.user(), next(FRESH)
    more = [SIGNED] if signed else []
    wrong = login(proxy.port, method, user.name, user.wrong_code(), more, source=source)
    assert wrong.answer == "reject", wrong.text
    if method.startswith("MS-CHAP"):
        challenge, version = ("[0-9A-F]{32}", 3) if method.endswith("v2") else ("[0-9A-F]{16}", 2)
        assert re.fullmatch(rf"E=691 R=0 C={challenge} V={version}", ms_chap_error(wrong)), wrong.text
    right = login(proxy.port, method, user.name, user.code(), more, source=source)
    assert right.answer == "accept", right.text
    assert right.value("Filter-Id") == '"vpn"' and right.values("Class"), right.text
    for said in (wrong, right):
        assert said.values("Message-Authenticator"), said.text
    method = method.lower().replace("-", "")
    assert [(record["method"], record["result"], record["message_authenticator"]) for record in proxy.records(user.name, 2)] == [
        (method, "reject", signed),
        (method, "accept", signed),
    ]


@pytest.mark.parametrize("kind", ["pap", "chap", "mschap"])
def test_radtest_logs_in(proxy, kind):
    user = proxy.user()
    for text, answer in ((user.wrong_code(), "reject"), (user.code(), "accept")):
        command = ["radtest", "-t", kind, user.name, text, f"127.0.0.1:{proxy.port}", "7", SECRET, "0", "127.0.0.1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert Said(done.returncode, done.stdout + done.stderr).answer == answer, done.stdout


def test_a_code_is_good_for_one_login_whatever_the_method(proxy):
    user = proxy.user()
    code = user.code()
    assert login(proxy.port, "PAP", user.name, code).answer == "accept"
    for method in METHODS:
        assert login(proxy.port, method, user.name, code).answer == "reject"


@pytest.mark.parametrize("method", METHODS)
def test_a_domain_before_the_name_changes_nothing(proxy, method):
    user = proxy.user()
    said = login(proxy.port, method, f"CORP\\{user.name}", user.code())
    assert said.answer == "accept", said.text


def test_the_success_answer_is_bound_to_the_text(proxy):
    user = proxy.user()
    client = MsChapV2(user.name, user.code())
    said = radclient(proxy.port, [f'User-Name = "{user.name}"', SIGNED, *client.lines()])
    assert said.answer == "accept" and client.believes(said)
    client.text = user.wrong_code()
    assert not client.believes(said), "py3mschap checks in earnest"


def test_pyrad_verifies_every_answer(proxy):
    client = pyrad.client.Client(
        server="127.0.0.1", authport=proxy.port, secret=SECRET.encode(),
        dict=dictionary.Dictionary(os.path.join(os.path.dirname(__file__), "dictionary")),
    )
    client.timeout, client.retries = 5, 1
    user = proxy.user()
    wrong, right = user.wrong_code(), user.code()
    for method, text, code in (("PAP", wrong, packet.AccessReject), ("CHAP", wrong, packet.AccessReject), ("PAP", right, packet.AccessAccept)):
        request = client.CreateAuthPacket(User_Name=user.name, message_authenticator=True)
        if method == "PAP":
            request["User-Password"] = request.PwCrypt(text)
        else:
            request["CHAP-Password"] = chap(request, text)
        reply = client.SendPacket(request)
        assert reply.code == code
        assert reply.verify_message_authenticator(original_authenticator=request.authenticator)
        assert list(reply.keys())[0] == "Message-Authenticator"


def chap(request, text):
    request.authenticator = request.CreateAuthenticator()
    return b"\x07" + hashlib.md5(b"\x07" + text.encode() + request.authenticator).digest()


# What must fail


def test_a_wrong_secret_is_seen_on_both_sides(proxy):
    user = proxy.user()
    before = proxy.dropped("bad_message_authenticator")
    assert login(proxy.port, "PAP", user.name, user.code(), secret="another secret", timeout=1).answer == "none"
    until(lambda: proxy.dropped("bad_message_authenticator") > before)
    assert login(proxy.port, "PAP", user.name, user.code(), [], source=next(FRESH), secret="another secret", timeout=1).answer == "none"
    # CHAP holds no trace of the secret, so the proxy answers: then it is radclient that does not believe the answer.
    said = login(proxy.port, "CHAP", user.name, user.wrong_code(), [], source=next(FRESH), secret="another secret", timeout=1)
    assert said.answer == "none" and "Shared secret is incorrect" in said.text, said.text
    assert login(proxy.port, "PAP", user.name, user.code()).answer == "accept", "the code was not used up"


def test_the_old_secret_is_good_while_it_rotates(proxy):
    user = proxy.user()
    for method in METHODS:
        assert login(proxy.port, method, user.name, user.wrong_code(), secret=OLD_SECRET).answer == "reject"
    assert login(proxy.port, "MS-CHAPv2", user.name, user.code(), secret=OLD_SECRET).answer == "accept"


def padding(size=16):
    """Proxy-State as the collision of BlastRADIUS needs it: many, long, and the same in request and answer."""
    return [f"Proxy-State = 0x{secrets.token_hex(250)}" for _ in range(size)]


def test_a_forgery_in_the_shape_of_blast_radius_fails(proxy):
    user = proxy.user()
    before = proxy.dropped("unproven_proxy_state")
    # A directory sends no Proxy-State. The attacker adds it, which no signature forbids, and gets no answer to work on.
    said = login(proxy.port, "PAP", user.name, user.wrong_code(), padding(1), source=DIRECTORY, timeout=1)
    assert said.answer == "none", said.text
    # The same on its way from a client that did without it so far.
    source = next(FRESH)
    assert login(proxy.port, "PAP", user.name, user.wrong_code(), [], source=source).answer == "reject"
    assert login(proxy.port, "PAP", user.name, user.wrong_code(), padding(), source=source, timeout=1).answer == "none"
    until(lambda: proxy.dropped("unproven_proxy_state") >= before + 2)
    # One that has signed, and one that must.
    assert login(proxy.port, "PAP", user.name, user.wrong_code(), source=source).answer == "reject"
    before = proxy.dropped("no_message_authenticator")
    assert login(proxy.port, "PAP", user.name, user.wrong_code(), padding(), source=source, timeout=1).answer == "none"
    assert login(proxy.port, "PAP", user.name, user.wrong_code(), [], source=STRICT, timeout=1).answer == "none"
    until(lambda: proxy.dropped("no_message_authenticator") >= before + 2)


def test_an_old_proxy_without_signatures_gets_answers_that_cannot_be_turned(proxy):
    user = proxy.user()
    states = padding(3)
    said = login(proxy.port, "PAP", user.name, user.wrong_code(), states, source=next(FRESH))
    assert said.answer == "reject" and said.values("Message-Authenticator"), said.text
    assert [f"Proxy-State = {value}" for value in said.values("Proxy-State")] == states
    # The chosen prefix of the attack ends in front of the first attribute, and that one depends on the secret.
    first = re.search(r"Received Access-Reject.*\n\s+(\S+)", said.text).group(1)
    assert first == "Message-Authenticator", said.text


def test_a_server_behind_that_does_not_sign_is_not_believed(tmp_path):
    server = freeradius.server(tmp_path / "server", demand=False, signed=False)
    provider, secret = upstream(server.port, freeradius.SECRET)
    proxy = None
    try:
        server.wait()
        proxy = Proxy(tmp_path / "proxy", provider, secret)
        said = login(proxy.port, "PAP", "alice", "pass phrase é", timeout=9)
        assert "Sent Access-Accept" in server.said()
        assert said.answer == "reject", said.text
        assert proxy.records("alice")[0]["reason"] == "provider_malformed"
    finally:
        server.end()
        if proxy:
            proxy.end()


# Status-Server, IPv6, what may stand in a packet


def test_status_server_is_answered_when_it_is_signed(proxy):
    said = radclient(proxy.port, [SIGNED, "Proxy-State = 0x0102"], kind="status")
    assert said.answer == "accept" and said.value("Proxy-State") == "0x0102", said.text
    before = proxy.dropped("no_message_authenticator")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(bytes([packet.StatusServer, 1, 0, 20]) + secrets.token_bytes(16), ("127.0.0.1", proxy.port))
        until(lambda: proxy.dropped("no_message_authenticator") > before)


def test_clients_with_ipv6_are_served(tmp_path):
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    proxy = Proxy(tmp_path / "proxy", listen='"[::]:0"')
    try:
        user = proxy.user()
        said = login(proxy.port, "PAP", user.name, user.code(), source=None, host="[::1]", options=["-6"])
        assert said.answer == "accept", said.text
        assert proxy.records(user.name)[0]["source"].startswith("[::1]:")
        other = proxy.user()
        assert login(proxy.port, "CHAP", other.name, other.code()).answer == "accept", "the same socket takes IPv4"
        assert proxy.records(other.name)[0]["source"].startswith(PLAIN)
    finally:
        proxy.end()


def test_attributes_that_nobody_knows_are_passed_over(proxy):
    user = proxy.user()
    more = [SIGNED, "Attr-192 = 0x010203", "Attr-26 = 0x00bc614e0104aabb", "Frag-Status = Fragmentation-Supported", "Cisco-AVPair = \"a=b\"", *[f"Reply-Message = \"{'x' * 240}\"" for _ in range(14)]]
    said = login(proxy.port, "PAP", user.name, user.code(), more)
    assert said.answer == "accept", said.text
    assert int(re.search(r"Sent Access-Request .* length (\d+)", said.text).group(1)) > 3400


# FreeRADIUS as a proxy in front


@pytest.fixture(scope="module")
def front(tmp_path_factory, proxy):
    running = freeradius.front(tmp_path_factory.mktemp("front"), proxy.port, SECRET)
    try:
        running.wait()
        yield running
    finally:
        running.end()


def proxy_states(log, line):
    """By FreeRADIUS's number of the request: the Proxy-State below such a line of its log."""
    return dict(re.findall(rf"\((\d+)\) {line} .*\n(?:\(\d+\)  .*\n)*?\(\d+\) +Proxy-State = (0x[0-9a-f]+)", log))


@pytest.mark.parametrize("method", METHODS)
def test_freeradius_in_front_passes_every_method_on(front, proxy, method):
    user = proxy.user()
    for text, answer in ((user.wrong_code(), "reject"), (user.code(), "accept")):
        said = login(front.port, method, user.name, text, secret=freeradius.SECRET)
        assert said.answer == answer, (said.text, front.said())
    records = proxy.records(user.name, 2)
    assert [record["result"] for record in records] == ["reject", "accept"]
    # Every packet that FreeRADIUS passes on has a Proxy-State of its own, and the answer to it has the same.
    passed_on, answered = (proxy_states(front.said(), line) for line in ("Sent Access-Request", "Received Access-(?:Accept|Reject)"))
    assert len(passed_on) >= 2 and passed_on == answered, front.said()


def test_freeradius_in_front_asks_status_server_of_a_silent_proxy_and_goes_on(front, proxy):
    first, second, third = proxy.user(), proxy.user(), proxy.user()
    assert login(front.port, "PAP", first.name, first.code(), secret=freeradius.SECRET).answer == "accept"
    before = proxy.metric('radius_proxy_events_total{event="status_server"}')

    def asks():
        """FreeRADIUS doubts a server that was silent for longer than its response window."""
        login(front.port, "PAP", second.name, second.wrong_code(), secret=freeradius.SECRET, timeout=2)
        return "Sent Status-Server" in front.said()

    proxy.freeze()
    try:
        until(asks, 60)
    finally:
        proxy.thaw()
    until(lambda: "Received response to status check" in front.said(), 60)
    until(lambda: proxy.metric('radius_proxy_events_total{event="status_server"}') > before)
    until(lambda: login(front.port, "PAP", third.name, third.code(), secret=freeradius.SECRET).answer == "accept", 60)


# FreeRADIUS as the server behind


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """A proxy that asks a FreeRADIUS."""
    folder = tmp_path_factory.mktemp("behind")
    server = freeradius.server(folder / "server", demand=True)
    proxy = None
    try:
        server.wait()
        proxy = Proxy(folder / "proxy", *upstream(server.port, freeradius.SECRET))
        yield proxy
    finally:
        server.end()
        if proxy:
            proxy.end()


@pytest.mark.parametrize("method", METHODS)
def test_freeradius_behind_decides_every_method(behind, method):
    for text, answer, message in (("horse stable", "reject", "Go away"), ("horse staple", "accept", "Hello")):
        said = login(behind.port, method, "bob", text)
        assert said.answer == answer, said.text
        if answer == "accept" or not method.startswith("MS-CHAP"):
            assert said.value("Reply-Message") == f'"{message}"' or answer == "reject", said.text
    assert '"from-behind"' in said.values("Filter-Id"), said.text
