"""AWS Directory Service, judged by boto3 and awscli."""

import datetime
import os
import subprocess
import sys

import boto3
import botocore.auth
import botocore.config
import pytest
from botocore.exceptions import ClientError

from conftest import until

ID = "d-0123456789"
SETTINGS = {
    "RadiusServers": ["10.0.0.1", "10.0.0.2"],
    "RadiusPort": 1812,
    "RadiusTimeout": 20,
    "RadiusRetries": 4,
    "SharedSecret": "correct horse battery",
    "AuthenticationProtocol": "PAP",
    "DisplayLabel": "MFA",
    "UseSameUsername": True,
}


def client(simulator, service="ds", region="eu-central-1", key="simulator", secret="simulator", token=None, **config):
    config.setdefault("retries", {"total_max_attempts": 1})
    return boto3.client(
        service, endpoint_url=simulator.url, region_name=region, aws_access_key_id=key, aws_secret_access_key=secret,
        aws_session_token=token, config=botocore.config.Config(**config),
    )


@pytest.fixture
def sim(shared_fleet, _shared={}):
    """One simulator for the module, fresh for each test."""
    if shared_fleet not in _shared:
        _shared[shared_fleet] = shared_fleet.directory()
    simulator = _shared[shared_fleet]
    simulator.post("/reset")
    for known in simulator.get("/directories")["directories"]:
        simulator.delete(f"/directories/{known}")
    simulator.put("/settings", {"probe": {"min_creating_ms": 0}})
    simulator.put(f"/directories/{ID}", {"type": "MicrosoftAD", "static_controllers": [
        {"address": "10.0.0.11"}, {"address": "10.0.0.12"}, {"address": "10.0.0.13"}]})
    simulator.client = client(simulator)
    return simulator


def refused(call, *arguments, **parameters):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **parameters)
    error = caught.value.response
    assert error["ResponseMetadata"]["RequestId"], "every error has a request id"
    return error["Error"]["Code"]


def described(simulator, directory=ID):
    return simulator.client.describe_directories(DirectoryIds=[directory])["DirectoryDescriptions"][0]


def wait_for(simulator, status, directory=ID):
    until(lambda: described(simulator, directory).get("RadiusStatus") == status)


# Enable, update, disable


def test_radius_is_enabled_updated_and_disabled(sim):
    assert "RadiusStatus" not in described(sim)
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    wait_for(sim, "Completed")
    shown = described(sim)["RadiusSettings"]
    assert shown == {**SETTINGS, "SharedSecret": "********"}
    sim.client.update_radius(DirectoryId=ID, RadiusSettings={**SETTINGS, "RadiusServers": ["10.0.0.9"]})
    wait_for(sim, "Completed")
    assert described(sim)["RadiusSettings"]["RadiusServers"] == ["10.0.0.9"]
    sim.client.disable_radius(DirectoryId=ID)
    assert "RadiusStatus" not in described(sim) and "RadiusSettings" not in described(sim)


def test_update_replaces_all_settings(sim):
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    fewer = {name: SETTINGS[name] for name in ("RadiusServers", "RadiusPort", "SharedSecret", "AuthenticationProtocol")}
    sim.client.update_radius(DirectoryId=ID, RadiusSettings=fewer)
    assert "DisplayLabel" not in described(sim)["RadiusSettings"]


def test_empty_answers_are_empty_or_braces(sim):
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    sim.put("/settings", {"empty_answer": "braces"})
    sim.client.update_radius(DirectoryId=ID, RadiusSettings=SETTINGS)


def test_ipv6_servers_are_kept_apart(sim):
    settings = {**SETTINGS, "RadiusServersIpv6": ["2001:db8::1"]}
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=settings)
    assert described(sim)["RadiusSettings"]["RadiusServersIpv6"] == ["2001:db8::1"]


def test_enabling_twice_exists_already(sim):
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    assert refused(sim.client.enable_radius, DirectoryId=ID, RadiusSettings=SETTINGS) == "EntityAlreadyExistsException"
    wait_for(sim, "Completed")
    assert refused(sim.client.enable_radius, DirectoryId=ID, RadiusSettings=SETTINGS) == "EntityAlreadyExistsException"
    sim.put(f"/directories/{ID}/status", {"status": "Failed"})
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)


