"""The domain controllers' RADIUS client, judged by a real FreeRADIUS and by pyrad; and the directory that listens to them."""

import pathlib
import socket
import threading

import boto3
import botocore.config
import pytest
from pyrad import dictionary, packet, server

from conftest import until
import freeradius as freeradius_server
from freeradius import FREERADIUS, SECRET, free_port

ID = "d-0123456789"
METHODS = ["PAP", "CHAP", "MS-CHAPv1", "MS-CHAPv2"]


@pytest.fixture(params=[False, True], ids=["tolerant", "demanding"])
def freeradius(request, tmp_path):
    if not FREERADIUS:
        pytest.skip("no FreeRADIUS here, and it cannot be installed")
    running = freeradius_server.server(tmp_path, request.param)
    running.demands = request.param
    try:
        running.wait()
        yield running
    finally:
        running.end()


@pytest.fixture
def controller(fleet):
    directory = fleet.directory()
    directory.put(f"/directories/{ID}", {"type": "MicrosoftAD"})
    controller = fleet.controller(directory, ID, "127.0.0.21")
    controller.directory = directory
    return controller


def login(controller, port, username="alice", password="pass phrase é", **more):
    request = {"username": username, "password": password, "servers": ["127.0.0.1"], "port": port, "shared_secret": SECRET, "timeout_s": 2, "retries": 0}
    return controller.post("/login", {**request, **more})


@pytest.mark.parametrize("authenticator", ["none", "send", "send-and-require"])
@pytest.mark.parametrize("method", METHODS)
def test_freeradius_accepts_and_rejects_each_method(freeradius, controller, method, authenticator):
    speak = {"protocol": method, "radius_client": {"message_authenticator": authenticator}}
    right = login(controller, freeradius.port, **speak)
    if authenticator == "none" and freeradius.demands:
        assert right["outcome"] == "timeout", "FreeRADIUS drops what lacks a Message-Authenticator"
        return
    assert right["outcome"] == "accept", (right, freeradius.said())
    assert right["reply_message"] == "Welcome"
    assert right["message_authenticator"] == "verified"
    wrong = login(controller, freeradius.port, password="another", **speak)
    assert wrong["outcome"] == "reject", wrong
    if method.startswith("MS-CHAP"):
        assert wrong["ms_chap_error"].startswith("E=691"), wrong
    nobody = login(controller, freeradius.port, username="nobody", **speak)
    assert (nobody["outcome"], nobody["reply_message"]) == ("reject", "Go away")


def test_ms_chap_v2_leaves_the_domain_out_of_its_hash(freeradius, controller):
    speak = {"protocol": "MS-CHAPv2", "radius_client": {"message_authenticator": "send"}}
    # Known under its name without the domain only: rejected as a user, not as a broken response.
    assert login(controller, freeradius.port, username="CORP\\alice", **speak)["outcome"] == "reject"


def test_a_wrong_secret_is_never_an_accept(freeradius, controller):
    result = login(controller, freeradius.port, shared_secret="another secret", radius_client={"message_authenticator": "send"})
    assert result["outcome"] == "timeout"


# Against a server that does as it is told


class Scripted(server.Server):
    """Answers, is silent or lies, by what it is told."""

    def __init__(self, address, port=0, code=packet.AccessAccept, secret=SECRET, silent=0, message="hello", authenticated=True):
        here = pathlib.Path(__file__).resolve().parent
        super().__init__(addresses=[], dict=dictionary.Dictionary(str(here / "dictionary")))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.socket.settimeout(0.1)
        self.address, self.port = self.socket.getsockname()
        self.code, self.secret, self.silent, self.message = code, secret.encode(), silent, message
        self.authenticated, self.got, self.running = authenticated, [], True
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while self.running:
            try:
                data, source = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            request = packet.AuthPacket(packet=data, dict=self.dict, secret=self.secret)
            self.got.append((data, source, request))
            if self.silent > 0:
                self.silent -= 1
                continue
            reply = request.CreateReply(**({} if self.authenticated else {"message_authenticator": False}))
            reply.code = self.code
            reply["Reply-Message"] = self.message
            self.socket.sendto(reply.ReplyPacket(), source)

    def end(self):
        self.running = False
        self.thread.join()
        self.socket.close()


