//! How controllers and their directory talk: `POST /poll` on the admin API, held until something changes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::info;

use super::{
    Simulator,
    radius_settings::RadiusSettings,
    seeds::DirectoryType,
    settings::{ProbeSettings, RadiusClient},
    world::{Controller, ProbeReport, Radius, RadiusStatus, World},
};
use crate::admin::Refusal;

/// Controllers of one directory.
const CONTROLLERS: usize = 256;
/// A poll is held no longer, so that a controller is heard of.
const HELD: Duration = Duration::from_secs(2);

/// What a controller says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Poll {
    /// Its directory.
    pub directory_id: String,
    /// Its name.
    pub name: String,
    /// Empty: the directory's primary region.
    #[serde(default)]
    pub region: String,
    /// Where its requests come from.
    pub addresses: Vec<IpAddr>,
    /// Where its admin API answers; 0: it does not say.
    #[serde(default)]
    pub admin_port: u16,
    /// The serial of the last answer; 0: none yet.
    #[serde(default)]
    pub serial: u64,
    /// The settings that it is trying out; 0: none.
    #[serde(default)]
    pub probing: u64,
    /// What it found of the servers.
    #[serde(default)]
    pub report: Option<ProbeReport>,
}

/// What it hears.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PollAnswer {
    /// To be sent with the next poll.
    pub serial: u64,
    /// Its region.
    pub region: String,
    /// Its directory's type.
    pub directory_type: DirectoryType,
    /// RADIUS, when it is on.
    pub radius: Option<ControllerView>,
    /// How to speak it.
    pub client: RadiusClient,
    /// The admin APIs of the directory's other live controllers in this region.
    #[serde(default)]
    pub others: Vec<SocketAddr>,
    /// What to try out, when this controller has not reported yet.
    pub probe: Option<ProbeOrder>,
}

/// RADIUS as a controller knows it, the shared secret included.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControllerView {
    /// Creating, Completed or Failed.
    pub status: RadiusStatus,
    /// Counts settings.
    pub generation: u64,
    /// What is registered.
    pub settings: RadiusSettings,
    /// What was before, while Creating.
    pub previous: Option<RadiusSettings>,
}

/// A probe to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// The settings to try.
    pub generation: u64,
    /// How.
    pub rules: ProbeSettings,
}

/// `POST /poll`
pub(super) async fn poll(
    State(simulator): State<Arc<Simulator>>,
    Json(poll): Json<Poll>,
) -> Result<Json<PollAnswer>, Refusal> {
    let mut wakes = simulator.wakes_of_known(&poll.directory_id)?;
    let (news, moved) = simulator.change(false, |world| hear(world, &poll, Timestamp::now()))?;
    if moved {
        info!(directory = poll.directory_id, controller = poll.name, addresses = ?poll.addresses, "registered");
    }
    if moved || news {
        simulator.change(true, |_| ());
        simulator.reported.notify_one();
    }
    if poll.serial == *wakes.borrow_and_update() && !simulator.look(|world| is_due(world, &poll)) {
        let _ = timeout(HELD, wakes.changed()).await;
    }
    let serial = *wakes.borrow_and_update();
    simulator
        .change(false, |world| {
            hear(
                world,
                &Poll {
                    report: None,
                    ..poll.clone()
                },
                Timestamp::now(),
            )?;
            view(world, &poll, serial)
        })
        .map(Json)
}

impl Simulator {
    fn wakes_of_known(&self, id: &str) -> Result<tokio::sync::watch::Receiver<u64>, Refusal> {
        match self.look(|world| world.directories.contains_key(id)) {
            true => Ok(self.wakes_of(id)),
            false => Err(Refusal::not_found(format!("no directory {id}"))),
        }
    }
}

/// Takes down that a controller is there, and what it reports: whether that is news, and whether the controller is new or moved.
fn hear(world: &mut World, poll: &Poll, now: Timestamp) -> Result<(bool, bool), Refusal> {
    let gone = || Refusal::not_found(format!("no directory {}", poll.directory_id));
    let directory = world.directories.get_mut(&poll.directory_id).ok_or_else(gone)?;
    if poll.addresses.is_empty() || poll.name.is_empty() {
        return Err(Refusal::bad("a controller needs a name and an address"));
    }
    let region = region_of(&directory.spec.region, poll);
    let (count, known) = (
        directory.controllers.len(),
        directory.controllers.get_mut(&poll.name),
    );
    let moved = match known {
        Some(controller) => {
            let moved = controller.addresses != poll.addresses || controller.region != region;
            controller.last_seen = now;
            controller.addresses.clone_from(&poll.addresses);
            controller.region.clone_from(&region);
            controller.admin_port = poll.admin_port;
            moved
        }
        None if count >= CONTROLLERS => return Err(Refusal::bad("too many controllers")),
        None => {
            let (addresses, region) = (poll.addresses.clone(), region.clone());
            let controller = Controller {
                region,
                addresses,
                first_seen: now,
                last_seen: now,
                admin_port: poll.admin_port,
            };
            directory.controllers.insert(poll.name.clone(), controller);
            true
        }
    };
    let mut news = false;
    if let (Some(report), Some(radius)) = (&poll.report, directory.radius.get_mut(&region))
        && report.generation == radius.generation
    {
        radius.probes.retain(|known| known.controller != poll.name);
        radius.probes.push(ProbeReport {
            controller: poll.name.clone(),
            ..report.clone()
        });
        news = true;
    }
    Ok((news, moved))
}

fn region_of(primary: &str, poll: &Poll) -> String {
    match poll.region.as_str() {
        "" => primary.to_owned(),
        region => region.to_owned(),
    }
}

fn radius_of<'w>(world: &'w World, poll: &Poll) -> Option<&'w Radius> {
    let directory = world.directories.get(&poll.directory_id)?;
    directory.radius.get(&region_of(&directory.spec.region, poll))
}

/// Whether this controller has settings to try out.
fn is_due(world: &World, poll: &Poll) -> bool {
    radius_of(world, poll).is_some_and(|radius| {
        radius.status == RadiusStatus::Creating
            && poll.probing != radius.generation
            && poll
                .report
                .as_ref()
                .is_none_or(|report| report.generation != radius.generation)
            && !radius
                .probes
                .iter()
                .any(|known| known.controller == poll.name && known.generation == radius.generation)
    })
}

fn view(world: &World, poll: &Poll, serial: u64) -> Result<PollAnswer, Refusal> {
    let gone = || Refusal::not_found(format!("no directory {}", poll.directory_id));
    let directory = world.directories.get(&poll.directory_id).ok_or_else(gone)?;
    let radius = radius_of(world, poll);
    let region = region_of(&directory.spec.region, poll);
    let lost_after = world.settings.controller_lost_after_ms;
    let order = |radius: &Radius| ProbeOrder {
        generation: radius.generation,
        rules: world.settings.probe.clone(),
    };
    Ok(PollAnswer {
        serial,
        others: directory.others(&region, &poll.name, Timestamp::now(), lost_after),
        region,
        directory_type: directory.spec.kind,
        radius: radius.map(|radius| ControllerView {
            status: radius.status,
            generation: radius.generation,
            settings: radius.settings.clone(),
            previous: radius.previous.clone(),
        }),
        client: world.settings.radius_client.clone(),
        probe: radius.filter(|_| is_due(world, poll)).map(order),
    })
}