@pytest.mark.parametrize("error", ["EntityDoesNotExistException", "ClientException", "InvalidParameterException"])
def test_updating_without_radius_is_whatever_is_set(sim, error):
    sim.put("/settings", {"update_without_radius": error})
    assert refused(sim.client.update_radius, DirectoryId=ID, RadiusSettings=SETTINGS) == error


def test_updating_without_radius_can_be_accepted(sim):
    sim.put("/settings", {"update_without_radius": "accept"})
    sim.client.update_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    assert described(sim)["RadiusStatus"]


def test_disabling_without_radius_is_whatever_is_set(sim):
    sim.client.disable_radius(DirectoryId=ID)
    sim.put("/settings", {"disable_without_radius": "EntityDoesNotExistException"})
    assert refused(sim.client.disable_radius, DirectoryId=ID) == "EntityDoesNotExistException"


@pytest.mark.parametrize("shown", ["omitted", "masked", "plain"])
def test_the_secret_is_shown_as_set(sim, shown):
    sim.put("/settings", {"describe_shared_secret": shown})
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    secret = described(sim)["RadiusSettings"].get("SharedSecret")
    assert secret == {"omitted": None, "masked": "********", "plain": SETTINGS["SharedSecret"]}[shown]


@pytest.mark.parametrize(
    "change",
    [
        {"RadiusPort": 65536},
        {"RadiusTimeout": 51},
        {"RadiusRetries": 11},
        {"SharedSecret": "x" * 513},
        {"SharedSecret": "tab\tin the secret"},
        {"DisplayLabel": "x" * 65},
        {"RadiusServers": ["x" * 257]},
        {"RadiusServersIpv6": ["x" * 257]},
        {"AuthenticationProtocol": "EAP"},
    ],
    ids=lambda change: "/".join(change),
)
def test_what_the_client_lets_through_the_service_refuses(sim, change):
    assert refused(sim.client.enable_radius, DirectoryId=ID, RadiusSettings={**SETTINGS, **change}) == "ValidationException"
    assert "RadiusStatus" not in described(sim)


@pytest.mark.parametrize(
    "change",
    [{"RadiusPort": 1024}, {"RadiusTimeout": 0}, {"RadiusRetries": -1}, {"SharedSecret": "short"}, {"DisplayLabel": ""}, {"RadiusServers": [""]}],
    ids=lambda change: "/".join(change),
)
def test_what_the_client_would_not_send_the_service_refuses_too(sim, change):
    unchecked = client(sim, parameter_validation=False)
    assert refused(unchecked.enable_radius, DirectoryId=ID, RadiusSettings={**SETTINGS, **change}) == "ValidationException"


@pytest.mark.parametrize("missing", ["RadiusServers", "RadiusPort", "SharedSecret", "AuthenticationProtocol"])
def test_settings_that_cannot_work_are_invalid(sim, missing):
    settings = {name: value for name, value in SETTINGS.items() if name != missing}
    assert refused(sim.client.enable_radius, DirectoryId=ID, RadiusSettings=settings) == "InvalidParameterException"


def test_every_boundary_value_is_accepted(sim):
    for change in (
        {"RadiusPort": 1025, "RadiusTimeout": 1, "RadiusRetries": 0, "SharedSecret": "x" * 8, "DisplayLabel": "x"},
        {"RadiusPort": 65535, "RadiusTimeout": 50, "RadiusRetries": 10, "SharedSecret": "x" * 512, "DisplayLabel": "x" * 64},
    ):
        sim.client.enable_radius(DirectoryId=ID, RadiusSettings={**SETTINGS, **change})
        sim.client.disable_radius(DirectoryId=ID)


def test_directories_that_have_no_radius_refuse_it(sim):
    sim.put("/directories/d-1111111111", {"type": "SimpleAD"})
    sim.put("/directories/d-2222222222", {"type": "SharedMicrosoftAD", "owner_account": "210987654321", "owner_directory_id": ID})
    sim.put("/directories/d-3333333333", {"type": "MicrosoftAD", "stage": "Creating"})
    for directory in ("d-1111111111", "d-2222222222", "d-3333333333"):
        assert refused(sim.client.enable_radius, DirectoryId=directory, RadiusSettings=SETTINGS) == "ClientException"
        assert refused(sim.client.disable_radius, DirectoryId=directory) == "ClientException"


