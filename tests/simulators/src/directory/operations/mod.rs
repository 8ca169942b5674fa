//! The operations of the Directory Service: each a synchronous function of the world and a request.

mod describe;
mod radius;
mod tags;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{exception::Exception, settings::ACCEPT, world::World};

/// Who asks, where and when.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) region: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) members: &'a Map<String, Value>,
}

/// What is known of the service's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    EnableRadius,
    UpdateRadius,
    DisableRadius,
    DescribeDirectories,
    DescribeDomainControllers,
    DescribeRegions,
    AddTagsToResource,
    RemoveTagsFromResource,
    ListTagsForResource,
}

impl Operation {
    const ALL: [(Self, &'static str); 9] = [
        (Self::EnableRadius, "EnableRadius"),
        (Self::UpdateRadius, "UpdateRadius"),
        (Self::DisableRadius, "DisableRadius"),
        (Self::DescribeDirectories, "DescribeDirectories"),
        (Self::DescribeDomainControllers, "DescribeDomainControllers"),
        (Self::DescribeRegions, "DescribeRegions"),
        (Self::AddTagsToResource, "AddTagsToResource"),
        (Self::RemoveTagsFromResource, "RemoveTagsFromResource"),
        (Self::ListTagsForResource, "ListTagsForResource"),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(operation, _)| *operation)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(operation, _)| *operation == self)
            .map_or("", |(_, name)| name)
    }

    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Self::EnableRadius
                | Self::UpdateRadius
                | Self::DisableRadius
                | Self::AddTagsToResource
                | Self::RemoveTagsFromResource
        )
    }

    /// Whether it concerns RADIUS settings, so that controllers must hear of it.
    pub(crate) fn changes_radius(self) -> bool {
        matches!(
            self,
            Self::EnableRadius | Self::UpdateRadius | Self::DisableRadius
        )
    }

    /// Whether IAM policies can name a directory for it.
    pub(crate) fn has_resource(self) -> bool {
        self != Self::DescribeDirectories
    }

    /// Carries it out; `None` is an empty answer.
    pub(crate) fn run(self, world: &mut World, asked: &Asked<'_>) -> Result<Option<Value>, Exception> {
        match self {
            Self::EnableRadius => radius::enable(world, asked).map(|()| None),
            Self::UpdateRadius => radius::update(world, asked).map(|()| None),
            Self::DisableRadius => radius::disable(world, asked).map(|()| None),
            Self::DescribeDirectories => describe::directories(world, asked).map(Some),
            Self::DescribeDomainControllers => describe::domain_controllers(world, asked).map(Some),
            Self::DescribeRegions => describe::regions(world, asked).map(Some),
            Self::AddTagsToResource => tags::add(world, asked).map(|()| None),
            Self::RemoveTagsFromResource => tags::remove(world, asked).map(|()| None),
            Self::ListTagsForResource => tags::list(world, asked).map(Some),
        }
    }
}

/// A setting that is an exception's name or `accept`.
fn unless_accepted(setting: &str, message: impl Into<String>) -> Result<(), Exception> {
    match setting {
        ACCEPT => Ok(()),
        name => Err(Exception::new(name, message)),
    }
}

/// The directory, if it is there in the region.
fn directory_in<'w>(
    world: &'w World,
    id: &str,
    region: &str,
) -> Result<&'w super::world::Directory, Exception> {
    world
        .directories
        .get(id)
        .filter(|directory| directory.spec.is_in(region))
        .ok_or_else(|| Exception::no_directory(id))
}

/// One page of entries that are in order of their keys.
struct Page<T> {
    entries: Vec<T>,
    next: Option<String>,
}

/// Cuts a page out of ordered entries. The token names the last key that was sent; a token of another operation, or of nobody,
/// is refused.
fn page<T>(
    entries: impl IntoIterator<Item = (String, T)>,
    operation: &str,
    members: &Map<String, Value>,
    largest: usize,
) -> Result<Page<T>, Exception> {
    let after = match members.get("NextToken").filter(|token| !token.is_null()) {
        None => None,
        Some(token) => Some(read_token(token, operation).ok_or_else(|| {
            Exception::new("InvalidNextTokenException", "The NextToken value is not valid.")
        })?),
    };
    let limit = members
        .get("Limit")
        .and_then(Value::as_u64)
        .and_then(|limit| usize::try_from(limit).ok());
    let limit = limit
        .filter(|limit| *limit > 0)
        .map_or(largest, |limit| limit.min(largest))
        .max(1);
    let rest = entries
        .into_iter()
        .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
    let mut page: Vec<(String, T)> = rest.take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page
        .last()
        .filter(|_| more)
        .map(|(key, _)| hex::encode(format!("{operation}/{key}")));
    Ok(Page {
        entries: page.into_iter().map(|(_, entry)| entry).collect(),
        next,
    })
}