@pytest.fixture
def scripted():
    started = []

    def start(address="127.0.0.1", **more):
        started.append(Scripted(address, **more))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_pyrad_reads_what_is_sent(controller, scripted):
    judge = scripted()
    speak = {"nas_identifier": "dc-1", "calling_station_id": "192.0.2.7", "proxy_state": "0a0b", "message_authenticator": "send"}
    result = login(controller, judge.port, radius_client=speak, password="päss")
    assert (result["outcome"], result["reply_message"], result["message_authenticator"]) == ("accept", "hello", "verified")
    _, source, request = judge.got[0]
    assert source[0] == "127.0.0.21", "it leaves from the controller's own address"
    assert request["User-Name"] == ["alice"]
    assert request.PwDecrypt(request["User-Password"][0]) == "päss"
    assert request["NAS-IP-Address"] == ["127.0.0.21"]
    assert request["NAS-Identifier"] == ["dc-1"] and request["Calling-Station-Id"] == ["192.0.2.7"]
    assert request["Proxy-State"] == [b"\x0a\x0b"]
    assert request.verify_message_authenticator()


@pytest.mark.parametrize("password", ["", "x" * 16, "x" * 17, "x" * 128])
def test_passwords_of_every_length_arrive(controller, scripted, password):
    judge = scripted()
    assert login(controller, judge.port, password=password)["outcome"] == "accept"
    request = judge.got[0][2]
    assert request.PwDecrypt(request["User-Password"][0]) == password


def test_a_lie_is_told_apart(controller, scripted):
    liar = scripted(secret="another secret")
    result = login(controller, liar.port)
    assert result["outcome"] == "timeout"
    assert [(one["kind"], one.get("why")) for one in result["packets"]] == [("request", None), ("bad-answer", "wrong Response Authenticator")]


def test_an_answer_without_message_authenticator_can_be_refused(controller, scripted):
    judge = scripted(authenticated=False)
    assert login(controller, judge.port, radius_client={"message_authenticator": "send"})["message_authenticator"] == "absent"
    result = login(controller, judge.port, radius_client={"message_authenticator": "send-and-require"})
    assert result["outcome"] == "timeout" and result["packets"][1]["why"] == "no Message-Authenticator"


def test_a_challenge_is_no_accept(controller, scripted):
    assert login(controller, scripted(code=packet.AccessChallenge).port)["outcome"] == "challenge"


@pytest.mark.parametrize(
    "kind, same_bytes, same_port", [("same", True, True), ("new-id", False, True), ("new-port", False, False)]
)
def test_retransmissions_are_what_is_set(controller, scripted, kind, same_bytes, same_port):
    judge = scripted(silent=1)
    result = login(controller, judge.port, timeout_s=0.3, retries=2, radius_client={"retransmission": kind})
    assert result["outcome"] == "accept" and result["attempts"] == 2
    (first, source1, request1), (second, source2, request2) = judge.got
    assert (first == second) == same_bytes and (source1 == source2) == same_port
    assert (request1.id == request2.id) == same_bytes or not same_port
    assert [one["kind"] for one in result["packets"]] == ["request", "retransmission", "answer"]


@pytest.mark.parametrize("failover, asked", [("per-attempt", 1), ("after-retries", 2)])
def test_fail_over_is_what_is_set(controller, scripted, failover, asked):
    port = free_port()
    dead = scripted("127.0.0.1", port=port, silent=1000)
    alive = scripted("127.0.0.2", port=port)
    result = login(controller, port, servers=["127.0.0.1", "127.0.0.2"], timeout_s=0.3, retries=1, radius_client={"failover": failover})
    assert result["outcome"] == "accept" and result["server"] == "127.0.0.2" and result["failed_over"]
    assert len(dead.got) == asked and len(alive.got) == 1


def test_a_refused_port_is_told_and_waited_out(controller):
    result = login(controller, free_port(), timeout_s=0.2, retries=1)
    assert result["outcome"] == "timeout"
    assert "refused" in [one["kind"] for one in result["packets"]]


def test_server_order_is_what_is_set(controller, scripted):
    port = free_port()
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        scripted(address, port=port)
    servers = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

    def answered(order, times):
        return {login(controller, port, servers=servers, radius_client={"server_order": order})["server"] for _ in range(times)}

    assert answered("first", 3) == {"127.0.0.1"}
    assert answered("round-robin", 3) == set(servers)
    assert answered("random", 40) == set(servers)


# The whole: directory, controllers, servers


