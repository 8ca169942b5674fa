//! DescribeDirectories, DescribeDomainControllers, DescribeRegions.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{Asked, Page, directory_in, page, unless_accepted};
use crate::{
    clock::epoch_seconds,
    directory::{
        constraint::{Members, is_controller_id, is_directory_id},
        exception::Exception,
        seeds::{DirectoryType, NetworkType, Stage},
        world::{Directory, Seen, World},
    },
};

/// Domain controllers beyond the first two are only in DescribeDomainControllers.
const SHOWN_ADDRESSES: usize = 2;

pub(super) fn directories(world: &mut World, asked: &Asked<'_>) -> Result<Value, Exception> {
    let mut members = Members::of(asked.members, "");
    let rule = "Member must satisfy regular expression pattern: ^d-[0-9a-f]{10}$";
    let ids = members.texts("DirectoryIds", rule, is_directory_id)?;
    members.number("Limit", 0, i64::from(i32::MAX))?;
    members.finish(&world.settings.constraint_error)?;
    if ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(Exception::invalid("DirectoryIds must not be empty."));
    }
    let mut wanted: Vec<&Directory> = match &ids {
        Some(ids) => ids
            .iter()
            .map(|id| directory_in(world, id, asked.region))
            .collect::<Result<_, Exception>>()?,
        None => world
            .directories
            .values()
            .filter(|directory| directory.spec.is_in(asked.region))
            .collect(),
    };
    wanted.sort_by(|a, b| a.spec.id.cmp(&b.spec.id));
    wanted.dedup_by(|a, b| a.spec.id == b.spec.id);
    let entries = wanted
        .into_iter()
        .map(|directory| (directory.spec.id.clone(), directory));
    let page = page(
        entries,
        "DescribeDirectories",
        asked.members,
        world.settings.page_size,
    )?;
    let next = page.next;
    let described = page
        .entries
        .into_iter()
        .map(|one| described(world, one, asked))
        .collect();
    Ok(answer(
        "DirectoryDescriptions",
        Page {
            entries: described,
            next,
        },
    ))
}

fn answer(name: &str, page: Page<Value>) -> Value {
    let mut answer = Map::new();
    answer.insert(name.to_owned(), Value::Array(page.entries));
    if let Some(next) = page.next {
        answer.insert("NextToken".to_owned(), Value::String(next));
    }
    Value::Object(answer)
}

fn addresses(controllers: &[Seen], six: bool) -> Vec<IpAddr> {
    controllers
        .iter()
        .flat_map(|controller| &controller.addresses)
        .filter(|ip| ip.is_ipv6() == six)
        .copied()
        .collect()
}

fn vpc(id: &str, region: &str) -> Value {
    let tail = id.get(2..10).unwrap_or("00000000");
    json!({
        "VpcId": format!("vpc-{tail}"),
        "SubnetIds": [format!("subnet-{tail}"), format!("subnet-{}", tail.chars().rev().collect::<String>())],
        "SecurityGroupId": format!("sg-{tail}"),
        "AvailabilityZones": [format!("{region}a"), format!("{region}b")],
    })
}

fn described(world: &World, directory: &Directory, asked: &Asked<'_>) -> Value {
    let spec = &directory.spec;
    let mut shown = json!({
        "DirectoryId": spec.id,
        "Name": spec.name,
        "ShortName": spec.short_name,
        "Alias": spec.id,
        "AccessUrl": format!("{}.awsapps.com", spec.id),
        "Stage": spec.stage,
        "LaunchTime": epoch_seconds(directory.launched),
        "StageLastUpdatedDateTime": epoch_seconds(directory.stage_since),
        "Type": spec.kind,
        "SsoEnabled": false,
        "NetworkType": spec.network_type,
    });
    let Some(members) = shown.as_object_mut() else {
        return shown;
    };
    if !spec.stage_reason.is_empty() {
        members.insert("StageReason".to_owned(), json!(spec.stage_reason));
    }
    match spec.kind {
        DirectoryType::ADConnector => connector(world, directory, asked, members),
        DirectoryType::SharedMicrosoftAD => shared(world, directory, asked, members),
        DirectoryType::MicrosoftAD | DirectoryType::SimpleAD => managed(world, directory, asked, members),
    }
    radius(world, directory, asked, members);
    shown
}

fn show_addresses(directory: &Directory, controllers: &[Seen], members: &mut Map<String, Value>) {
    let first = |six: bool| -> Vec<IpAddr> {
        addresses(controllers, six)
            .into_iter()
            .take(SHOWN_ADDRESSES)
            .collect()
    };
    if directory.spec.network_type != NetworkType::IPv6 {
        members.insert("DnsIpAddrs".to_owned(), json!(first(false)));
    }
    if directory.spec.network_type != NetworkType::IPv4 {
        members.insert("DnsIpv6Addrs".to_owned(), json!(first(true)));
    }
}