def test_an_unknown_or_malformed_directory_is_refused(sim):
    for call, more in (
        (sim.client.enable_radius, {"RadiusSettings": SETTINGS}),
        (sim.client.update_radius, {"RadiusSettings": SETTINGS}),
        (sim.client.disable_radius, {}),
        (sim.client.describe_domain_controllers, {}),
    ):
        assert refused(call, DirectoryId="d-ffffffffff", **more) == "EntityDoesNotExistException"
        assert refused(call, DirectoryId="d-XYZ", **more) == "ValidationException"


# States


def test_creating_lasts_and_is_counted(sim):
    sim.put("/settings", {"probe": {"min_creating_ms": 300}})
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    assert described(sim)["RadiusStatus"] == "Creating"
    assert sim.get(f"/directories/{ID}")["changing"]["now"]
    wait_for(sim, "Completed")
    (interval,) = sim.get(f"/directories/{ID}")["changing"]["intervals"]
    assert interval["ms"] >= 300 and interval["result"] == "Completed" and interval["operation"] == "EnableRadius"


@pytest.mark.parametrize("mode, status", [("complete", "Completed"), ("stuck", "Creating"), ("fail", "Failed")])
def test_the_outcome_can_be_set(sim, mode, status):
    sim.put("/settings", {"probe": {"mode": mode}})
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    wait_for(sim, status)


def test_a_foreign_hand_changes_settings(sim):
    sim.put(f"/directories/{ID}/radius", {"settings": {"radius_servers": ["192.0.2.1"], "radius_port": 1645, "shared_secret": "foreign secret"}})
    assert described(sim)["RadiusSettings"]["RadiusServers"] == ["192.0.2.1"]
    assert described(sim)["RadiusStatus"] == "Completed"
    sim.delete(f"/directories/{ID}/radius")
    assert "RadiusStatus" not in described(sim)
    assert [entry["caller"] for entry in sim.get("/journal")["entries"]] == ["admin", "admin"]


# Describe


def test_each_type_shows_where_its_requests_come_from(sim):
    assert described(sim)["DnsIpAddrs"] == ["10.0.0.11", "10.0.0.12"], "the first two"
    fixed = [{"address": "10.0.1.1", "address6": "2001:db8::1"}]
    sim.put("/directories/d-1111111111", {"type": "ADConnector", "static_controllers": fixed, "customer_dns_ips": ["192.0.2.53"]})
    connector = described(sim, "d-1111111111")
    assert connector["ConnectSettings"]["ConnectIps"] == ["10.0.1.1"]
    assert connector["DnsIpAddrs"] == ["192.0.2.53"]
    sim.put("/directories/d-2222222222", {"type": "MicrosoftAD", "network_type": "Dual-stack", "static_controllers": fixed})
    dual = described(sim, "d-2222222222")
    assert (dual["DnsIpAddrs"], dual["DnsIpv6Addrs"], dual["NetworkType"]) == (["10.0.1.1"], ["2001:db8::1"], "Dual-stack")
    sim.put("/directories/d-4444444444", {"type": "MicrosoftAD", "network_type": "IPv6", "static_controllers": [{"address": "2001:db8::1"}]})
    assert "DnsIpAddrs" not in described(sim, "d-4444444444")


def test_a_shared_directory_shows_its_owner(sim):
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    sim.put("/directories/d-3333333333", {"type": "SharedMicrosoftAD", "owner_account": "210987654321", "owner_directory_id": ID})
    owner = described(sim, "d-3333333333")["OwnerDirectoryDescription"]
    assert owner["AccountId"] == "210987654321" and owner["DirectoryId"] == ID
    assert owner["RadiusStatus"] and owner["DnsIpAddrs"] == ["10.0.0.11", "10.0.0.12"]


