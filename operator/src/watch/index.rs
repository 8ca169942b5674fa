//! The objects of one kind, as rows with what decisions need, indexed by the RadiusProxy that they belong to.

use std::collections::{BTreeMap, HashMap};

use kube::runtime::watcher;

use crate::health::Scope;

/// Where a row belongs: its namespace, the RadiusProxy it is of (empty where that has no meaning), its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowKey {
    pub(crate) namespace: String,
    pub(crate) proxy: String,
    pub(crate) name: String,
}

/// Rows in the order of their keys, so that those of one RadiusProxy are neighbours.
#[derive(Debug)]
pub(crate) struct Index<V> {
    rows: BTreeMap<RowKey, V>,
    /// The RadiusProxy by namespace and name: a label can change, and the row moves.
    owners: HashMap<Id, String>,
    /// Lists that are under way, by scope. A list replaces the scope's rows at its end, never in part.
    listing: HashMap<Scope, BTreeMap<RowKey, V>>,
}

/// Namespace and name of an object.
pub(crate) type Id = (String, String);

/// An object, and its row if it belongs to a RadiusProxy.
pub(crate) type Entry<V> = (Id, Option<(RowKey, V)>);

/// A row that appeared, changed or went, with what it was and is.
#[derive(Debug, PartialEq)]
pub(crate) struct Change<V> {
    pub(crate) key: RowKey,
    pub(crate) before: Option<V>,
    pub(crate) after: Option<V>,
}

impl<V> Default for Index<V> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            owners: HashMap::new(),
            listing: HashMap::new(),
        }
    }
}

impl<V: Clone> Index<V> {
    /// The rows of one RadiusProxy.
    pub(crate) fn of<'a>(
        &'a self,
        namespace: &'a str,
        proxy: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a V)> {
        let from = RowKey {
            namespace: namespace.to_owned(),
            proxy: proxy.to_owned(),
            name: String::new(),
        };
        self.rows
            .range(from..)
            .take_while(move |(key, _)| key.namespace == namespace && key.proxy == proxy)
            .map(|(key, row)| (key.name.as_str(), row))
    }

    /// Takes over what a watch of `scope` said of an object. An object without a row has none any more.
    pub(crate) fn apply(&mut self, scope: &Scope, event: watcher::Event<Entry<V>>) -> Vec<Change<V>> {
        match event {
            watcher::Event::Init => {
                self.begin(scope.clone());
                Vec::new()
            }
            watcher::Event::InitApply((_, row)) => {
                if let Some((key, row)) = row {
                    self.listed(scope, key, row);
                }
                Vec::new()
            }
            watcher::Event::InitDone => self.complete(scope),
            watcher::Event::Apply((_, Some((key, row)))) => self.put(key, row),
            watcher::Event::Apply((id, None)) | watcher::Event::Delete((id, _)) => {
                self.remove(&id).into_iter().collect()
            }
        }
    }

    /// Every row.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&RowKey, &V)> {
        self.rows.iter()
    }

    /// One row.
    pub(crate) fn find(&self, key: &RowKey) -> Option<&V> {
        self.rows.get(key)
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A list begins.
    fn begin(&mut self, scope: Scope) {
        self.listing.insert(scope, BTreeMap::new());
    }

    /// A row of the list.
    fn listed(&mut self, scope: &Scope, key: RowKey, row: V) {
        if let Some(list) = self.listing.get_mut(scope) {
            list.insert(key, row);
        }
    }

    /// The list is complete: what it does not hold is gone.
    fn complete(&mut self, scope: &Scope) -> Vec<Change<V>> {
        let Some(list) = self.listing.remove(scope) else {
            return Vec::new();
        };
        let gone: Vec<RowKey> = self
            .rows
            .keys()
            .filter(|key| scope.as_ref().is_none_or(|namespace| *namespace == key.namespace))
            .filter(|key| !list.contains_key(key))
            .cloned()
            .collect();
        let mut changes: Vec<Change<V>> = gone
            .into_iter()
            .filter_map(|key| self.remove(&(key.namespace, key.name)))
            .collect();
        for (key, row) in list {
            changes.extend(self.put(key, row));
        }
        changes
    }

    /// A row appeared or changed.
    pub(crate) fn put(&mut self, key: RowKey, row: V) -> Vec<Change<V>> {
        let mut changes = Vec::new();
        let id = (key.namespace.clone(), key.name.clone());
        if let Some(proxy) = self.owners.insert(id, key.proxy.clone())
            && proxy != key.proxy
        {
            let moved = RowKey { proxy, ..key.clone() };
            if let Some(before) = self.rows.remove(&moved) {
                changes.push(Change {
                    key: moved,
                    before: Some(before),
                    after: None,
                });
            }
        }
        let before = self.rows.insert(key.clone(), row.clone());
        changes.push(Change {
            key,
            before,
            after: Some(row),
        });
        changes
    }

    /// A row went.
    fn remove(&mut self, id: &Id) -> Option<Change<V>> {
        let key = RowKey {
            proxy: self.owners.remove(id)?,
            namespace: id.0.clone(),
            name: id.1.clone(),
        };
        let before = self.rows.remove(&key)?;
        Some(Change {
            key,
            before: Some(before),
            after: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, proxy: &str, name: &str) -> RowKey {
        RowKey {
            namespace: namespace.to_owned(),
            proxy: proxy.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn rows_of_one_radius_proxy_are_found_without_those_of_its_neighbours() {
        let mut index = Index::default();
        for (proxy, name) in [("a", "a-0"), ("a", "a-1"), ("a-1", "a-1-0"), ("b", "b-0")] {
            index.put(key("n", proxy, name), 1);
        }
        index.put(key("m", "a", "a-0"), 2);
        assert_eq!(
            index.of("n", "a").map(|(name, _)| name).collect::<Vec<_>>(),
            ["a-0", "a-1"]
        );
        assert_eq!(index.of("n", "c").count(), 0);
    }

    #[test]
    fn a_list_replaces_its_scope_at_its_end_and_tells_what_went() {
        let mut index = Index::default();
        index.put(key("n", "a", "a-0"), 1);
        index.put(key("m", "a", "a-0"), 1);
        let scope = Some("n".to_owned());
        index.begin(scope.clone());
        index.listed(&scope, key("n", "a", "a-1"), 5);
        assert_eq!(index.len(), 2);
        let changes = index.complete(&scope);
        assert_eq!(changes.len(), 2);
        assert_eq!((changes[0].before, changes[0].after), (Some(1), None));
        assert_eq!((changes[1].before, changes[1].after), (None, Some(5)));
        assert!(index.find(&key("m", "a", "a-0")).is_some());
    }

    #[test]
    fn a_row_whose_label_changes_leaves_its_old_place() {
        let mut index = Index::default();
        index.put(key("n", "a", "x"), 1);
        let changes = index.put(key("n", "b", "x"), 2);
        assert_eq!(changes.len(), 2);
        assert_eq!(index.of("n", "a").count(), 0);
        let gone = index.apply(
            &None,
            watcher::Event::Delete((("n".to_owned(), "x".to_owned()), None)),
        );
        assert_eq!(gone[0].before, Some(2));
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn an_object_that_loses_its_label_has_no_row_any_more() {
        let mut index = Index::default();
        index.put(key("n", "a", "x"), 1);
        let changes = index.apply(
            &None,
            watcher::Event::Apply((("n".to_owned(), "x".to_owned()), None)),
        );
        assert_eq!((changes[0].key.proxy.as_str(), changes[0].after), ("a", None));
        assert_eq!(index.len(), 0);
    }
}
