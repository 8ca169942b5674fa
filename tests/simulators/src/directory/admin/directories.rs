//! Directories, and what a foreign hand does to them.

use axum::{
    Json,
    extract::{Path, State},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        constraint::is_directory_id,
        radius_settings::RadiusSettings,
        seeds::DirectorySpec,
        world::{Directory, Entry, Radius, RadiusStatus, World},
    },
    Asked, Shared,
};
use crate::{
    admin::{Answer, Refusal, read},
    clock,
};

/// Directories of one simulator.
const DIRECTORIES: usize = 20_000;

pub(super) fn describe(world: &World, directory: &Directory, now: Timestamp) -> Value {
    let key = world.digest_key.as_bytes();
    let lost_after = world.settings.controller_lost_after_ms;
    let regions: Vec<&String> = std::iter::once(&directory.spec.region)
        .chain(&directory.spec.additional_regions)
        .collect();
    let controllers: Vec<_> = regions
        .iter()
        .flat_map(|region| directory.controllers_in(region, now, lost_after))
        .collect();
    let radius: serde_json::Map<String, Value> = directory
        .radius
        .iter()
        .map(|(region, radius)| (region.clone(), describe_radius(radius, key)))
        .collect();
    let intervals: Vec<Value> = directory
        .intervals
        .iter()
        .map(|span| {
            json!({
                "region": span.region, "operation": span.operation, "result": span.result,
                "from": clock::rfc3339(span.from), "to": span.to.map(clock::rfc3339),
                "ms": clock::ms_between(span.from, span.to.unwrap_or(now)),
            })
        })
        .collect();
    let total: u64 = directory
        .intervals
        .iter()
        .map(|span| clock::ms_between(span.from, span.to.unwrap_or(now)))
        .sum();
    json!({
        "spec": directory.spec,
        "tags": directory.tags,
        "controllers": controllers,
        "radius": radius,
        "changing": {
            "now": directory.intervals.iter().any(|span| span.to.is_none()),
            "total_ms": total,
            "intervals": intervals,
        },
    })
}

fn describe_radius(radius: &Radius, key: &[u8]) -> Value {
    json!({
        "status": radius.status,
        "since": clock::rfc3339(radius.since),
        "operation": radius.operation,
        "generation": radius.generation,
        "settings": radius.settings.without_secret(),
        "shared_secret_digest": radius.settings.digest(key),
        "probe": radius.probes,
    })
}

pub(super) async fn directories(State(simulator): Shared) -> Json<Value> {
    Json(
        json!({"directories": simulator.look(|world| world.directories.keys().cloned().collect::<Vec<_>>())}),
    )
}

pub(super) async fn directory(State(simulator): Shared, Path(id): Path<String>) -> Answer {
    simulator.look(|world| Ok(Json(describe(world, known(world, &id)?, Timestamp::now()))))
}

fn known<'w>(world: &'w World, id: &str) -> Result<&'w Directory, Refusal> {
    world
        .directories
        .get(id)
        .ok_or_else(|| Refusal::not_found(format!("no directory {id}")))
}

fn known_mut<'w>(world: &'w mut World, id: &str) -> Result<&'w mut Directory, Refusal> {
    world
        .directories
        .get_mut(id)
        .ok_or_else(|| Refusal::not_found(format!("no directory {id}")))
}

pub(super) async fn put_directory(
    State(simulator): Shared,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let mut spec: DirectorySpec = read(body)?;
    if !is_directory_id(&id) {
        return Err(Refusal::bad(format!("{id} is not d- and ten hex digits")));
    }
    spec.id.clone_from(&id);
    let now = Timestamp::now();
    let answer = simulator.change(true, |world| {
        if spec.region.is_empty() {
            spec.region.clone_from(&world.settings.region);
        }
        let full = world.directories.len() >= DIRECTORIES;
        match world.directories.get_mut(&id) {
            None if full => return Err(Refusal::bad("too many directories")),
            None => {
                world.directories.insert(id.clone(), Directory::new(spec, now));
            }
            Some(directory) => {
                if directory.spec.stage != spec.stage {
                    directory.stage_since = now;
                }
                if let Some(tags) = &spec.tags {
                    directory.tags.clone_from(tags);
                }
                directory.spec = spec;
            }
        }
        Ok(Json(describe(world, known(world, &id)?, now)))
    });
    simulator.wake(&id);
    answer
}

pub(super) async fn delete_directory(State(simulator): Shared, Path(id): Path<String>) -> Answer {
    simulator.change(true, |world| {
        known(world, &id)?;
        world.directories.remove(&id);
        Ok(Json(json!({})))
    })
}