def test_directories_come_in_pages(sim):
    for number in range(25):
        sim.put(f"/directories/d-{number:010x}", {})
    pages = list(sim.client.get_paginator("describe_directories").paginate(PaginationConfig={"PageSize": 10}))
    assert [len(page["DirectoryDescriptions"]) for page in pages] == [10, 10, 6]
    everything = [one["DirectoryId"] for page in pages for one in page["DirectoryDescriptions"]]
    assert len(set(everything)) == 26
    sim.put("/settings", {"page_size": 7})
    assert len(sim.client.describe_directories()["DirectoryDescriptions"]) == 7


def test_wrong_pages_and_empty_lists_are_refused(sim):
    assert refused(sim.client.describe_directories, NextToken="rubbish") == "InvalidNextTokenException"
    assert refused(sim.client.describe_directories, DirectoryIds=[]) == "InvalidParameterException"
    assert refused(sim.client.describe_directories, DirectoryIds=["d-ffffffffff"]) == "EntityDoesNotExistException"
    unchecked = client(sim, parameter_validation=False)
    assert refused(unchecked.describe_directories, Limit=-1) == "ValidationException"


def test_domain_controllers_are_described_in_pages(sim):
    pages = list(sim.client.get_paginator("describe_domain_controllers").paginate(DirectoryId=ID, PaginationConfig={"PageSize": 2}))
    controllers = [one for page in pages for one in page["DomainControllers"]]
    assert {one["DnsIpAddr"] for one in controllers} == {"10.0.0.11", "10.0.0.12", "10.0.0.13"}
    assert all(one["Status"] == "Active" for one in controllers)
    one = controllers[0]["DomainControllerId"]
    only = sim.client.describe_domain_controllers(DirectoryId=ID, DomainControllerIds=[one])["DomainControllers"]
    assert [found["DomainControllerId"] for found in only] == [one]
    unknown = {"DirectoryId": ID, "DomainControllerIds": ["dc-ffffffffff"]}
    assert refused(sim.client.describe_domain_controllers, **unknown) == "EntityDoesNotExistException"
    assert refused(sim.client.describe_domain_controllers, DirectoryId=ID, NextToken="x") == "InvalidNextTokenException"


def test_a_connector_has_no_domain_controllers(sim):
    sim.put("/directories/d-1111111111", {"type": "ADConnector"})
    call = sim.client.describe_domain_controllers
    assert refused(call, DirectoryId="d-1111111111") == "UnsupportedOperationException"
    sim.put("/settings", {"domain_controllers_of_connector": "accept"})
    assert call(DirectoryId="d-1111111111")["DomainControllers"] == []


def test_regions_have_radius_settings_of_their_own(sim):
    sim.put(f"/directories/{ID}", {"region": "eu-central-1", "additional_regions": ["us-east-1"]})
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    east = client(sim, region="us-east-1")
    there = east.describe_directories(DirectoryIds=[ID])["DirectoryDescriptions"][0]
    assert "RadiusStatus" not in there
    assert there["RegionsInfo"] == {"PrimaryRegion": "eu-central-1", "AdditionalRegions": ["us-east-1"]}
    regions = sim.client.describe_regions(DirectoryId=ID)["RegionsDescription"]
    assert [(one["RegionName"], one["RegionType"]) for one in regions] == [("eu-central-1", "Primary"), ("us-east-1", "Additional")]
    assert len(sim.client.describe_regions(DirectoryId=ID, RegionName="us-east-1")["RegionsDescription"]) == 1
    elsewhere = client(sim, region="ap-south-1")
    assert refused(elsewhere.describe_directories, DirectoryIds=[ID]) == "EntityDoesNotExistException"
    assert refused(sim.client.describe_regions, DirectoryId="d-ffffffffff") == "DirectoryDoesNotExistException"
    assert refused(sim.client.describe_regions, DirectoryId=ID, NextToken="x") == "InvalidNextTokenException"
    sim.put("/directories/d-1111111111", {"type": "ADConnector"})
    assert refused(sim.client.describe_regions, DirectoryId="d-1111111111") == "UnsupportedOperationException"


# Tags


