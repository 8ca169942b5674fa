//! What AWS documents nowhere of its RADIUS client, and every value of it.

/// What a retry to the same server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Everything,
    IdentifierAndPort,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Fixed,
    Random,
    RoundRobin,
    AllAtOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signs {
    Always,
    Never,
    ProbeOnly,
}

/// A directory, as AWS may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    pub(super) retry: Retry,
    /// Of RadiusTimeout.
    pub(super) interval_percent: u64,
    pub(super) order: Order,
    /// All tries go to one server before the next is asked.
    pub(super) one_server_first: bool,
    /// When the other domain controller continues a login, if it does.
    pub(super) takeover_seconds: Option<u64>,
    /// How long a login is waited for; `None`: RadiusTimeout for each try.
    pub(super) patience_seconds: Option<u64>,
    pub(super) signs: Signs,
    pub(super) probe_user: &'static str,
    pub(super) reject_is_dead: bool,
}

/// Where an unknown is not varied it has its first value.
pub(super) const USUAL: Directory = Directory {
    retry: Retry::Nothing,
    interval_percent: 100,
    order: Order::Fixed,
    one_server_first: false,
    takeover_seconds: None,
    patience_seconds: None,
    signs: Signs::Always,
    probe_user: "fakeusername",
    reject_is_dead: false,
};

pub(super) struct Value {
    pub(super) name: &'static str,
    pub(super) set: fn(&mut Directory),
}

pub(super) struct Unknown {
    pub(super) name: &'static str,
    pub(super) values: &'static [Value],
}

const fn value(name: &'static str, set: fn(&mut Directory)) -> Value {
    Value { name, set }
}

/// Probes of another name than the known ones are what this directory asks with.
pub(super) const OTHER_PROBE_USER: &str = "awsprobe";

pub(super) const UNKNOWNS: &[Unknown] = &[
    Unknown {
        name: "A retry keeps",
        values: &[
            value("nothing", |d| d.retry = Retry::Nothing),
            value("identifier and port", |d| d.retry = Retry::IdentifierAndPort),
            value("identifier, port and authenticator", |d| {
                d.retry = Retry::Everything;
            }),
        ],
    },
    Unknown {
        name: "A retry follows after",
        values: &[
            value("100 % of the timeout", |d| d.interval_percent = 100),
            value("95 % of the timeout", |d| d.interval_percent = 95),
            value("50 % of the timeout", |d| d.interval_percent = 50),
        ],
    },
    Unknown {
        name: "Order of the servers",
        values: &[
            value("fixed", |d| d.order = Order::Fixed),
            value("random", |d| d.order = Order::Random),
            value("round robin", |d| d.order = Order::RoundRobin),
            value("all servers at once", |d| d.order = Order::AllAtOnce),
        ],
    },
    Unknown {
        name: "A retry goes to",
        values: &[
            value("the next server", |d| d.one_server_first = false),
            value("the same server until its tries are used up", |d| {
                d.one_server_first = true;
            }),
        ],
    },
    Unknown {
        name: "Another domain controller",
        values: &[
            value("never continues a login", |d| d.takeover_seconds = None),
            value("continues a login after 12 s", |d| d.takeover_seconds = Some(12)),
            value("continues a login with the second try", |d| {
                d.takeover_seconds = Some(20);
            }),
            value("continues a login after 22 s", |d| d.takeover_seconds = Some(22)),
        ],
    },
    Unknown {
        name: "Total patience",
        values: &[
            value("timeout × (retries + 1)", |d| d.patience_seconds = None),
            value("15 s", |d| d.patience_seconds = Some(15)),
            value("40 s", |d| d.patience_seconds = Some(40)),
            value("60 s", |d| d.patience_seconds = Some(60)),
        ],
    },
    Unknown {
        name: "Message-Authenticator",
        values: &[
            value("always", |d| d.signs = Signs::Always),
            value("never", |d| d.signs = Signs::Never),
            value("only in the probe", |d| d.signs = Signs::ProbeOnly),
        ],
    },
    Unknown {
        name: "User of the probe",
        values: &[
            value("`fakeusername`", |d| d.probe_user = "fakeusername"),
            value("another name", |d| d.probe_user = OTHER_PROBE_USER),
        ],
    },
    Unknown {
        name: "A Reject of the probe counts as",
        values: &[
            value("alive", |d| d.reject_is_dead = false),
            value("dead", |d| d.reject_is_dead = true),
        ],
    },
];

/// A value of one unknown, or of two.
pub(super) type Choice = Vec<(usize, usize)>;

/// Every value, all else being usual.
pub(super) fn single() -> Vec<Choice> {
    let of = |unknown: usize| (0..UNKNOWNS[unknown].values.len()).map(move |value| vec![(unknown, value)]);
    (0..UNKNOWNS.len()).flat_map(of).collect()
}

/// Every pair of values of two unknowns.
pub(super) fn pairs() -> Vec<Choice> {
    let single = single();
    let mut pairs = Vec::new();
    for (at, one) in single.iter().enumerate() {
        for other in single[at + 1..].iter().filter(|other| other[0].0 != one[0].0) {
            pairs.push(vec![one[0], other[0]]);
        }
    }
    pairs
}

pub(super) fn directory(choice: &Choice) -> Directory {
    let mut directory = USUAL;
    for (unknown, value) in choice {
        (UNKNOWNS[*unknown].values[*value].set)(&mut directory);
    }
    directory
}

pub(super) fn name(choice: &Choice) -> String {
    let words = choice.iter().map(|(unknown, value)| {
        format!(
            "{}: {}",
            UNKNOWNS[*unknown].name, UNKNOWNS[*unknown].values[*value].name
        )
    });
    words.collect::<Vec<_>>().join("; ")
}

#[test]
fn every_pair_of_values_is_there_once() {
    let sizes: Vec<usize> = UNKNOWNS.iter().map(|unknown| unknown.values.len()).collect();
    let (all, squares): (usize, usize) = (sizes.iter().sum(), sizes.iter().map(|size| size * size).sum());
    let pairs = pairs();
    assert_eq!(pairs.len(), (all * all - squares) / 2);
    let distinct: std::collections::BTreeSet<_> = pairs.iter().collect();
    assert_eq!(distinct.len(), pairs.len());
}