def enable(directory, servers, port, operation="enable_radius", **more):
    client = boto3.client("ds", endpoint_url=directory.url, region_name="eu-central-1", aws_access_key_id="simulator", aws_secret_access_key="simulator",
                          config=botocore.config.Config(retries={"total_max_attempts": 1}))
    settings = {"RadiusServers": servers, "RadiusPort": port, "RadiusTimeout": 1, "RadiusRetries": 0, "SharedSecret": SECRET,
                "AuthenticationProtocol": "PAP", "DisplayLabel": "MFA", "UseSameUsername": True, **more}
    getattr(client, operation)(DirectoryId=ID, RadiusSettings=settings)


def radius(directory):
    return directory.get(f"/directories/{ID}")["radius"]["eu-central-1"]


def test_settings_are_completed_when_every_controller_reaches_every_server(fleet, controller, scripted):
    second = fleet.controller(controller.directory, ID, "127.0.0.22")
    port = free_port()
    judges = [scripted(address, port=port, code=packet.AccessReject) for address in ("127.0.0.1", "127.0.0.2")]
    enable(controller.directory, ["127.0.0.1", "127.0.0.2"], port)
    until(lambda: radius(controller.directory)["status"] == "Completed")
    assert {(len(judge.got), *sorted(source[0] for _, source, _ in judge.got)) for judge in judges} == {(2, "127.0.0.21", "127.0.0.22")}
    assert {request["User-Name"][0] for judge in judges for _, _, request in judge.got} == {"fakeusername"}
    until(lambda: second.get("/state")["status"] == "Completed")
    assert second.post("/login", {"username": "alice", "password": "push"})["outcome"] == "reject"


@pytest.mark.parametrize("why", ["dead", "secret"])
def test_settings_fail_when_one_server_does_not_answer_or_knows_another_secret(controller, scripted, why):
    port = free_port()
    scripted("127.0.0.1", port=port)
    if why == "secret":
        scripted("127.0.0.2", port=port, secret="another secret")
    enable(controller.directory, ["127.0.0.1", "127.0.0.2"], port)
    until(lambda: radius(controller.directory)["status"] == "Failed")
    (report,) = radius(controller.directory)["probe"]
    assert [one["outcome"] for one in report["servers"]] == ["accept", "timeout"]


def test_one_server_is_enough_when_so_set(controller, scripted):
    controller.directory.put("/settings", {"probe": {"servers": "any"}})
    port = free_port()
    scripted("127.0.0.1", port=port)
    enable(controller.directory, ["127.0.0.1", "127.0.0.2"], port)
    until(lambda: radius(controller.directory)["status"] == "Completed")


def test_logins_while_settings_change_would_have_been_refused(controller, scripted):
    judge = scripted()
    controller.directory.put("/settings", {"probe": {"min_creating_ms": 1000}})
    enable(controller.directory, ["127.0.0.1"], judge.port)
    until(lambda: controller.get("/state")["status"] == "Creating")
    assert controller.post("/login", {"username": "alice", "password": "push"})["aws_would_refuse"]
    until(lambda: controller.get("/state")["status"] == "Completed")
    assert not controller.post("/login", {"username": "alice", "password": "push"})["aws_would_refuse"]


def test_old_settings_can_serve_until_the_new_ones_are_completed(controller, scripted):
    port = free_port()
    old, new = scripted("127.0.0.1", port=port), scripted("127.0.0.2", port=port)
    enable(controller.directory, ["127.0.0.1"], port)
    until(lambda: controller.get("/state")["status"] == "Completed")
    controller.directory.put("/settings", {"probe": {"mode": "stuck"}, "radius_client": {"settings_while_changing": "old"}})
    enable(controller.directory, ["127.0.0.2"], port, operation="update_radius")
    until(lambda: controller.get("/state")["status"] == "Creating")
    assert controller.post("/login", {"username": "alice", "password": "push"})["server"] == old.address
    controller.directory.put("/settings", {"radius_client": {"settings_while_changing": "new"}})
    until(lambda: controller.post("/login", {"username": "alice", "password": "push"})["server"] == new.address)