def test_tags_are_added_listed_in_pages_and_removed(sim):
    tags = [{"Key": f"key-{number:02}", "Value": f"value {number}"} for number in range(50)]
    sim.client.add_tags_to_resource(ResourceId=ID, Tags=tags)
    pages = list(sim.client.get_paginator("list_tags_for_resource").paginate(ResourceId=ID, PaginationConfig={"PageSize": 20}))
    assert [tag for page in pages for tag in page["Tags"]] == tags
    sim.client.add_tags_to_resource(ResourceId=ID, Tags=[{"Key": "key-00", "Value": ""}])
    one_more = [{"Key": "one-more", "Value": ""}]
    assert refused(sim.client.add_tags_to_resource, ResourceId=ID, Tags=one_more) == "TagLimitExceededException"
    sim.client.remove_tags_from_resource(ResourceId=ID, TagKeys=["key-00", "never-there"])
    assert len(sim.client.list_tags_for_resource(ResourceId=ID)["Tags"]) == 49


@pytest.mark.parametrize(
    "key, value, error",
    [
        ("k" * 129, "", "ValidationException"),
        ("key", "v" * 257, "ValidationException"),
        ("key!", "", "ValidationException"),
        ("aws:reserved", "", "InvalidParameterException"),
    ],
)
def test_wrong_tags_are_refused(sim, key, value, error):
    tags = [{"Key": key, "Value": value}]
    assert refused(sim.client.add_tags_to_resource, ResourceId=ID, Tags=tags) == error


def test_tags_of_nobody_are_refused(sim):
    assert refused(sim.client.list_tags_for_resource, ResourceId="d-ffffffffff") == "EntityDoesNotExistException"
    assert refused(sim.client.list_tags_for_resource, ResourceId="nobody") == "ValidationException"
    assert refused(sim.client.list_tags_for_resource, ResourceId=ID, NextToken="x") == "InvalidNextTokenException"
    assert refused(sim.client.remove_tags_from_resource, ResourceId="d-ffffffffff", TagKeys=["a"]) == "EntityDoesNotExistException"


# Who may ask


def test_wrong_credentials_are_refused(sim):
    assert refused(client(sim, key="nobody").describe_directories) == "UnrecognizedClientException"
    assert refused(client(sim, secret="wrong").describe_directories) == "InvalidSignatureException"
    assert refused(client(sim, token="unknown").describe_directories) == "UnrecognizedClientException"


def test_session_tokens_expiry_and_policies_hold(sim):
    sim.put("/credentials/ASIATEMPORARY", {"secret_access_key": "s", "session_token": "token"})
    sim.put("/credentials/AKIAEXPIRED", {"secret_access_key": "s", "expires_at": "2020-01-01T00:00:00Z"})
    sim.put("/credentials/AKIAREADER", {"secret_access_key": "s", "allow": ["ds:Describe*", "ds:ListTags*"]})
    sim.put("/credentials/AKIAOTHER", {"secret_access_key": "s", "directories": ["d-aaaaaaaaaa"]})
    try:
        client(sim, key="ASIATEMPORARY", secret="s", token="token").describe_directories()
        assert refused(client(sim, key="ASIATEMPORARY", secret="s").describe_directories) == "UnrecognizedClientException"
        assert refused(client(sim, key="AKIAEXPIRED", secret="s").describe_directories) == "ExpiredTokenException"
        reader = client(sim, key="AKIAREADER", secret="s")
        reader.describe_directories()
        assert refused(reader.enable_radius, DirectoryId=ID, RadiusSettings=SETTINGS) == "AccessDeniedException"
        other = client(sim, key="AKIAOTHER", secret="s")
        other.describe_directories()
        assert refused(other.enable_radius, DirectoryId=ID, RadiusSettings=SETTINGS) == "AccessDeniedException"
    finally:
        for key in ("ASIATEMPORARY", "AKIAEXPIRED", "AKIAREADER", "AKIAOTHER"):
            sim.delete(f"/credentials/{key}")


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_clock_that_is_off_is_refused(sim, minutes, monkeypatch):
    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *a, **k: real(*a, **k) + datetime.timedelta(minutes=minutes))
    assert refused(client(sim).describe_directories) == "InvalidSignatureException"


