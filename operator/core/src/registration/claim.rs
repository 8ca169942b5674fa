//! Who holds a directory. Only this decides that it moves from one RadiusProxy to another.

use super::Candidate;
use crate::api::DirectoryClaim;

/// What becomes of the claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim<'a> {
    /// The claim stays.
    Held(&'a Candidate),
    /// Another RadiusProxy holds it from now on, for this reason.
    Moves(DirectoryClaim, &'static str),
    /// The holder is being deleted, or is gone, without a successor.
    Ends(Option<&'a Candidate>),
}

/// Decides. The holder changes only when it is gone, is being deleted, has lost its grant, or is suspended while the successor
/// asks for adoption. A grant that is missing isn't lost yet: a cache may be late.
pub(super) fn claim<'a>(now: &DirectoryClaim, candidates: &'a [Candidate], lost_grant: bool) -> Claim<'a> {
    let is_holder = |each: &&Candidate| each.namespace == now.namespace && each.name == now.name;
    let holder = candidates.iter().find(is_holder);
    let successor = |asks: fn(&Candidate) -> bool| {
        candidates
            .iter()
            .filter(|each| !is_holder(each) && each.granted && !each.suspended && each.deleted.is_none())
            .filter(|each| asks(each))
            .min_by_key(|each| (each.created, &each.namespace, &each.name))
    };
    let (asks, why): (fn(&Candidate) -> bool, &'static str) = match holder {
        // Restored from a backup, or deleted and created again: the same RadiusProxy to whoever wrote it.
        Some(holder) if holder.uid != now.uid && holder.deleted.is_none() => {
            return Claim::Moves(holder.claim(), "it was created again");
        }
        None => (|_| true, "the RadiusProxy that held the directory is gone"),
        Some(holder) if holder.deleted.is_some() => (
            |_| true,
            "the RadiusProxy that held the directory is being deleted",
        ),
        Some(holder) if !holder.granted && lost_grant => (
            |_| true,
            "the RadiusProxy that held the directory has no DirectoryGrant any more",
        ),
        Some(holder) if holder.suspended => (
            |each| each.adopts,
            "the RadiusProxy that held the directory is suspended",
        ),
        Some(holder) => return Claim::Held(holder),
    };
    match (successor(asks), holder) {
        (Some(successor), _) => Claim::Moves(successor.claim(), why),
        (None, Some(holder)) if holder.deleted.is_none() => Claim::Held(holder),
        (None, holder) => Claim::Ends(holder),
    }
}

impl Candidate {
    fn claim(&self) -> DirectoryClaim {
        DirectoryClaim {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::DeletionPolicy;

    fn candidate(name: &str) -> Candidate {
        Candidate {
            namespace: "auth".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            created: Timestamp::UNIX_EPOCH,
            granted: true,
            suspended: false,
            deletion_policy: DeletionPolicy::Retain,
            adopts: false,
            deleted: None,
            abandons: false,
        }
    }

    fn moves(candidates: &[Candidate]) -> Option<String> {
        match claim(&candidate("old").claim(), candidates, true) {
            Claim::Moves(to, _) => Some(format!("{}/{}", to.name, to.uid)),
            Claim::Held(_) => None,
            Claim::Ends(_) => Some("nobody".to_owned()),
        }
    }

    #[test]
    fn a_holder_that_is_well_keeps_the_directory_whoever_is_older_or_adopts() {
        let mut new = candidate("new");
        new.adopts = true;
        assert_eq!(moves(&[candidate("old"), new]), None);
    }

    #[test]
    fn a_holder_that_is_gone_deleted_or_without_grant_is_followed_by_one_that_is_granted() {
        let new = candidate("new");
        let mut old = candidate("old");
        assert_eq!(moves(std::slice::from_ref(&new)).as_deref(), Some("new/uid-new"));
        old.granted = false;
        assert_eq!(moves(&[old.clone(), new.clone()]).as_deref(), Some("new/uid-new"));
        assert_eq!(moves(std::slice::from_ref(&old)), None);
        old.granted = true;
        old.deleted = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(moves(&[old.clone(), new.clone()]).as_deref(), Some("new/uid-new"));
        let (mut suspended, mut stranger, mut ending) = (new.clone(), new.clone(), new);
        suspended.suspended = true;
        stranger.granted = false;
        ending.deleted = Some(Timestamp::UNIX_EPOCH);
        for other in [suspended, stranger, ending] {
            assert_eq!(moves(&[old.clone(), other]).as_deref(), Some("nobody"));
        }
    }

    #[test]
    fn a_suspended_holder_is_followed_only_by_one_that_asks_for_adoption() {
        let (mut old, mut new) = (candidate("old"), candidate("new"));
        old.suspended = true;
        assert_eq!(moves(&[old.clone(), new.clone()]), None);
        new.adopts = true;
        assert_eq!(moves(&[old, new]).as_deref(), Some("new/uid-new"));
    }

    #[test]
    fn the_same_name_with_another_uid_is_the_same_holder() {
        let mut restored = candidate("old");
        restored.uid = "uid-2".to_owned();
        assert_eq!(moves(&[restored, candidate("new")]).as_deref(), Some("old/uid-2"));
    }

    #[test]
    fn a_holder_whose_grant_is_missing_keeps_the_directory_until_the_grant_counts_as_lost() {
        let mut old = candidate("old");
        old.granted = false;
        let candidates = [old, candidate("new")];
        let now = candidate("old").claim();
        assert_eq!(claim(&now, &candidates, false), Claim::Held(&candidates[0]));
        assert_eq!(moves(&candidates).as_deref(), Some("new/uid-new"));
    }
}
