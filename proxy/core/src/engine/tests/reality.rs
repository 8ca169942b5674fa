//! What AWS documents nowhere: logins by push and by code with every value of it, and with every pair of values, in
//! virtual time against two proxies. `docs/aws-unknowns.md` is what came of it.

mod person;
mod provider;
mod site;
mod table;
mod unknowns;

use person::Method;
use site::{Factor, Person, Site};
use unknowns::{Choice, Directory, Order, Retry};

/// Random orders and turns are tried from two beginnings, with pairs of values from one.
const TURNS: u64 = 2;
/// All logins of one person are over by then.
const END: u64 = 420_000;
/// The first login begins, the probes being answered.
const BEGIN: u64 = 5_000;

/// What a person sees of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// `false`: never let in, however often they typed.
    accepted: bool,
    /// How often they typed.
    typed: usize,
    pushes: usize,
}

const FACTORS: [Factor; 5] = [
    Factor::Push(2),
    Factor::Push(10),
    Factor::Push(25),
    Factor::Totp,
    Factor::PushersCode,
];

fn owner(factor: Factor, method: Method) -> Person {
    let codes = || ["271828", "314159", "161803"].map(str::to_owned).to_vec();
    Person {
        user: "owner",
        texts: match factor {
            Factor::Push(_) => vec!["push".to_owned()],
            Factor::Totp | Factor::PushersCode => codes(),
        },
        method,
        controller: 1,
        persists: true,
        logins: 0,
        accepted: false,
        rejected: 0,
    }
}

/// The site after its directory has tried its settings out, or nothing when the directory takes the servers for dead.
fn enabled(directory: Directory, factor: Factor, turn: u64) -> Option<Site> {
    let mut site = Site::new(directory, factor, turn);
    let probes: Vec<usize> = [(1, 0), (1, 1), (2, 0), (2, 1)]
        .map(|(dc, server)| site.probe(dc, server))
        .to_vec();
    site.run(BEGIN - 1);
    for probe in probes {
        let person = &site.people[probe];
        assert!(!person.accepted, "a probe is accepted");
        assert_eq!(person.rejected, 1, "a probe is answered");
    }
    assert!(site.provider.started.is_empty(), "a probe starts no push");
    (!directory.reject_is_dead).then_some(site)
}

/// What the owner sees of a login, over all turns: the worst of it.
fn login(directory: Directory, factor: Factor, method: Method, turns: u64) -> Option<Seen> {
    let seen = (0..turns).map(|turn| {
        let mut site = enabled(directory, factor, turn)?;
        let number = site.person(BEGIN, owner(factor, method));
        site.run(END);
        let person = &site.people[number];
        Some(Seen {
            accepted: person.accepted,
            typed: person.logins,
            pushes: site.provider.started.get("owner").copied().unwrap_or_default(),
        })
    });
    seen.collect::<Option<Vec<_>>>()?
        .into_iter()
        .max_by_key(|seen| (!seen.accepted, seen.typed, seen.pushes))
}

fn methods(factor: Factor) -> &'static [Method] {
    match factor {
        // An unreadable code is known to no provider but the one that has the seeds.
        Factor::PushersCode => &[Method::Pap],
        Factor::Push(_) | Factor::Totp => &[Method::Pap, Method::MsChapV2],
    }
}

/// Every kind of login with one choice of values.
fn logins(choice: &Choice) -> Vec<(Factor, Method, Option<Seen>)> {
    let directory = unknowns::directory(choice);
    let turns = if choice.len() == 1 { TURNS } else { 1 };
    let kinds = FACTORS
        .into_iter()
        .flat_map(|factor| methods(factor).iter().map(move |method| (factor, *method)));
    kinds
        .map(|(factor, method)| (factor, method, login(directory, factor, method, turns)))
        .collect()
}

