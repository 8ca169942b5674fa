//! One round of questions for many directories of one region and role: as few calls as it takes.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_directory::types::DirectoryDescription;
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};

use super::calls::Calls;
use super::convert::{self, Details};
use super::failure;

/// Ids in one call.
const MOST_IDS: usize = 100;
/// Domain controllers that come or go are looked at again after this.
const CHANGING: Duration = Duration::from_secs(30);

/// What was asked for beside the description, and when.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) details: Details,
    at: Option<Instant>,
    print: Option<(Vec<String>, Option<i32>, Option<String>)>,
}

impl Known {
    /// Tags were written.
    pub(super) const fn forget(&mut self) {
        self.at = None;
    }

    fn due(&self, description: &DirectoryDescription, now: Instant, interval: Duration) -> bool {
        let wait = if self.details.changing {
            interval.min(CHANGING)
        } else {
            interval
        };
        self.print.as_ref() != Some(&convert::address_print(description))
            || self.at.is_none_or(|at| now >= at + wait)
    }
}

/// Describes every id, each with its own result. `alone` names those that get a call of their own because they failed
/// before: one unknown id fails a whole call.
pub(super) async fn describe(
    calls: Calls<'_>,
    ids: &[String],
    alone: &(dyn Fn(&str) -> bool + Sync),
) -> HashMap<String, Result<DirectoryDescription, AwsFailure>> {
    let (single, many): (Vec<String>, Vec<String>) = ids.iter().cloned().partition(|id| alone(id));
    let mut open: Vec<Vec<String>> = many.chunks(MOST_IDS).map(<[String]>::to_vec).collect();
    open.extend(single.into_iter().map(|id| vec![id]));
    let mut results = HashMap::new();
    while let Some(chunk) = open.pop() {
        match calls.describe(&chunk).await {
            Ok(found) => sort_in(&mut results, chunk, found),
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
    results: &mut HashMap<String, Result<DirectoryDescription, AwsFailure>>,
    ids: Vec<String>,
    found: Vec<DirectoryDescription>,
) {
    let mut by_id: BTreeMap<String, DirectoryDescription> = found
        .into_iter()
        .filter_map(|description| Some((description.directory_id.clone()?, description)))
        .collect();
    for id in ids {
        let result = by_id.remove(&id).ok_or_else(|| {
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
    if !known.due(description, now, interval) {
        return Ok(());
    }
    if convert::has_controllers(description) {
        match calls.controllers(id).await {
            Ok(found) => {
                let desired = description.desired_number_of_domain_controllers();
                (known.details.controllers, known.details.changing) = convert::controllers(&found, desired);
            }
            Err(failed) if failed.class == AwsErrorClass::Unsupported => known.details.controllers.clear(),
            Err(failed) if known.at.is_none() => return Err(failed),
            Err(failed) => {
                tracing::warn!(directory = id, %failed, "keeping the domain controllers that were known");
            }
        }
    }
    known.details.tags = match calls.tags(id).await {
        Ok(tags) => Some(tags),
        Err(failed) => {
            tracing::warn!(directory = id, %failed, "could not read the directory's tags");
            None
        }
    };
    known.at = Some(now);
    known.print = Some(convert::address_print(description));
    Ok(())
}
