//! One round of questions for many directories of one region and role: as few calls as it takes.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_directory::types::DirectoryDescription;
use jiff::Timestamp;
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::plan::LONGEST_ANSWER;

use super::calls::Calls;
use super::convert::{self, Described, Details};
use super::failure;

/// Ids in one call.
const MOST_IDS: usize = 100;
/// Domain controllers that come or go are looked at again after this.
const CHANGING: Duration = Duration::from_secs(30);
/// Tags are asked for every so many times as seldom as domain controllers: nobody waits for them.
const TAGS: u32 = 10;
/// How long AWS may take to tell the domain controllers of a directory anew: all others of its region and role wait.
const RENEWAL: Duration = Duration::from_secs(15);

/// How often the domain controllers of each directory are asked for, when so many directories share the calls of a
/// region and role. Each costs a call, so that they take at most half of the calls, and come more seldom instead.
pub(super) fn detail_interval(wanted: Duration, directories: usize, calls_per_second: u32) -> Duration {
    let directories = u32::try_from(directories).unwrap_or(u32::MAX);
    let fair = Duration::from_secs(1).saturating_mul(directories) * 2 / calls_per_second.max(1);
    wanted.max(fair)
}

/// What was asked for beside the description, and when.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) details: Details,
    controllers_at: Option<Instant>,
    tags_at: Option<Instant>,
    print: Option<convert::Print>,
}

/// Whether details have to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// What is known will do.
    Nothing,
    /// What is known will do until they are there.
    Later,
    /// Before anything is told: they are not known, or not those of what was described now.
    First,
}

impl Known {
    /// Whether details are due, now that the directory is described so.
    pub(super) fn due(&self, description: &DirectoryDescription, now: Instant, interval: Duration) -> Due {
        if !convert::has_details(description) || self.points_to_a_change(description) {
            return Due::First;
        }
        let controllers =
            convert::has_controllers(description) && self.controllers_due(description, now, interval);
        if controllers || self.tags_due(description, now, interval) {
            Due::Later
        } else {
            Due::Nothing
        }
    }

    /// When the domain controllers were last asked for.
    pub(super) const fn controllers_at(&self) -> Option<Instant> {
        self.controllers_at
    }

    /// Tags were written.
    pub(super) const fn forget_tags(&mut self) {
        self.tags_at = None;
    }

    fn points_to_a_change(&self, description: &DirectoryDescription) -> bool {
        self.print.as_ref() != Some(&convert::print(description))
    }

    fn controllers_due(&self, description: &DirectoryDescription, now: Instant, interval: Duration) -> bool {
        let wait = if self.details.changing {
            interval.min(CHANGING)
        } else {
            interval
        };
        self.points_to_a_change(description) || self.controllers_at.is_none_or(|at| now >= at + wait)
    }

    fn tags_due(&self, description: &DirectoryDescription, now: Instant, interval: Duration) -> bool {
        self.points_to_a_change(description) || self.tags_at.is_none_or(|at| now >= at + interval * TAGS)
    }
}

/// Describes every id, each with its own result. `alone` names those that get a call of their own because they failed
/// before: one unknown id fails a whole call.
pub(super) async fn describe(
    calls: Calls<'_>,
    ids: &[String],
    alone: &(dyn Fn(&str) -> bool + Sync),
) -> HashMap<String, Result<Described, AwsFailure>> {
    let (single, many): (Vec<String>, Vec<String>) = ids.iter().cloned().partition(|id| alone(id));
    let mut open: Vec<Vec<String>> = many.chunks(MOST_IDS).map(<[String]>::to_vec).collect();
    open.extend(single.into_iter().map(|id| vec![id]));
    let mut results = HashMap::new();
    while let Some(chunk) = open.pop() {
        let asked = Timestamp::now();
        match calls.describe(&chunk).await {
            Ok(found) => sort_in(&mut results, chunk, found, asked),
            Err(failed) if chunk.len() > 1 && may_be_one_id(failed.class) => {
                let (left, right) = chunk.split_at(chunk.len() / 2);
                open.extend([right.to_vec(), left.to_vec()]);
            }
            Err(failed) => {
                // What is true of the account is true of every id: nothing more is asked in this round.
                let all = !may_be_one_id(failed.class);
                results.extend(chunk.into_iter().map(|id| (id, Err(failed.clone()))));
                if all {
                    let rest = open.drain(..).flatten();
                    results.extend(rest.map(|id| (id, Err(failed.clone()))));
                }
            }
        }
    }
    results
}

/// Whether one id of several can be the reason.
const fn may_be_one_id(class: AwsErrorClass) -> bool {
    matches!(
        class,
        AwsErrorClass::NotFound
            | AwsErrorClass::InvalidParameter
            | AwsErrorClass::AccessDenied
            | AwsErrorClass::Refused
    )
}

