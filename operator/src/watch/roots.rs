//! The objects of a kind that has a controller. An object that can't be decoded is among them and harms no other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;

use crate::health::Scope;
use crate::queue::Root;

/// A reflector's store that the watches of several namespaces write to: one controller reconciles them all.
pub(crate) struct Roots<K: Root> {
    store: Store<DeserializeGuard<K>>,
    writing: Mutex<Writing<K>>,
}

struct Writing<K: Root> {
    writer: Writer<DeserializeGuard<K>>,
    /// Lists that are under way. A list replaces the objects of its scope at its end.
    listing: HashMap<Scope, Vec<DeserializeGuard<K>>>,
}

/// An object that appeared, changed or went.
pub(crate) struct RootChange<K: Root> {
    pub(crate) object: ObjectRef<K>,
    pub(crate) before: Option<Arc<DeserializeGuard<K>>>,
    pub(crate) after: Option<Arc<DeserializeGuard<K>>>,
}

impl<K: Root> Roots<K> {
    /// No objects.
    pub(crate) fn new() -> Self {
        let mut writer = Writer::default();
        // A store hands objects out after its first list. Here the scopes have lists of their own.
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        Self {
            store: writer.as_reader(),
            writing: Mutex::new(Writing {
                writer,
                listing: HashMap::new(),
            }),
        }
    }

    /// The objects.
    pub(crate) const fn store(&self) -> &Store<DeserializeGuard<K>> {
        &self.store
    }

    /// One object, if it can be decoded.
    pub(crate) fn find(&self, object: ObjectRef<K>) -> Option<K> {
        let found = self.store.get(&guarded(object))?;
        found.0.as_ref().ok().cloned()
    }

    /// How many objects can't be decoded.
    pub(crate) fn undecodable(&self) -> usize {
        self.store
            .state()
            .iter()
            .filter(|object| object.0.is_err())
            .count()
    }

    /// Takes over what a watch of `scope` said.
    pub(crate) fn apply(
        &self,
        scope: &Scope,
        event: watcher::Event<DeserializeGuard<K>>,
    ) -> Vec<RootChange<K>> {
        let mut writing = self.writing();
        match event {
            watcher::Event::Init => {
                writing.listing.insert(scope.clone(), Vec::new());
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                writing.listing.entry(scope.clone()).or_default().push(object);
                Vec::new()
            }
            watcher::Event::InitDone => {
                let list = writing.listing.remove(scope).unwrap_or_default();
                self.replace(&mut writing, scope, list)
            }
            event => self.write(&mut writing, &event).into_iter().collect(),
        }
    }

    fn replace(
        &self,
        writing: &mut Writing<K>,
        scope: &Scope,
        list: Vec<DeserializeGuard<K>>,
    ) -> Vec<RootChange<K>> {
        let listed: HashSet<_> = list.iter().map(ObjectRef::from_obj).collect();
        let mut gone = self.store.state();
        gone.retain(|object| {
            let object = ObjectRef::from_obj(&**object);
            let inside = scope.is_none() || object.namespace == *scope;
            inside && !listed.contains(&object)
        });
        let gone = gone
            .into_iter()
            .map(|object| watcher::Event::Delete((*object).clone()));
        let kept = list.into_iter().map(watcher::Event::Apply);
        gone.chain(kept)
            .filter_map(|event| self.write(writing, &event))
            .collect()
    }

    fn write(
        &self,
        writing: &mut Writing<K>,
        event: &watcher::Event<DeserializeGuard<K>>,
    ) -> Option<RootChange<K>> {
        let (watcher::Event::Apply(object) | watcher::Event::Delete(object)) = event else {
            return None;
        };
        let object = ObjectRef::from_obj(object);
        let before = self.store.get(&object);
        writing.writer.apply_watcher_event(event);
        Some(RootChange {
            before,
            after: self.store.get(&object),
            object: object.into_kind_unchecked(()),
        })
    }

    fn writing(&self) -> MutexGuard<'_, Writing<K>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Root> std::fmt::Debug for Roots<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roots")
            .field("objects", &self.store.len())
            .finish()
    }
}

impl<K: Root> RootChange<K> {
    /// Whether nothing changed but the status, which is the operator's own.
    pub(crate) fn is_status_only(&self) -> bool {
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return false;
        };
        let relevant = |object: &DeserializeGuard<K>| {
            let meta = kube::Resource::meta(object);
            (
                object.0.is_ok(),
                meta.uid.clone(),
                meta.generation,
                meta.deletion_timestamp.clone(),
                meta.finalizers.clone(),
                meta.annotations.clone(),
                meta.labels.clone(),
            )
        };
        relevant(before) == relevant(after)
    }
}

/// The same object in a store of guarded objects.
pub(crate) fn guarded<K: Root>(object: ObjectRef<K>) -> ObjectRef<DeserializeGuard<K>> {
    object.into_kind_unchecked(())
}

#[cfg(test)]
mod tests {
    use operator_core::api::DirectoryGrant;
    use serde_json::json;

    use super::*;

    fn grant(namespace: &str, name: &str, broken: bool) -> DeserializeGuard<DirectoryGrant> {
        let spec = if broken {
            json!("a text")
        } else {
            json!({"namespaces": ["a"], "directoryIds": ["d-0000000001"], "region": "eu-central-1"})
        };
        serde_json::from_value(
            json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant",
            "metadata": {"name": name, "namespace": namespace, "generation": 1}, "spec": spec}),
        )
        .unwrap()
    }

    fn list(roots: &Roots<DirectoryGrant>, scope: &str, objects: &[(&str, bool)]) -> Vec<String> {
        let namespace = Some(scope.to_owned());
        roots.apply(&namespace, watcher::Event::Init);
        for (name, broken) in objects {
            roots.apply(&namespace, watcher::Event::InitApply(grant(scope, name, *broken)));
        }
        let changes = roots.apply(&namespace, watcher::Event::InitDone);
        changes.into_iter().map(|change| change.object.name).collect()
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_kept_apart_and_harms_no_other() {
        let roots = Roots::new();
        list(&roots, "n", &[("good", false), ("bad", true)]);
        assert_eq!((roots.store().len(), roots.undecodable()), (2, 1));
        assert!(roots.find(ObjectRef::new("good").within("n")).is_some());
        assert!(roots.find(ObjectRef::new("bad").within("n")).is_none());
    }

    #[test]
    fn a_list_of_one_namespace_leaves_the_objects_of_another() {
        let roots = Roots::new();
        assert_eq!(list(&roots, "n", &[("a", false), ("b", false)]), ["a", "b"]);
        assert_eq!(list(&roots, "m", &[("a", false)]), ["a"]);
        assert_eq!(list(&roots, "n", &[("b", false)]), ["a", "b"], "a went");
        assert_eq!(roots.store().len(), 2);
        assert_eq!(list(&roots, "m", &[]), ["a"]);
        assert_eq!(roots.store().len(), 1);
    }

    #[test]
    fn a_new_status_is_no_change_for_a_controller() {
        let roots = Roots::new();
        list(&roots, "n", &[("a", false)]);
        let change = |object| {
            let scope = Some("n".to_owned());
            roots.apply(&scope, watcher::Event::Apply(object)).remove(0)
        };
        assert!(change(grant("n", "a", false)).is_status_only());
        let mut edited = grant("n", "a", false);
        kube::Resource::meta_mut(&mut edited).generation = Some(2);
        assert!(!change(edited).is_status_only());
        assert!(!change(grant("n", "b", false)).is_status_only());
    }
}