def test_four_minutes_are_borne(sim, monkeypatch):
    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *a, **k: real(*a, **k) + datetime.timedelta(minutes=4))
    client(sim).describe_directories()


def test_another_service_is_a_wrong_scope(sim):
    other = client(sim)
    other.meta.events.register("choose-signer.ds.*", lambda context, **_: context.setdefault("signing", {}).update(signing_name="ec2"))
    assert refused(other.describe_directories) == "InvalidSignatureException"


def test_what_is_not_offered_is_unknown(sim):
    assert refused(sim.client.describe_trusts) == "UnknownOperationException"


def test_another_protocol_is_refused_loudly(sim):
    import urllib.error
    import urllib.request

    request = urllib.request.Request(sim.url + "/", data=b"\xa0", method="POST")
    request.add_header("content-type", "application/cbor")
    request.add_header("smithy-protocol", "rpc-v2-cbor")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 415


# Throttling and faults


def test_throttling_is_counted_by_reads_and_writes(sim):
    sim.put("/settings", {"writes_per_second": 1})
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    assert refused(sim.client.update_radius, DirectoryId=ID, RadiusSettings=SETTINGS) == "ThrottlingException"
    sim.client.describe_directories()


def test_injected_errors_look_real_and_end(sim):
    for code in ("ThrottlingException", "AccessDeniedException", "ServiceException", "ClientException", "ExpiredTokenException"):
        sim.put("/faults", {"faults": [{"operation": "DescribeDirectories", "kind": "error", "code": code, "times": 1}]})
        assert refused(sim.client.describe_directories) == code
        sim.client.describe_directories()


def test_a_lost_answer_is_retried_and_meets_its_own_success(sim):
    sim.put("/faults", {"faults": [{"operation": "EnableRadius", "kind": "lost", "times": 1}]})
    retrying = client(sim, retries={"total_max_attempts": 3, "mode": "standard"})
    assert refused(retrying.enable_radius, DirectoryId=ID, RadiusSettings=SETTINGS) == "EntityAlreadyExistsException"
    first, second = sim.get("/journal?operation=EnableRadius")["entries"]
    assert (first["result"], second["result"]) == ("ok", "EntityAlreadyExistsException")
    assert first["invocation_id"] == second["invocation_id"]
    assert second["attempt"].startswith("attempt=2")


def test_connection_faults_are_felt(sim):
    from botocore.exceptions import BotoCoreError

    for kind in ("close", "cut"):
        sim.put("/faults", {"faults": [{"operation": "DescribeDirectories", "kind": kind}]})
        with pytest.raises((BotoCoreError, ClientError)):
            sim.client.describe_directories()
    sim.put("/faults", {"faults": [{"operation": "*", "kind": "hang"}]})
    with pytest.raises(BotoCoreError):
        client(sim, read_timeout=0.5).describe_directories()
    sim.put("/faults", {"faults": [{"operation": "*", "kind": "slow", "interval_ms": 1}]})
    sim.client.describe_directories()


# What is kept and told


def test_the_journal_tells_every_write_and_no_secret(sim):
    sim.client.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    refused(sim.client.enable_radius, DirectoryId=ID, RadiusSettings={**SETTINGS, "SharedSecret": "another secret"})
    sim.client.add_tags_to_resource(ResourceId=ID, Tags=[{"Key": "owner", "Value": "us"}])
    entries = sim.get("/journal")["entries"]
    assert [(entry["operation"], entry["result"]) for entry in entries] == [
        ("EnableRadius", "ok"), ("EnableRadius", "EntityAlreadyExistsException"), ("AddTagsToResource", "ok")]
    assert entries[0]["settings"]["radius_servers"] == SETTINGS["RadiusServers"]
    digest = sim.post("/digest", {"text": SETTINGS["SharedSecret"]})["digest"]
    assert entries[0]["shared_secret_digest"] == digest != entries[1]["shared_secret_digest"]
    assert entries[2]["tags"] == [{"Key": "owner", "Value": "us"}]
    everything = str(sim.get("/state")) + str(entries) + "".join(sim.log)
    assert SETTINGS["SharedSecret"] not in everything and "another secret" not in everything
    counters = sim.get("/counters")
    assert counters["operations"]["EnableRadius"] == {"calls": 2, "ok": 1, "errors": {"EntityAlreadyExistsException": 1}}
    assert counters["writes"] == 3