def test_logins_by_the_clock_report_fail_overs_and_no_failure(controller, scripted):
    port = free_port()
    first, second = scripted("127.0.0.1", port=port), scripted("127.0.0.2", port=port)
    enable(controller.directory, ["127.0.0.1", "127.0.0.2"], port, RadiusRetries=1)
    until(lambda: controller.get("/state")["status"] == "Completed")
    asked = {"usernames": ["alice", "bob"], "password": "push", "every_ms": 50, "count": 30, "timeout_s": 0.3}
    run = controller.post("/logins", asked)["id"]
    until(lambda: controller.get(f"/logins/{run}")["accepted"] >= 10)
    first.silent = 100_000
    report = until(lambda: (lambda report: report if not report["running"] else None)(controller.get(f"/logins/{run}")))
    assert (report["tried"], report["accepted"], report["failed"], report["rejected"]) == (30, 30, 0, 0)
    assert report["failed_over"] == len(report["fail_overs"]) > 0
    assert report["fail_overs"][0]["from"] == ["127.0.0.1"] and report["fail_overs"][0]["to"] == "127.0.0.2"
    assert report["slowest_ms"] >= 300 and report["per_server"]["127.0.0.2"]["accepts"] == report["failed_over"]
    assert {request["User-Name"][0] for _, _, request in second.got} >= {"alice", "bob"}


def test_a_run_can_be_stopped_and_must_be_bounded(controller, scripted):
    from conftest import Refused

    judge = scripted()
    base = {"username": "alice", "password": "x", "servers": ["127.0.0.1"], "port": judge.port, "shared_secret": SECRET}
    with pytest.raises(Refused):
        controller.post("/logins", {**base, "every_ms": 10})
    run = controller.post("/logins", {**base, "every_ms": 10, "for_ms": 3_600_000})["id"]
    until(lambda: controller.get(f"/logins/{run}")["accepted"] > 3)
    controller.delete(f"/logins/{run}")
    until(lambda: not controller.get(f"/logins/{run}")["running"])


def test_addresses_appear_move_and_go_silent(fleet, controller):
    directory = controller.directory
    directory.put("/settings", {"controller_lost_after_ms": 1500})
    seen = lambda: {one["name"]: (one["addresses"], one["status"]) for one in directory.get(f"/directories/{ID}")["controllers"]}
    assert seen() == {"127.0.0.21": (["127.0.0.21"], "Active")}
    moved = fleet.controller(directory, ID, "127.0.0.30", "--name", "dc-2")
    assert moved.stop() == 0
    fleet.controller(directory, ID, "127.0.0.31", "--name", "dc-2")
    assert seen()["dc-2"] == (["127.0.0.31"], "Active")
    controller.kill()
    until(lambda: seen()["127.0.0.21"][1] == "Impaired")
    directory.delete(f"/directories/{ID}/controllers/127.0.0.21")
    assert set(seen()) == {"dc-2"}


def test_a_connector_shows_its_controllers_as_connect_ips(fleet):
    directory = fleet.directory()
    directory.put(f"/directories/{ID}", {"type": "ADConnector"})
    fleet.controller(directory, ID, "127.0.0.41")
    client = boto3.client("ds", endpoint_url=directory.url, region_name="eu-central-1", aws_access_key_id="simulator", aws_secret_access_key="simulator")
    shown = client.describe_directories(DirectoryIds=[ID])["DirectoryDescriptions"][0]
    assert shown["ConnectSettings"]["ConnectIps"] == ["127.0.0.41"] and shown["DnsIpAddrs"] == ["10.0.0.2"]


def test_a_directory_that_restarts_is_found_again(fleet, tmp_path, scripted):
    judge = scripted()
    state = tmp_path / "state.json"
    first = fleet.directory("--state", state)
    first.put(f"/directories/{ID}", {"type": "MicrosoftAD"})
    controller = fleet.controller(first, ID, "127.0.0.21")
    first.put("/settings", {"probe": {"mode": "stuck"}})
    enable(first, ["127.0.0.1"], judge.port)
    first.kill()
    until(lambda: not controller.get("/state")["registered"])
    second = fleet.start("directory", "--listen", "127.0.0.1:0", "--admin", first.admin_address, "--state", state)
    until(lambda: radius(second)["status"] == "Completed")
    until(lambda: controller.get("/state")["status"] == "Completed")


def test_an_address_that_is_not_ours_is_said(fleet):
    with pytest.raises(RuntimeError, match="192.0.2.1"):
        fleet.start("controller", "--directory-url", "http://127.0.0.1:1", "--directory-id", ID, "--advertise-ip", "192.0.2.1", "--admin", "127.0.0.1:0")