fn sort_in(
    results: &mut HashMap<String, Result<Described, AwsFailure>>,
    ids: Vec<String>,
    found: Vec<DirectoryDescription>,
    asked: Timestamp,
) {
    let (answered, ended) = (Timestamp::now(), Instant::now());
    let mut by_id: BTreeMap<String, DirectoryDescription> = found
        .into_iter()
        .filter_map(|description| Some((description.directory_id.clone()?, description)))
        .collect();
    for id in ids {
        let described = by_id.remove(&id).map(|description| Described {
            description,
            asked,
            answered,
            ended,
        });
        let result = described.ok_or_else(|| {
            failure::own(
                AwsOperation::DescribeDirectories,
                AwsErrorClass::NotFound,
                format!("AWS does not know {id} in this account and region"),
            )
        });
        results.insert(id, result);
    }
}

/// Asks for domain controllers and tags when it is time.
///
/// # Errors
/// The domain controllers could not be asked for and were never known: without them, logins from some of them would be
/// dropped as coming from strangers.
pub(super) async fn details(
    calls: Calls<'_>,
    description: &DirectoryDescription,
    known: &mut Known,
    now: Instant,
    interval: Duration,
) -> Result<(), AwsFailure> {
    let Some(id) = description.directory_id() else {
        return Ok(());
    };
    if !convert::has_details(description) {
        known.details = Details::default();
        return Ok(());
    }
    let tags_due = known.tags_due(description, now, interval);
    if convert::has_controllers(description) && known.controllers_due(description, now, interval) {
        // Without them nothing can be done, so that an AWS that takes long is waited for. Those that are known will do.
        let deadline = known.controllers_at.map_or(LONGEST_ANSWER, |_| RENEWAL);
        match calls.controllers(id, deadline).await {
            Ok(found) => {
                let desired = description.desired_number_of_domain_controllers();
                (known.details.controllers, known.details.changing) = convert::controllers(&found, desired);
            }
            Err(failed) if failed.class == AwsErrorClass::Unsupported => known.details.controllers.clear(),
            Err(failed) if known.controllers_at.is_none() => return Err(failed),
            Err(failed) => {
                tracing::warn!(directory = id, %failed, "keeping the domain controllers that were known");
            }
        }
        known.controllers_at = Some(now);
    }
    if tags_due {
        known.details.tags = match calls.tags(id, LONGEST_ANSWER).await {
            Ok(tags) => Some(tags),
            Err(failed) => {
                tracing::warn!(directory = id, %failed, "could not read the directory's tags");
                None
            }
        };
        known.tags_at = Some(now);
    }
    known.print = Some(convert::print(description));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn description() -> aws_sdk_directory::types::builders::DirectoryDescriptionBuilder {
        DirectoryDescription::builder()
            .dns_ip_addrs("10.0.0.1")
            .desired_number_of_domain_controllers(2)
    }

    fn known(at: Instant) -> Known {
        Known {
            controllers_at: Some(at),
            tags_at: Some(at),
            print: Some(convert::print(&description().build())),
            ..Known::default()
        }
    }

    #[test]
    fn domain_controllers_are_asked_for_each_interval_and_tags_more_seldom() {
        let (at, description) = (Instant::now(), description().build());
        let known = known(at);
        assert!(!known.controllers_due(&description, at + 29 * S, 30 * S));
        assert!(known.controllers_due(&description, at + 30 * S, 30 * S));
        assert!(!known.tags_due(&description, at + 299 * S, 30 * S));
        assert!(known.tags_due(&description, at + 300 * S, 30 * S));
    }

    #[test]
    fn both_are_asked_for_at_once_when_the_description_points_to_a_change() {
        let at = Instant::now();
        for changed in [
            description().dns_ip_addrs("10.0.0.2"),
            description().desired_number_of_domain_controllers(3),
            description().stage_last_updated_date_time(aws_sdk_directory::primitives::DateTime::from_secs(9)),
        ] {
            let changed = changed.build();
            assert!(known(at).controllers_due(&changed, at, 300 * S));
            assert!(known(at).tags_due(&changed, at, 300 * S));
        }
    }

    #[test]
    fn domain_controllers_that_come_or_go_are_looked_at_again_soon() {
        let (at, description) = (Instant::now(), description().build());
        let mut known = known(at);
        known.details.changing = true;
        assert!(known.controllers_due(&description, at + 30 * S, 600 * S));
        assert!(!known.tags_due(&description, at + 30 * S, 600 * S));
    }

    #[test]
    fn many_directories_share_half_of_the_calls_that_are_allowed() {
        assert_eq!(detail_interval(30 * S, 20, 4), 30 * S);
        assert_eq!(detail_interval(30 * S, 1000, 4), 500 * S);
        assert_eq!(detail_interval(30 * S, 0, 0), 30 * S);
    }
}