def test_what_is_held_survives_even_a_kill(fleet, tmp_path):
    state = tmp_path / "state.json"
    first = fleet.directory("--state", state)
    first.put(f"/directories/{ID}", {"type": "MicrosoftAD"})
    ours = client(first)
    first.put("/settings", {"probe": {"min_creating_ms": 0}})
    ours.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    first.client = ours
    wait_for(first, "Completed")
    ours.add_tags_to_resource(ResourceId=ID, Tags=[{"Key": "owner", "Value": "us"}])
    first.kill()
    second = fleet.directory("--state", state)
    ours = second.client = client(second)
    assert described(second)["RadiusSettings"]["RadiusServers"] == SETTINGS["RadiusServers"]
    assert ours.list_tags_for_resource(ResourceId=ID)["Tags"] == [{"Key": "owner", "Value": "us"}]
    assert [entry["seq"] for entry in second.get("/journal")["entries"]] == [1, 2]
    assert state.stat().st_mode & 0o777 == 0o600
    assert second.stop() == 0


def test_a_wrong_config_is_said_and_ends(config):
    path = config("[settings]\nregoin = 'x'\n")
    ended = subprocess.run([os.environ["SIMULATORS_BIN"], "directory", "--config", path], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1 and "regoin" in ended.stderr


def test_a_config_seeds_the_world(fleet, config):
    path = config(
        """
        [settings]
        region = "us-west-2"
        [[credentials]]
        access_key_id = "AKIDSEED"
        secret_access_key = "seeded"
        [[directories]]
        id = "d-aaaaaaaaaa"
        type = "ADConnector"
        [directories.tags]
        team = "identity"
        """
    )
    seeded = fleet.directory("--config", path)
    ours = client(seeded, region="us-west-2", key="AKIDSEED", secret="seeded")
    assert ours.describe_directories()["DirectoryDescriptions"][0]["Type"] == "ADConnector"
    assert ours.list_tags_for_resource(ResourceId="d-aaaaaaaaaa")["Tags"] == [{"Key": "team", "Value": "identity"}]
    assert refused(client(seeded, region="us-west-2").describe_directories) == "UnrecognizedClientException"


# awscli


def aws(simulator, *arguments, secret="simulator"):
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": simulator.url, "AWS_ACCESS_KEY_ID": "simulator", "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": "",
    }
    script = os.path.join(os.path.dirname(sys.executable), "aws")
    return subprocess.run([sys.executable, script, "--output", "json", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_awscli_does_all_operations(sim):
    import json

    settings = json.dumps(SETTINGS)
    for arguments in (
        ("enable-radius", "--directory-id", ID, "--radius-settings", settings),
        ("update-radius", "--directory-id", ID, "--radius-settings", settings),
        ("add-tags-to-resource", "--resource-id", ID, "--tags", "Key=a,Value=b"),
        ("list-tags-for-resource", "--resource-id", ID),
        ("remove-tags-from-resource", "--resource-id", ID, "--tag-keys", "a"),
        ("describe-directories", "--directory-ids", ID),
        ("describe-domain-controllers", "--directory-id", ID),
        ("describe-regions", "--directory-id", ID),
        ("disable-radius", "--directory-id", ID),
    ):
        ended = aws(sim, "ds", *arguments)
        assert ended.returncode == 0, f"{arguments}: {ended.stderr}"


def test_awscli_shows_what_was_wrong(sim):
    wrong = aws(sim, "ds", "describe-directories", secret="wrong")
    assert wrong.returncode != 0 and "InvalidSignatureException" in wrong.stderr
    unknown = aws(sim, "ds", "disable-radius", "--directory-id", "d-ffffffffff")
    assert unknown.returncode != 0 and "EntityDoesNotExistException" in unknown.stderr


# STS

ROLE = "arn:aws:iam::210987654321:role/mfa-team-a"


def test_a_role_is_assumed_with_its_external_id_only(sim):
    role = {"arn": ROLE, "external_id": "cluster/team-a/mfa", "allow": ["ds:*"], "directories": [ID]}
    sim.put("/roles", {"roles": [role]})
    sts = client(sim, service="sts")
    assert sts.get_caller_identity()["Arn"].endswith("user/simulator")
    session = {"RoleArn": ROLE, "RoleSessionName": "operator"}
    assert refused(sts.assume_role, **session) == "AccessDenied"
    assert refused(sts.assume_role, **session, ExternalId="cluster/team-b/mfa") == "AccessDenied"
    assert refused(sts.assume_role, RoleArn=ROLE + "x", RoleSessionName="operator") == "AccessDenied"
    given = sts.assume_role(**session, ExternalId="cluster/team-a/mfa")["Credentials"]
    assert given["Expiration"] > datetime.datetime.now(datetime.timezone.utc)
    as_role = {"key": given["AccessKeyId"], "secret": given["SecretAccessKey"], "token": given["SessionToken"]}
    ours = client(sim, **as_role)
    ours.enable_radius(DirectoryId=ID, RadiusSettings=SETTINGS)
    assert sim.get("/journal")["entries"][-1]["caller"] == "arn:aws:sts::210987654321:assumed-role/mfa-team-a/operator"
    identity = client(sim, service="sts", **as_role).get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::210987654321:assumed-role/mfa-team-a/operator"
    sim.put("/directories/d-1111111111", {})
    assert refused(ours.enable_radius, DirectoryId="d-1111111111", RadiusSettings=SETTINGS) == "AccessDeniedException"
    sim.put("/roles", {"roles": []})
    assert refused(ours.describe_directories) == "UnrecognizedClientException"


def test_only_trusted_principals_assume_a_role(sim):
    sim.put("/roles", {"roles": [{"arn": ROLE, "trusted": ["arn:aws:iam::123456789012:user/somebody-else"]}]})
    assert refused(client(sim, service="sts").assume_role, RoleArn=ROLE, RoleSessionName="operator") == "AccessDenied"


def test_sts_refuses_wrong_signatures_in_its_own_words(sim):
    assert refused(client(sim, service="sts", secret="wrong").get_caller_identity) == "SignatureDoesNotMatch"
    assert refused(client(sim, service="sts", key="nobody").get_caller_identity) == "InvalidClientTokenId"
    sim.put("/faults", {"faults": [{"operation": "AssumeRole", "kind": "error", "code": "ThrottlingException"}]})
    assert refused(client(sim, service="sts").assume_role, RoleArn=ROLE, RoleSessionName="xx") == "Throttling"


def test_a_service_account_token_assumes_a_role(sim, tmp_path):
    import time

    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    key, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())
    jwks = tmp_path / "jwks.json"
    jwks.write_text('{"keys":[' + public + "]}")
    subject = "system:serviceaccount:radius-mfa:operator"
    sim.put("/roles", {"roles": [{"arn": ROLE, "web_identity_subjects": [subject], "web_identity_jwks": str(jwks)}]})
    sts = client(sim, service="sts")

    def token(signed_by=key, **changes):
        claims = {"sub": subject, "aud": ["sts.amazonaws.com"], "exp": int(time.time()) + 600, **changes}
        return jwt.encode(claims, signed_by, algorithm="RS256")

    def call(token):
        return sts.assume_role_with_web_identity(RoleArn=ROLE, RoleSessionName="operator", WebIdentityToken=token)

    given = call(token())
    assert given["SubjectFromWebIdentityToken"] == subject
    keys = given["Credentials"]
    client(sim, key=keys["AccessKeyId"], secret=keys["SecretAccessKey"], token=keys["SessionToken"]).describe_directories()
    assert refused(call, token=token(signed_by=other)) == "InvalidIdentityToken"
    assert refused(call, token=token(aud="somebody")) == "InvalidIdentityToken"
    assert refused(call, token=token(exp=1)) == "ExpiredTokenException"
    assert refused(call, token=token(sub="system:serviceaccount:x:y")) == "AccessDenied"
    assert refused(call, token=token() + "\n") == "InvalidIdentityToken"