/// How many pushes a login can need. Asked at once, both proxies start one before either can tell the other. A domain
/// controller that continues a login before its approval can be a stranger; it isn't let in by the first push.
fn needed_pushes(directory: &Directory, factor: Factor) -> usize {
    let taken_over = match (directory.takeover_seconds, factor) {
        (Some(takeover), Factor::Push(approved)) => takeover <= approved,
        _ => false,
    };
    (1 + usize::from(directory.order == Order::AllAtOnce)) * (1 + usize::from(taken_over))
}

/// What must hold of a login whatever AWS does.
fn check(choice: &Choice, (factor, method, seen): &(Factor, Method, Option<Seen>)) {
    let directory = unknowns::directory(choice);
    let what = format!("{}: {factor:?} by {method:?}: {seen:?}", unknowns::name(choice));
    let Some(seen) = seen else {
        assert!(directory.reject_is_dead, "{what}");
        return;
    };
    let pushes = needed_pushes(&directory, *factor);
    assert!(
        seen.pushes <= pushes * seen.typed,
        "more than one push for a login: {what}"
    );
    let at_once = Seen {
        accepted: true,
        typed: 1,
        pushes: seen.pushes,
    };
    match factor {
        // Whoever approves before the client gives up or goes on elsewhere is let in by what they typed first.
        Factor::Push(seconds)
            if directory
                .takeover_seconds
                .is_none_or(|takeover| takeover > *seconds)
                && directory
                    .patience_seconds
                    .is_none_or(|patience| patience > *seconds) =>
        {
            assert_eq!(*seen, at_once, "{what}");
        }
        Factor::Push(_) => {}
        Factor::Totp | Factor::PushersCode => assert_eq!((*seen, seen.pushes), (at_once, 0), "{what}"),
    }
}

#[test]
fn no_value_of_what_aws_documents_nowhere_makes_every_login_fail() {
    let single: Vec<_> = unknowns::single()
        .into_iter()
        .map(|choice| (logins(&choice), choice))
        .collect();
    let pairs: Vec<_> = unknowns::pairs()
        .into_iter()
        .map(|choice| (logins(&choice), choice))
        .collect();
    for (logins, choice) in single.iter().chain(&pairs) {
        for login in logins {
            check(choice, login);
        }
    }
    table::is_current(&table::page(&single, &pairs, beside_a_stranger()));
}

/// Owner and stranger type the same or something else, shortly after each other or when a retry is due: how often the owner
/// is let in by what they typed first, of how many logins. Nobody gets the Accept of another's push.
fn beside_a_stranger() -> (usize, usize) {
    let retries = [Retry::Nothing, Retry::IdentifierAndPort, Retry::Everything];
    let orders = [Order::Fixed, Order::RoundRobin, Order::AllAtOnce];
    let (mut let_in, mut all) = (0, 0);
    for (retry, order) in retries
        .into_iter()
        .flat_map(|retry| orders.map(|order| (retry, order)))
    {
        let directory = Directory {
            retry,
            order,
            ..unknowns::USUAL
        };
        for later in [100, 2_000, 19_900, 20_000, 20_100] {
            for (text, controller) in ["push", "", "guess"]
                .into_iter()
                .flat_map(|text| [(text, 1), (text, 2)])
            {
                for seconds in [10, 25] {
                    let_in += usize::from(owner_beside(directory, (later, text, controller), seconds));
                    all += 1;
                }
            }
        }
    }
    (let_in, all)
}

/// Whether the owner is let in by what they typed first.
fn owner_beside(directory: Directory, (later, text, controller): (u64, &str, u8), seconds: u64) -> bool {
    let factor = Factor::Push(seconds);
    let Some(mut site) = enabled(directory, factor, 0) else {
        return false;
    };
    let number = site.person(BEGIN, owner(factor, Method::Pap));
    let stranger = Person {
        texts: vec![text.to_owned()],
        controller,
        persists: false,
        ..owner(factor, Method::Pap)
    };
    site.person(BEGIN + later, stranger);
    site.run(END);
    let what = format!("{directory:?}, a stranger {later} ms later with {text:?} from {controller}");
    assert!(!site.stolen, "an Accept of another's push: {what}");
    let person = &site.people[number];
    assert!(person.accepted, "the owner is never let in: {what}");
    person.logins == 1
}
