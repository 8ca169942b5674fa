//! EnableRadius, UpdateRadius, DisableRadius.

use super::{Asked, directory_in, unless_accepted};
use crate::directory::{
    constraint::{Members, is_directory_id},
    exception::Exception,
    radius_settings::RadiusSettings,
    seeds::{DirectoryType, Stage},
    settings::ProbeMode,
    world::{Radius, RadiusStatus, World},
};

pub(super) fn enable(world: &mut World, asked: &Asked<'_>) -> Result<(), Exception> {
    let (id, settings) = read(world, asked)?;
    let rules = &world.settings;
    if let Some(now) = directory_in(world, &id, asked.region)?.radius.get(asked.region) {
        let rule = match now.status {
            RadiusStatus::Creating => &rules.enable_when_creating,
            RadiusStatus::Completed => &rules.enable_when_configured,
            RadiusStatus::Failed => &rules.enable_when_failed,
        };
        unless_accepted(rule, format!("RADIUS is already enabled for directory {id}."))?;
    }
    put(world, asked, &id, settings, "EnableRadius");
    Ok(())
}

pub(super) fn update(world: &mut World, asked: &Asked<'_>) -> Result<(), Exception> {
    let (id, settings) = read(world, asked)?;
    let rules = &world.settings;
    match directory_in(world, &id, asked.region)?
        .radius
        .get(asked.region)
        .map(|radius| radius.status)
    {
        None => unless_accepted(
            &rules.update_without_radius,
            format!("RADIUS is not enabled for directory {id}."),
        )?,
        Some(RadiusStatus::Creating) => unless_accepted(
            &rules.update_when_creating,
            format!("RADIUS settings of directory {id} are being changed."),
        )?,
        Some(RadiusStatus::Failed) => unless_accepted(
            &rules.update_when_failed,
            format!("RADIUS of directory {id} has failed."),
        )?,
        Some(RadiusStatus::Completed) => {}
    }
    put(world, asked, &id, settings, "UpdateRadius");
    Ok(())
}

pub(super) fn disable(world: &mut World, asked: &Asked<'_>) -> Result<(), Exception> {
    let id = read_id(world, asked)?;
    writable(world, &id, asked.region)?;
    let rules = &world.settings;
    match directory_in(world, &id, asked.region)?
        .radius
        .get(asked.region)
        .map(|radius| radius.status)
    {
        None => unless_accepted(
            &rules.disable_without_radius,
            format!("RADIUS is not enabled for directory {id}."),
        )?,
        Some(RadiusStatus::Creating) => unless_accepted(
            &rules.disable_when_creating,
            format!("RADIUS settings of directory {id} are being changed."),
        )?,
        Some(_) => {}
    }
    if let Some(directory) = world.directories.get_mut(&id) {
        directory.keep_before(asked.region, asked.now);
        directory.radius.remove(asked.region);
        directory.end_change(asked.region, "disabled", asked.now);
    }
    Ok(())
}

fn read_id(world: &World, asked: &Asked<'_>) -> Result<String, Exception> {
    let mut members = Members::of(asked.members, "");
    members.require("DirectoryId");
    let pattern = ("^d-[0-9a-f]{10}$", is_directory_id as fn(&str) -> bool);
    let id = members.text("DirectoryId", (0, usize::MAX), Some(pattern), false)?;
    members.finish(&world.settings.constraint_error)?;
    Ok(id.unwrap_or_default().to_owned())
}

fn read(world: &World, asked: &Asked<'_>) -> Result<(String, RadiusSettings), Exception> {
    let mut members = Members::of(asked.members, "");
    members.require("RadiusSettings");
    let given = members.structure("RadiusSettings")?;
    members.finish(&world.settings.constraint_error)?;
    let id = read_id(world, asked)?;
    let empty = serde_json::Map::new();
    let settings = RadiusSettings::of(given.unwrap_or(&empty), &world.settings)?;
    writable(world, &id, asked.region)?;
    Ok((id, settings))
}

/// Refuses directories that have no RADIUS, or whose RADIUS is somebody else's.
fn writable(world: &World, id: &str, region: &str) -> Result<(), Exception> {
    let rules = &world.settings;
    let directory = directory_in(world, id, region)?;
    if directory.has_no_radius() {
        unless_accepted(
            &rules.radius_on_simple_ad,
            format!("RADIUS is not supported for SimpleAD directory {id}."),
        )?;
    }
    if directory.spec.kind == DirectoryType::SharedMicrosoftAD {
        let owner = &directory.spec.owner_account;
        unless_accepted(
            &rules.radius_on_shared,
            format!("Directory {id} is shared from account {owner}: only its owner can change RADIUS."),
        )?;
    }
    if directory.spec.stage != Stage::Active {
        let stage = directory.spec.stage;
        unless_accepted(
            match stage {
                Stage::Impaired => &rules.radius_when_impaired,
                _ => &rules.radius_when_not_active,
            },
            format!("Directory {id} is in stage {stage:?}: it must be Active."),
        )?;
    }
    Ok(())
}

fn put(world: &mut World, asked: &Asked<'_>, id: &str, settings: RadiusSettings, operation: &str) {
    let generation = world.next_generation();
    let at_once = world.settings.probe.mode == ProbeMode::Complete;
    let Some(directory) = world.directories.get_mut(id) else {
        return;
    };
    directory.keep_before(asked.region, asked.now);
    let previous = directory
        .radius
        .remove(asked.region)
        .map(|radius| match radius.status {
            RadiusStatus::Creating => radius.previous.unwrap_or(radius.settings),
            _ => radius.settings,
        });
    let radius = Radius {
        settings,
        previous,
        status: if at_once {
            RadiusStatus::Completed
        } else {
            RadiusStatus::Creating
        },
        since: asked.now,
        operation: operation.to_owned(),
        generation,
        probes: Vec::new(),
    };
    directory.radius.insert(asked.region.to_owned(), radius);
    match at_once {
        true => directory.end_change(asked.region, "Completed", asked.now),
        false => directory.begin_change(asked.region, operation, asked.now),
    }
}
