//! The objects as they are known, by namespace and name; pure.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{compact::Interner, records::Record};

/// An object is known otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its namespace; `""` for cluster-wide objects.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// It is gone.
    pub gone: bool,
}

/// Objects by name, each with the number of the list that named it last.
type Objects<R> = HashMap<Arc<str>, (u64, Arc<R>)>;

/// The objects by namespace.
#[derive(Debug)]
pub(super) struct Map<R> {
    namespaces: HashMap<Arc<str>, Objects<R>>,
    interner: Interner,
    list: u64,
}

impl<R> Default for Map<R> {
    fn default() -> Self {
        Self { namespaces: HashMap::new(), interner: Interner::default(), list: 0 }
    }
}

impl<R: Record> Map<R> {
    /// A list begins; what is known stays known until it is complete.
    pub(super) fn begin(&mut self) {
        self.list += 1;
    }

    /// Takes an object in; says so if it is known otherwise than before.
    pub(super) fn put(&mut self, mut record: R) -> Option<Change> {
        record.share(&mut self.interner);
        let (namespace, name) = (Arc::clone(record.namespace()), Arc::clone(record.name()));
        let objects = self.namespaces.entry(Arc::clone(&namespace)).or_default();
        let changed = match objects.entry(Arc::clone(&name)) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.0 = self.list;
                let changed = *known.1 != record;
                if changed {
                    known.1 = Arc::new(record);
                }
                changed
            }
            Entry::Vacant(place) => {
                place.insert((self.list, Arc::new(record)));
                true
            }
        };
        changed.then_some(Change { namespace, name, gone: false })
    }

    /// Forgets an object.
    pub(super) fn remove(&mut self, record: &R) -> Option<Change> {
        let objects = self.namespaces.get_mut(record.namespace().as_ref())?;
        let (name, (_, known)) = objects.remove_entry(record.name().as_ref())?;
        let namespace = Arc::clone(known.namespace());
        if objects.is_empty() {
            self.namespaces.remove(&namespace);
        }
        Some(Change { namespace, name, gone: true })
    }

    /// The list is complete: forgets what it did not name.
    pub(super) fn end(&mut self) -> Vec<Change> {
        let mut gone = Vec::new();
        let list = self.list;
        self.namespaces.retain(|namespace, objects| {
            objects.retain(|name, (named, _)| {
                let stays = *named == list;
                if !stays {
                    gone.push(Change {
                        namespace: Arc::clone(namespace),
                        name: Arc::clone(name),
                        gone: true,
                    });
                }
                stays
            });
            !objects.is_empty()
        });
        gone
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<R>> {
        self.namespaces.get(namespace)?.get(name).map(|(_, record)| Arc::clone(record))
    }

    pub(super) fn of(&self, namespace: &str) -> Vec<Arc<R>> {
        let objects = self.namespaces.get(namespace).into_iter().flat_map(HashMap::values);
        objects.map(|(_, record)| Arc::clone(record)).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<R>> {
        let objects = self.namespaces.values().flat_map(HashMap::values);
        objects.map(|(_, record)| Arc::clone(record)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.namespaces.values().map(HashMap::len).sum()
    }
}