fn seen(world: &World, directory: &Directory, asked: &Asked<'_>) -> Vec<Seen> {
    directory.controllers_in(asked.region, asked.now, world.settings.controller_lost_after_ms)
}

fn managed(world: &World, directory: &Directory, asked: &Asked<'_>, members: &mut Map<String, Value>) {
    let spec = &directory.spec;
    show_addresses(directory, &seen(world, directory, asked), members);
    members.insert("VpcSettings".to_owned(), vpc(&spec.id, asked.region));
    members.insert(
        "DesiredNumberOfDomainControllers".to_owned(),
        json!(spec.desired_domain_controllers),
    );
    if spec.kind == DirectoryType::SimpleAD {
        members.insert("Size".to_owned(), json!("Small"));
        return;
    }
    members.insert("Edition".to_owned(), json!("Standard"));
    members.insert("OsVersion".to_owned(), json!("SERVER_2019"));
    let regions = json!({"PrimaryRegion": spec.region, "AdditionalRegions": spec.additional_regions});
    members.insert("RegionsInfo".to_owned(), regions);
}

fn connector(world: &World, directory: &Directory, asked: &Asked<'_>, members: &mut Map<String, Value>) {
    let controllers = seen(world, directory, asked);
    let mut settings = vpc(&directory.spec.id, asked.region);
    if let Some(settings) = settings.as_object_mut() {
        settings.insert("CustomerUserName".to_owned(), json!("svc-connector"));
        settings.insert("ConnectIps".to_owned(), json!(addresses(&controllers, false)));
        if directory.spec.network_type != NetworkType::IPv4 {
            settings.insert("ConnectIpsV6".to_owned(), json!(addresses(&controllers, true)));
        }
    }
    members.insert("ConnectSettings".to_owned(), settings);
    members.insert("Size".to_owned(), json!("Small"));
    // The customer's own servers, never where requests come from.
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = directory
        .spec
        .customer_dns_ips
        .iter()
        .copied()
        .partition(IpAddr::is_ipv6);
    members.insert("DnsIpAddrs".to_owned(), json!(four));
    if !six.is_empty() {
        members.insert("DnsIpv6Addrs".to_owned(), json!(six));
    }
}

fn shared(world: &World, directory: &Directory, asked: &Asked<'_>, members: &mut Map<String, Value>) {
    let spec = &directory.spec;
    let owner = world.directories.get(&spec.owner_directory_id);
    let mut description = Map::new();
    description.insert("AccountId".to_owned(), json!(spec.owner_account));
    description.insert("DirectoryId".to_owned(), json!(spec.owner_directory_id));
    description.insert("NetworkType".to_owned(), json!(spec.network_type));
    if let Some(owner) = owner {
        let controllers = seen(world, owner, asked);
        show_addresses(owner, &controllers, members);
        show_addresses(owner, &controllers, &mut description);
        description.insert("VpcSettings".to_owned(), vpc(&owner.spec.id, asked.region));
        radius(world, owner, asked, &mut description);
    }
    members.insert("OwnerDirectoryDescription".to_owned(), Value::Object(description));
    members.insert("ShareStatus".to_owned(), json!("Shared"));
    members.insert("ShareMethod".to_owned(), json!("HANDSHAKE"));
    members.insert("Edition".to_owned(), json!("Standard"));
}

fn radius(world: &World, directory: &Directory, asked: &Asked<'_>, members: &mut Map<String, Value>) {
    if let Some(radius) = directory.shown(asked.region, asked.now, &world.settings) {
        let settings = radius.settings.described(world.settings.describe_shared_secret);
        members.insert("RadiusSettings".to_owned(), settings);
        members.insert("RadiusStatus".to_owned(), json!(radius.status));
    }
}

fn required_id(world: &World, asked: &Asked<'_>) -> Result<String, Exception> {
    let mut members = Members::of(asked.members, "");
    members.require("DirectoryId");
    let pattern = ("^d-[0-9a-f]{10}$", is_directory_id as fn(&str) -> bool);
    let id = members
        .text("DirectoryId", (0, usize::MAX), Some(pattern), false)?
        .unwrap_or_default()
        .to_owned();
    members.number("Limit", 0, i64::from(i32::MAX))?;
    members.finish(&world.settings.constraint_error)?;
    Ok(id)
}