pub(super) async fn delete_controller(
    State(simulator): Shared,
    Path((id, name)): Path<(String, String)>,
) -> Answer {
    let answer = simulator.change(true, |world| {
        match known_mut(world, &id)?.controllers.remove(&name) {
            Some(_) => Ok(Json(json!({}))),
            None => Err(Refusal::not_found(format!("no controller {name}"))),
        }
    });
    simulator.wake(&id);
    answer
}

fn region(directory: &Directory, named: Option<&String>) -> String {
    named
        .filter(|region| !region.is_empty())
        .unwrap_or(&directory.spec.region)
        .clone()
}

pub(super) async fn radius(
    State(simulator): Shared,
    Path(id): Path<String>,
    axum::extract::Query(asked): Asked,
) -> Answer {
    simulator.look(|world| {
        let directory = known(world, &id)?;
        let region = region(directory, asked.get("region"));
        let radius = directory
            .radius
            .get(&region)
            .ok_or_else(|| Refusal::not_found(format!("RADIUS of {id} is off in {region}")))?;
        let mut answer = describe_radius(radius, world.digest_key.as_bytes());
        let plain = asked.get("plain").is_some_and(|plain| plain == "true");
        if let Some(settings) = answer
            .get_mut("settings")
            .and_then(Value::as_object_mut)
            .filter(|_| plain)
        {
            settings.insert(
                "shared_secret".to_owned(),
                json!(radius.settings.shared_secret.expose()),
            );
        }
        Ok(Json(answer))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignRadius {
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    status: Option<RadiusStatus>,
    settings: RadiusSettings,
}

pub(super) async fn put_radius(
    State(simulator): Shared,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let foreign: ForeignRadius = read(body)?;
    let now = Timestamp::now();
    let answer = simulator.change(true, |world| {
        let generation = world.next_generation();
        let directory = known_mut(world, &id)?;
        let region = region(directory, foreign.region.as_ref());
        let status = foreign.status.unwrap_or(RadiusStatus::Completed);
        directory.end_change(&region, "replaced by a foreign hand", now);
        directory.keep_before(&region, now);
        let radius = Radius {
            settings: foreign.settings.clone(),
            previous: None,
            status,
            since: now,
            operation: "admin".to_owned(),
            generation,
            probes: Vec::new(),
        };
        directory.radius.insert(region.clone(), radius);
        if status == RadiusStatus::Creating {
            directory.begin_change(&region, "admin", now);
        }
        record(world, "UpdateRadius", &id, &region, Some(&foreign.settings));
        Ok(Json(describe(world, known(world, &id)?, now)))
    });
    simulator.wake(&id);
    answer
}

/// What a foreign hand did is in the journal too, with `admin` as its caller.
fn record(world: &mut World, operation: &str, id: &str, region: &str, settings: Option<&RadiusSettings>) {
    let digest = settings.map(|settings| settings.digest(world.digest_key.as_bytes()));
    world.journal.add(Entry {
        time: clock::rfc3339(Timestamp::now()),
        operation: operation.to_owned(),
        directory: id.to_owned(),
        region: region.to_owned(),
        caller: "admin".to_owned(),
        access_key_id: String::new(),
        request_id: String::new(),
        invocation_id: String::new(),
        attempt: String::new(),
        settings: settings.map_or(Value::Null, RadiusSettings::without_secret),
        shared_secret_digest: digest.unwrap_or_default(),
        tags: Value::Null,
        result: "ok".to_owned(),
        error_message: String::new(),
    });
}

pub(super) async fn delete_radius(
    State(simulator): Shared,
    Path(id): Path<String>,
    axum::extract::Query(asked): Asked,
) -> Answer {
    let answer = simulator.change(true, |world| {
        let directory = known_mut(world, &id)?;
        let region = region(directory, asked.get("region"));
        directory.end_change(&region, "disabled by a foreign hand", Timestamp::now());
        directory.keep_before(&region, Timestamp::now());
        directory.radius.remove(&region);
        record(world, "DisableRadius", &id, &region, None);
        Ok(Json(json!({})))
    });
    simulator.wake(&id);
    answer
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forced {
    #[serde(default)]
    region: Option<String>,
    status: RadiusStatus,
}

pub(super) async fn put_status(
    State(simulator): Shared,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let forced: Forced = read(body)?;
    let now = Timestamp::now();
    let answer = simulator.change(true, |world| {
        let directory = known_mut(world, &id)?;
        let region = region(directory, forced.region.as_ref());
        let radius = directory
            .radius
            .get_mut(&region)
            .ok_or_else(|| Refusal::not_found(format!("RADIUS of {id} is off in {region}")))?;
        radius.status = forced.status;
        radius.since = now;
        match forced.status {
            RadiusStatus::Creating => directory.begin_change(&region, "admin", now),
            status => directory.end_change(&region, &format!("{status:?}"), now),
        }
        Ok(Json(describe(world, known(world, &id)?, now)))
    });
    simulator.wake(&id);
    answer
}
