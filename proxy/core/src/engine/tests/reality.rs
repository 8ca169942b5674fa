//! What AWS documents nowhere: logins by push and by code with every value of it, and with every pair of values, in
//! virtual time against two proxies. `docs/aws-unknowns.md` is what came of it.

mod person;
mod provider;
mod site;
mod table;
mod unknowns;

use std::collections::BTreeMap;

use person::Method;
use site::{Factor, Person, Site};
use unknowns::{Choice, Directory, Order, Retry, Signs};

/// Random orders and turns are tried from several beginnings.
const TURNS: u64 = 3;
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
    let probes: Vec<usize> = [(1, 0), (1, 1), (2, 0), (2, 1)].map(|(dc, server)| site.probe(dc, server)).to_vec();
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
    let kinds = FACTORS.into_iter().flat_map(|factor| methods(factor).iter().map(move |method| (factor, *method)));
    kinds.map(|(factor, method)| (factor, method, login(directory, factor, method))).collect()
}

/// Both proxies are asked before either can tell the other of its push.
fn allows_one_push(directory: &Directory) -> bool {
    directory.order != Order::AllAtOnce
}

#[test]
fn print_all() {
    let begun = std::time::Instant::now();
    let mut bad: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for choice in unknowns::single().into_iter().chain(unknowns::pairs()) {
        for (factor, method, seen) in logins(&choice) {
            let fine = seen.is_some_and(|seen| seen.accepted && seen.typed == 1 && seen.pushes <= 1);
            if !fine && (choice.len() == 1 || seen.is_some_and(|s| !s.accepted || s.pushes > 1)) {
                bad.entry(unknowns::name(&choice)).or_default().push(format!("{factor:?} {method:?} {seen:?}"));
            }
        }
    }
    for (choice, what) in bad {
        println!("{choice}");
        for line in what {
            println!("    {line}");
        }
    }
    println!("{:?}", begun.elapsed());
}
