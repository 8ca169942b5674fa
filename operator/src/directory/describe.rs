//! Describes many directories of one region and role in as few calls as possible.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_directory::types::DirectoryDescription;
use jiff::Timestamp;
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use operator_core::registration::LONGEST_ANSWER;

use super::calls::Calls;
use super::convert::{self, Described, Details};
use super::failure;

/// The most ids in one call.
const MAX_IDS: usize = 100;
/// While domain controllers are added or removed, they are read again after this time.
const CHANGING_INTERVAL: Duration = Duration::from_secs(30);
/// Tags are read this many times less often than domain controllers: nothing waits for them.
const TAGS_FACTOR: u32 = 10;
/// How long reading known domain controllers again may take: all other directories of the region and role wait meanwhile.
const REREAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the domain controllers of each directory are read, if this many directories share the calls of a region and
/// role. Each costs a call, so they use at most half of the calls and are read less often instead.
pub(super) fn detail_interval(wanted: Duration, directories: usize, calls_per_second: u32) -> Duration {
    let directories = u32::try_from(directories).unwrap_or(u32::MAX);
    let fair = Duration::from_secs(1).saturating_mul(directories) * 2 / calls_per_second.max(1);
    wanted.max(fair)
}

/// What was read in addition to the description, and when.
#[derive(Debug, Clone, Default)]
pub(super) struct CachedDetails {
    pub(super) current: Details,
    controllers_at: Option<Instant>,
    tags_at: Option<Instant>,
    print: Option<convert::Print>,
}

/// Whether details have to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The cached ones are recent enough.
    Nothing,
    /// The cached ones can be used until new ones arrive.
    Later,
    /// Before the directory is published: there are none, or they don't belong to the current description.
    First,
}

impl CachedDetails {
    /// Whether details are due with this description.
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

    /// When the domain controllers were last read.
    pub(super) const fn controllers_at(&self) -> Option<Instant> {
        self.controllers_at
    }

    /// Tags were written.
    pub(super) const fn forget_tags(&mut self) {
        self.tags_at = None;
    }

    /// Takes the answer to a call for tags. Without the permission they are unknown; after any other failure those of before
    /// stay as old as they are, and they are asked for with the next description.
    fn take_tags(
        &mut self,
        asked: Timestamp,
        now: Instant,
        answer: Result<BTreeMap<String, String>, AwsFailure>,
    ) {
        let tags = match answer {
            Ok(tags) => Some(tags),
            Err(failed) if failed.class == AwsErrorClass::AccessDenied => None,
            Err(_) => return,
        };
        (self.current.tags, self.current.tags_as_of) = (tags, Some(asked));
        self.tags_at = Some(now);
    }

    fn points_to_a_change(&self, description: &DirectoryDescription) -> bool {
        self.print.as_ref() != Some(&convert::print(description))
    }

    fn controllers_due(&self, description: &DirectoryDescription, now: Instant, interval: Duration) -> bool {
        let wait = if self.current.changing {
            interval.min(CHANGING_INTERVAL)
        } else {
            interval
        };
        self.points_to_a_change(description) || self.controllers_at.is_none_or(|at| now >= at + wait)
    }

    fn tags_due(&self, description: &DirectoryDescription, now: Instant, interval: Duration) -> bool {
        self.points_to_a_change(description)
            || self.tags_at.is_none_or(|at| now >= at + interval * TAGS_FACTOR)
    }
}

