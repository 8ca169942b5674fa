//! What is known of the objects of one kind: a reflector's store that the watches of several namespaces write to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::Event;

use crate::health::Scope;
use crate::queue::Root;

/// Objects, or rows of what is needed of them. Each list replaces the objects of its own scope only, so one controller
/// reconciles them all.
pub(crate) struct Cache<V: Lookup<DynamicType = ()> + Clone + 'static> {
    store: Store<V>,
    writing: Mutex<Writing<V>>,
}

struct Writing<V: Lookup<DynamicType = ()> + Clone + 'static> {
    writer: Writer<V>,
    /// Lists that are under way.
    listing: HashMap<Scope, Vec<V>>,
}

/// An object that appeared, changed or went.
#[derive(Debug)]
pub(crate) struct Change<V> {
    pub(crate) before: Option<Arc<V>>,
    pub(crate) after: Option<Arc<V>>,
}

impl<V: Lookup<DynamicType = ()> + Clone + 'static> Cache<V> {
    /// No objects.
    pub(crate) fn new() -> Self {
        let mut writer = Writer::default();
        // A store is ready after its first list. Here the scopes have lists of their own.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        Self {
            store: writer.as_reader(),
            writing: Mutex::new(Writing {
                writer,
                listing: HashMap::new(),
            }),
        }
    }

    /// The objects.
    pub(crate) const fn store(&self) -> &Store<V> {
        &self.store
    }

    /// Takes over what a watch of `scope` said.
    pub(crate) fn apply(&self, scope: &Scope, event: Event<V>) -> Vec<Change<V>> {
        let mut writing = self.writing();
        match event {
            Event::Init => {
                writing.listing.insert(scope.clone(), Vec::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                writing.listing.entry(scope.clone()).or_default().push(object);
                Vec::new()
            }
            Event::InitDone => {
                let list = writing.listing.remove(scope).unwrap_or_default();
                let gone = self.gone(scope, &list);
                let events = gone.into_iter().chain(list.into_iter().map(Event::Apply));
                events
                    .filter_map(|event| self.write(&mut writing.writer, &event))
                    .collect()
            }
            event => self.write(&mut writing.writer, &event).into_iter().collect(),
        }
    }

    /// Removes an object.
    pub(crate) fn remove(&self, object: &ObjectRef<V>) -> Option<Change<V>> {
        let mut writing = self.writing();
        let known = self.store.get(object)?;
        self.write(&mut writing.writer, &Event::Delete((*known).clone()))
    }

    /// The objects of a scope that its list has no more.
    fn gone(&self, scope: &Scope, list: &[V]) -> Vec<Event<V>> {
        let listed: HashSet<_> = list.iter().map(|object| object.to_object_ref(())).collect();
        let state = self.store.state();
        let gone = state.iter().filter(|object| {
            let object = object.to_object_ref(());
            (scope.is_none() || object.namespace == *scope) && !listed.contains(&object)
        });
        gone.map(|object| Event::Delete((**object).clone())).collect()
    }

    fn writing(&self) -> MutexGuard<'_, Writing<V>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, writer: &mut Writer<V>, event: &Event<V>) -> Option<Change<V>> {
        let (Event::Apply(object) | Event::Delete(object)) = event else {
            return None;
        };
        let object = object.to_object_ref(());
        let before = self.store.get(&object);
        writer.apply_watcher_event(event);
        let after = self.store.get(&object);
        (before.is_some() || after.is_some()).then_some(Change { before, after })
    }
}

impl<V: Lookup<DynamicType = ()> + Clone + 'static> std::fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("objects", &self.store.len())
            .finish()
    }
}

impl<K: Root> Cache<DeserializeGuard<K>> {
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
}

impl<V> Change<V> {
    /// What was and what is there.
    pub(crate) fn both(&self) -> impl Iterator<Item = &V> {
        self.after.iter().chain(&self.before).map(|object| &**object)
    }
}

impl<K: Root> Change<DeserializeGuard<K>> {
    /// Which object.
    pub(crate) fn object(&self) -> Option<ObjectRef<K>> {
        self.both().next().map(unguarded)
    }

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

/// Those of the objects that can be decoded.
pub(crate) fn decoded<K>(objects: &[Arc<DeserializeGuard<K>>]) -> Vec<&K> {
    objects
        .iter()
        .filter_map(|object| object.0.as_ref().ok())
        .collect()
}

/// The same object in a store of guarded objects.
pub(crate) fn guarded<K: Root>(object: ObjectRef<K>) -> ObjectRef<DeserializeGuard<K>> {
    object.into_kind_unchecked(())
}

/// Which object this is.
pub(crate) fn unguarded<K: Root>(object: &DeserializeGuard<K>) -> ObjectRef<K> {
    ObjectRef::from_obj(object).into_kind_unchecked(())
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
            json!({"namespaces": ["a"], "directories": [{"region": "eu-central-1", "directoryIds": ["d-0000000001"]}]})
        };
        serde_json::from_value(
            json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant",
            "metadata": {"name": name, "namespace": namespace, "generation": 1}, "spec": spec}),
        )
        .unwrap()
    }

    fn list(
        cache: &Cache<DeserializeGuard<DirectoryGrant>>,
        scope: &str,
        objects: &[(&str, bool)],
    ) -> Vec<String> {
        let namespace = Some(scope.to_owned());
        cache.apply(&namespace, Event::Init);
        for (name, broken) in objects {
            cache.apply(&namespace, Event::InitApply(grant(scope, name, *broken)));
        }
        let changes = cache.apply(&namespace, Event::InitDone);
        changes
            .iter()
            .map(|change| change.object().unwrap().name)
            .collect()
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_kept_apart_and_harms_no_other() {
        let cache = Cache::new();
        list(&cache, "n", &[("good", false), ("bad", true)]);
        assert_eq!((cache.store().len(), cache.undecodable()), (2, 1));
        assert!(cache.find(ObjectRef::new("good").within("n")).is_some());
        assert!(cache.find(ObjectRef::new("bad").within("n")).is_none());
    }

    #[test]
    fn a_list_of_one_namespace_leaves_the_objects_of_another() {
        let cache = Cache::new();
        assert_eq!(list(&cache, "n", &[("a", false), ("b", false)]), ["a", "b"]);
        assert_eq!(list(&cache, "m", &[("a", false)]), ["a"]);
        assert_eq!(list(&cache, "n", &[("b", false)]), ["a", "b"], "a went");
        assert_eq!(cache.store().len(), 2);
        assert_eq!(list(&cache, "m", &[]), ["a"]);
        assert_eq!(cache.store().len(), 1);
    }

    #[test]
    fn a_new_status_is_no_change_for_a_controller() {
        let cache = Cache::new();
        list(&cache, "n", &[("a", false)]);
        let change = |object| {
            let scope = Some("n".to_owned());
            cache.apply(&scope, Event::Apply(object)).remove(0)
        };
        assert!(change(grant("n", "a", false)).is_status_only());
        let mut edited = grant("n", "a", false);
        kube::Resource::meta_mut(&mut edited).generation = Some(2);
        assert!(!change(edited).is_status_only());
        assert!(!change(grant("n", "b", false)).is_status_only());
    }
}
