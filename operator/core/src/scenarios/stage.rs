//! Stages of the directory other than Active: AWS decides whether it takes a write.

use std::time::Duration;

use super::world::World;
use crate::api::DeletionPolicy;

/// Stages in which the directory exists and somebody may log in.
const WRITTEN_TO: [&str; 4] = ["Impaired", "Inoperable", "Updating", "OneThatIsNew"];
/// Stages in which a write makes no sense.
const WAITED_FOR: [&str; 8] = [
    "Requested",
    "Creating",
    "Created",
    "Restoring",
    "RestoreFailed",
    "Deleting",
    "Deleted",
    "Failed",
];

fn staged(stage: &str, refuses: bool) -> World {
    let mut world = World::new();
    world.aws.stage = Some(stage.to_owned());
    world.aws.refuses_stage = refuses;
    world
}

fn disable(world: &mut World) {
    world.edit(|proxy| proxy.spec.directory.as_mut().unwrap().deletion_policy = DeletionPolicy::Disable);
}

#[test]
fn an_impaired_directory_is_written_to_and_the_condition_tells_its_stage() {
    for stage in WRITTEN_TO {
        let mut world = staged(stage, false);
        world.run_until(World::is_ready);
        let (_, _, message) = world.condition("Registered");
        assert!(message.contains(&format!("stage is {stage}")), "{message}");
        world.kill_pod(0);
        world.run_until(|w| w.aws.writes.len() == 2);
        world.run_until(World::is_ready);
        world.aws.stage = None;
        world.run_for(Duration::from_secs(3600));
        assert_eq!(world.aws.writes.len(), 2, "{stage}");
        assert!(!world.condition("Registered").2.contains("stage is"), "{stage}");
    }
}

#[test]
fn what_aws_refuses_while_impaired_is_tried_seldom_and_at_once_when_the_stage_is_active() {
    for stage in WRITTEN_TO {
        let mut world = staged(stage, true);
        world.run_for(Duration::from_secs(3600));
        let (status, reason, message) = world.condition("Registered");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "AwsRefused"),
            "{stage}"
        );
        assert!(message.contains(&format!("stage is {stage}")), "{message}");
        assert!((2..20).contains(&world.aws.asked), "{}", world.aws.asked);
        world.aws.stage = None;
        let active = world.now;
        world.run_until(World::is_ready);
        let took = world.now.duration_since(active).as_secs();
        assert!(took < 180, "{stage}: {took}");
        assert_eq!(world.aws.writes.len(), 1);
    }
}

#[test]
fn a_directory_in_a_stage_in_which_a_write_makes_no_sense_is_waited_for() {
    for stage in WAITED_FOR {
        let mut world = staged(stage, true);
        world.run_for(Duration::from_secs(600));
        let (_, reason, message) = world.condition("Registered");
        assert_eq!(
            (reason.as_str(), world.aws.asked),
            ("DirectoryNotActive", 0),
            "{stage}"
        );
        assert!(message.contains(&format!("stage is {stage}")), "{message}");
        world.aws.stage = None;
        world.run_until(World::is_ready);
    }
}

#[test]
fn radius_is_switched_off_in_an_impaired_directory_or_when_aws_takes_it() {
    for refuses in [false, true] {
        let mut world = World::new();
        disable(&mut world);
        world.run_until(World::is_ready);
        world.aws.stage = Some("Impaired".to_owned());
        world.aws.refuses_stage = refuses;
        world.delete();
        world.run_for(Duration::from_secs(1200));
        assert_eq!(world.gone, !refuses);
        if refuses {
            let (_, reason, message) = world.condition("Registered");
            assert_eq!(reason, "AwsRefused");
            assert!(
                message.contains("stage is Impaired") && message.contains("annotate"),
                "{message}"
            );
            assert!(world.aws.asked < 20, "{}", world.aws.asked);
            world.aws.stage = None;
            world.run_until(World::has_ended);
        }
        assert_eq!(world.aws.status, None);
    }
}

#[test]
fn a_deletion_waits_while_aws_restores_the_directory() {
    let mut world = World::new();
    disable(&mut world);
    world.run_until(World::is_ready);
    world.aws.stage = Some("Restoring".to_owned());
    world.delete();
    world.run_for(Duration::from_secs(600));
    let (_, reason, message) = world.condition("Registered");
    assert_eq!((reason.as_str(), world.aws.asked), ("DirectoryNotActive", 1));
    assert!(
        message.contains("stage is Restoring") && message.contains("annotate"),
        "{message}"
    );
    world.aws.stage = None;
    world.run_until(World::has_ended);
    assert_eq!(world.aws.status, None);
}