fn read_token(token: &Value, operation: &str) -> Option<String> {
    let text = String::from_utf8(hex::decode(token.as_str()?).ok()?).ok()?;
    text.strip_prefix(operation)?.strip_prefix('/').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pages_follow_each_other_and_end() {
        let entries = || (0..5).map(|number| (format!("k{number}"), number));
        let mut members = json!({"Limit": 2}).as_object().unwrap().clone();
        let mut seen = Vec::new();
        loop {
            let page = page(entries(), "List", &members, 100).unwrap();
            seen.extend(page.entries);
            match page.next {
                Some(next) => members.insert("NextToken".into(), json!(next)),
                None => break,
            };
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_token_of_another_operation_is_refused() {
        let token = hex::encode("Other/k1");
        let members = json!({"NextToken": token}).as_object().unwrap().clone();
        let refused = page([("k".to_owned(), 1)], "List", &members, 100).err().unwrap();
        assert_eq!(refused.name, "InvalidNextTokenException");
    }

    fn world(stage: &str, settings: &Value) -> World {
        let directory = json!({"id": "d-0123456789", "type": "MicrosoftAD", "stage": stage});
        let config = json!({"settings": settings, "directories": [directory]});
        let config = serde_json::from_value(config).unwrap();
        World::of(&config, "key".to_owned(), Timestamp::UNIX_EPOCH)
    }

    fn run(
        world: &mut World,
        operation: Operation,
        at_ms: i64,
        timeout: Option<u32>,
    ) -> Result<Value, String> {
        let mut members = json!({"DirectoryId": "d-0123456789"});
        if let Some(timeout) = timeout {
            members["RadiusSettings"] = json!({
                "RadiusServers": ["10.0.0.1"], "RadiusPort": 1812, "RadiusTimeout": timeout, "RadiusRetries": 1,
                "SharedSecret": "a-shared-secret", "AuthenticationProtocol": "PAP", "DisplayLabel": "MFA",
            });
        }
        if operation == Operation::DescribeDirectories {
            members = json!({});
        }
        let asked = Asked {
            region: "eu-central-1",
            now: Timestamp::from_millisecond(at_ms).unwrap(),
            members: members.as_object().unwrap(),
        };
        match operation.run(world, &asked) {
            Ok(answer) => Ok(answer.unwrap_or(Value::Null)),
            Err(exception) => Err(exception.name),
        }
    }

    #[test]
    fn an_impaired_directory_accepts_or_refuses_a_write() {
        let enable = |settings| {
            let world = &mut world("Impaired", &settings);
            run(world, Operation::EnableRadius, 0, Some(20)).map(|_| ())
        };
        assert_eq!(enable(json!({})), Err("ClientException".to_owned()));
        let other = json!({"radius_when_impaired": "ServiceException"});
        assert_eq!(enable(other), Err("ServiceException".to_owned()));
        assert_eq!(enable(json!({"radius_when_impaired": "accept"})), Ok(()));
        // Of the other stages it says nothing.
        let world = &mut world("Inoperable", &json!({"radius_when_impaired": "accept"}));
        let refused = run(world, Operation::EnableRadius, 0, Some(20));
        assert_eq!(refused, Err("ClientException".to_owned()));
    }

    fn shown(world: &mut World, at_ms: i64) -> (Option<u64>, Option<String>) {
        let all = run(world, Operation::DescribeDirectories, at_ms, None).unwrap();
        let directory = &all["DirectoryDescriptions"][0];
        let timeout = directory["RadiusSettings"]["RadiusTimeout"].as_u64();
        (timeout, directory["RadiusStatus"].as_str().map(str::to_owned))
    }

    #[test]
    fn a_description_can_be_old_and_new_in_turn_for_a_while() {
        let settings = json!({
            "description_lag_ms": 4000, "description_alternates": true, "probe": {"mode": "complete"}});
        let world = &mut world("Active", &settings);
        run(world, Operation::EnableRadius, 0, Some(20)).unwrap();
        run(world, Operation::UpdateRadius, 10_000, Some(10)).unwrap();
        let timeouts = [10_999, 11_000, 12_000, 13_999, 14_000].map(|at| shown(world, at).0);
        assert_eq!(timeouts, [10, 20, 10, 20, 10].map(Some));
    }

    #[test]
    fn a_description_can_be_one_write_old_for_a_while() {
        let settings = json!({"description_lag_ms": 1000, "probe": {"mode": "complete"}});
        let world = &mut world("Active", &settings);
        run(world, Operation::EnableRadius, 0, Some(20)).unwrap();
        assert_eq!(shown(world, 999), (None, None));
        assert_eq!(shown(world, 1000), (Some(20), Some("Completed".to_owned())));
        run(world, Operation::UpdateRadius, 5000, Some(10)).unwrap();
        assert_eq!(shown(world, 5999).0, Some(20));
        assert_eq!(shown(world, 6000).0, Some(10));
        run(world, Operation::DisableRadius, 9000, None).unwrap();
        assert_eq!(shown(world, 9999).0, Some(10));
        assert_eq!(shown(world, 10_000), (None, None));
    }
}