pub(super) fn domain_controllers(world: &mut World, asked: &Asked<'_>) -> Result<Value, Exception> {
    let id = required_id(world, asked)?;
    let mut members = Members::of(asked.members, "");
    let rule = "Member must satisfy regular expression pattern: ^dc-[0-9a-f]{10}$";
    let ids = members.texts("DomainControllerIds", rule, is_controller_id)?;
    members.finish(&world.settings.constraint_error)?;
    let directory = directory_in(world, &id, asked.region)?;
    let rule = match directory.spec.kind {
        DirectoryType::ADConnector => &world.settings.domain_controllers_of_connector,
        DirectoryType::SharedMicrosoftAD => &world.settings.domain_controllers_of_shared,
        _ => super::ACCEPT,
    };
    unless_accepted(
        rule,
        format!("Directory {id} has no domain controllers of its own."),
    )?;
    let mut all = seen(world, directory, asked);
    if let Some(ids) = ids {
        let unknown = ids
            .iter()
            .find(|id| !all.iter().any(|controller| controller.id == **id));
        if let Some(unknown) = unknown {
            let what = format!("Domain controller {unknown} does not exist.");
            return Err(Exception::new("EntityDoesNotExistException", what));
        }
        all.retain(|controller| ids.contains(&controller.id));
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let entries = all
        .into_iter()
        .map(|controller| (controller.id.clone(), controller));
    let page = page(
        entries,
        "DescribeDomainControllers",
        asked.members,
        world.settings.page_size,
    )?;
    let entries = page
        .entries
        .iter()
        .map(|one| controller(directory, one, asked))
        .collect();
    Ok(answer(
        "DomainControllers",
        Page {
            entries,
            next: page.next,
        },
    ))
}

fn controller(directory: &Directory, seen: &Seen, asked: &Asked<'_>) -> Value {
    let tail = directory.spec.id.get(2..10).unwrap_or("00000000");
    let since = seen.since.parse().map_or(0.0, epoch_seconds);
    let mut shown = json!({
        "DirectoryId": directory.spec.id,
        "DomainControllerId": seen.id,
        "VpcId": format!("vpc-{tail}"),
        "SubnetId": format!("subnet-{tail}"),
        "AvailabilityZone": format!("{}a", asked.region),
        "Status": seen.status,
        "LaunchTime": since,
        "StatusLastUpdatedDateTime": since,
    });
    let address = |six: bool| seen.addresses.iter().find(|ip| ip.is_ipv6() == six);
    if let Some(members) = shown.as_object_mut() {
        if let Some(four) = address(false) {
            members.insert("DnsIpAddr".to_owned(), json!(four));
        }
        if let Some(six) = address(true) {
            members.insert("DnsIpv6Addr".to_owned(), json!(six));
        }
    }
    shown
}

pub(super) fn regions(world: &mut World, asked: &Asked<'_>) -> Result<Value, Exception> {
    let id = required_id(world, asked)?;
    let mut members = Members::of(asked.members, "");
    let only = members
        .text("RegionName", (8, 32), None, false)?
        .map(str::to_owned);
    members.finish(&world.settings.constraint_error)?;
    let directory = directory_in(world, &id, asked.region)
        .map_err(|missing| Exception::new("DirectoryDoesNotExistException", missing.message))?;
    let spec = &directory.spec;
    if spec.kind != DirectoryType::MicrosoftAD {
        let what = format!("Multi-region replication is not supported for directory {id}.");
        return Err(Exception::new("UnsupportedOperationException", what));
    }
    let all = std::iter::once(&spec.region).chain(&spec.additional_regions);
    let entries: Vec<(String, Value)> = all
        .enumerate()
        .filter(|(_, region)| only.as_ref().is_none_or(|only| only == *region))
        .map(|(index, region)| {
            // Without the parts that DirectoryVpcSettings does not have.
            let vpc = vpc(&id, region);
            let vpc = json!({"VpcId": vpc.get("VpcId"), "SubnetIds": vpc.get("SubnetIds")});
            let shown = json!({
                "DirectoryId": id,
                "RegionName": region,
                "RegionType": if index == 0 { "Primary" } else { "Additional" },
                "Status": Stage::Active,
                "VpcSettings": vpc,
                "DesiredNumberOfDomainControllers": spec.desired_domain_controllers,
                "LaunchTime": epoch_seconds(directory.launched),
                "StatusLastUpdatedDateTime": epoch_seconds(directory.stage_since),
                "LastUpdatedDateTime": epoch_seconds(directory.stage_since),
            });
            (format!("{index:04}"), shown)
        })
        .collect();
    let page = page(
        entries,
        "DescribeRegions",
        asked.members,
        world.settings.page_size,
    )?;
    Ok(answer("RegionsDescription", page))
}
