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

/// Random orders and turns are tried from several beginnings.
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
fn login(directory: Directory, factor: Factor, method: Method) -> Option<Seen> {
    let seen = (0..TURNS).map(|turn| {
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
    let kinds = FACTORS
        .into_iter()
        .flat_map(|factor| methods(factor).iter().map(move |method| (factor, *method)));
    kinds
        .map(|(factor, method)| (factor, method, login(directory, factor, method)))
        .collect()
}

/// Both proxies are asked before either can tell the other of its push.
fn allows_one_push(directory: &Directory) -> bool {
    directory.order != Order::AllAtOnce
}

/// What must hold of a login whatever AWS does.
fn check(choice: &Choice, (factor, method, seen): &(Factor, Method, Option<Seen>)) {
    let directory = unknowns::directory(choice);
    let what = format!("{}: {factor:?} by {method:?}: {seen:?}", unknowns::name(choice));
    let Some(seen) = seen else {
        assert!(directory.reject_is_dead, "{what}");
        return;
    };
    let pushes = if allows_one_push(&directory) { 1 } else { 2 };
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
        Factor::Push(seconds) if *seconds <= 10 => assert_eq!(*seen, at_once, "{what}"),
        Factor::Push(_) if directory.takeover_seconds.is_none() => {
            assert!(seen.accepted && seen.pushes <= pushes, "{what}");
            if directory.patience_seconds != Some(15) {
                assert_eq!(*seen, at_once, "{what}");
            }
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
    table::is_current(&table::page(&single, &pairs));
}

#[test]
fn a_stranger_who_knows_the_name_never_gets_the_accept() {
    let retries = [Retry::Nothing, Retry::IdentifierAndPort, Retry::Everything];
    let orders = [Order::Fixed, Order::RoundRobin, Order::AllAtOnce];
    let mut failed = Vec::new();
    let mut total = 0;
    let mut owners = 0;
    for retry in retries {
        for order in orders {
            for later in [100, 2_000, 20_000] {
                for controller in [1, 2] {
                    for (text, seconds) in [("push", 10), ("push", 25), ("", 10), ("", 25), ("guess", 25)] {
                        let directory = Directory {
                            retry,
                            order,
                            ..unknowns::USUAL
                        };
                        let factor = Factor::Push(seconds);
                        let mut site = enabled(directory, factor, 0).unwrap();
                        let number = site.person(BEGIN, owner(factor, Method::Pap));
                        let stranger = Person {
                            texts: vec![text.to_owned()],
                            controller,
                            persists: false,
                            ..owner(factor, Method::Pap)
                        };
                        let stranger = site.person(BEGIN + later, stranger);
                        site.run(END);
                        total += 1;
                        owners +=
                            usize::from(site.people[number].accepted && site.people[number].logins == 1);
                        if site.people[stranger].accepted {
                            failed.push(format!(
                                "{retry:?} {order:?} {later} {controller} {text:?} {seconds} owner {:?} {}",
                                site.people[number].accepted, site.people[number].logins
                            ));
                        }
                    }
                }
            }
        }
    }
    println!("{owners} owners of {total}");
    assert!(failed.is_empty(), "{} {failed:#?}", failed.len());
}