/// Describes every id, each with its own result. The ids that `alone` selects failed before and get a call of their own: one
/// unknown id fails a whole call.
pub(super) async fn describe(
    calls: Calls<'_>,
    ids: &[String],
    alone: &(dyn Fn(&str) -> bool + Sync),
) -> HashMap<String, Result<Described, AwsFailure>> {
    let (single, many): (Vec<String>, Vec<String>) = ids.iter().cloned().partition(|id| alone(id));
    let mut open: Vec<Vec<String>> = many.chunks(MAX_IDS).map(<[String]>::to_vec).collect();
    open.extend(single.into_iter().map(|id| vec![id]));
    let mut results = HashMap::new();
    while let Some(chunk) = open.pop() {
        let sent_at = Timestamp::now();
        match calls.describe(&chunk).await {
            Ok(found) => sort_in(&mut results, chunk, found, sent_at),
            Err(failed) if chunk.len() > 1 && may_be_one_id(failed.class) => {
                let (left, right) = chunk.split_at(chunk.len() / 2);
                open.extend([right.to_vec(), left.to_vec()]);
            }
            Err(failed) => {
                // What fails for the account fails for every id: this batch sends no more calls.
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
    sent_at: Timestamp,
) {
    let (answered, ended) = (Timestamp::now(), Instant::now());
    let mut by_id: BTreeMap<String, DirectoryDescription> = found
        .into_iter()
        .filter_map(|description| Some((description.directory_id.clone()?, description)))
        .collect();
    for id in ids {
        let described = by_id.remove(&id).map(|description| Described {
            description,
            sent_at,
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

/// Reads domain controllers and tags that are due.
///
/// # Errors
/// The domain controllers can't be read and were never known: without them, logins from some of them would be dropped as
/// coming from unknown clients.
pub(super) async fn details(
    calls: Calls<'_>,
    description: &DirectoryDescription,
    cached: &mut CachedDetails,
    now: Instant,
    interval: Duration,
) -> Result<(), AwsFailure> {
    let Some(id) = description.directory_id() else {
        return Ok(());
    };
    if !convert::has_details(description) {
        cached.current = Details::default();
        return Ok(());
    }
    let tags_due = cached.tags_due(description, now, interval);
    if convert::has_controllers(description) && cached.controllers_due(description, now, interval) {
        // Nothing works without them, so a slow answer is waited for. If they are known already, it isn't.
        let deadline = cached.controllers_at.map_or(LONGEST_ANSWER, |_| REREAD_TIMEOUT);
        match calls.controllers(id, deadline).await {
            Ok(found) => {
                let desired = description.desired_number_of_domain_controllers();
                (cached.current.controllers, cached.current.changing) = convert::controllers(&found, desired);
            }
            Err(failed) if failed.class == AwsErrorClass::Unsupported => cached.current.controllers.clear(),
            Err(failed) if cached.controllers_at.is_none() => return Err(failed),
            Err(failed) => {
                tracing::warn!(directory = id, %failed, "keeping the domain controllers that were known");
            }
        }
        cached.controllers_at = Some(now);
    }
    if tags_due {
        let asked = Timestamp::now();
        let answer = calls.tags(id, LONGEST_ANSWER).await;
        if let Err(failed) = &answer {
            tracing::warn!(directory = id, %failed, "could not read the directory's tags");
        }
        cached.take_tags(asked, now, answer);
    }
    cached.print = Some(convert::print(description));
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

    fn known(at: Instant) -> CachedDetails {
        CachedDetails {
            controllers_at: Some(at),
            tags_at: Some(at),
            print: Some(convert::print(&description().build())),
            ..CachedDetails::default()
        }
    }

    #[test]
    fn domain_controllers_are_read_each_interval_and_tags_less_often() {
        let (at, description) = (Instant::now(), description().build());
        let known = known(at);
        assert!(!known.controllers_due(&description, at + 29 * S, 30 * S));
        assert!(known.controllers_due(&description, at + 30 * S, 30 * S));
        assert!(!known.tags_due(&description, at + 299 * S, 30 * S));
        assert!(known.tags_due(&description, at + 300 * S, 30 * S));
    }

    #[test]
    fn both_are_read_at_once_when_the_description_points_to_a_change() {
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
    fn changing_domain_controllers_are_read_again_soon() {
        let (at, description) = (Instant::now(), description().build());
        let mut known = known(at);
        known.current.changing = true;
        assert!(known.controllers_due(&description, at + 30 * S, 600 * S));
        assert!(!known.tags_due(&description, at + 30 * S, 600 * S));
    }

    #[test]
    fn tags_that_cannot_be_read_for_a_moment_stay_as_old_as_they_are() {
        let (at, asked) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let failure = |class| failure::own(AwsOperation::ListTagsForResource, class, "no");
        let tags: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
        let mut known = known(at);
        known.take_tags(asked, at, Ok(tags.clone()));
        let later = asked + jiff::SignedDuration::from_secs(400);
        known.take_tags(later, at + 400 * S, Err(failure(AwsErrorClass::Unreachable)));
        assert_eq!(
            (known.current.tags.as_ref(), known.current.tags_as_of),
            (Some(&tags), Some(asked))
        );
        assert!(known.tags_due(&description().build(), at + 400 * S, 30 * S));
        known.take_tags(later, at + 400 * S, Err(failure(AwsErrorClass::AccessDenied)));
        assert_eq!(
            (&known.current.tags, known.current.tags_as_of),
            (&None, Some(later))
        );
    }

    #[test]
    fn many_directories_share_half_of_the_calls_that_are_allowed() {
        assert_eq!(detail_interval(30 * S, 20, 4), 30 * S);
        assert_eq!(detail_interval(30 * S, 1000, 4), 500 * S);
        assert_eq!(detail_interval(30 * S, 0, 0), 30 * S);
    }
}
