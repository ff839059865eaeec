//! Text that many objects have in common, kept once: of ten thousand namespaces and fifty thousand pods it is most.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Texts below this number are never looked through for those that nobody uses any more.
const TEXTS_MIN: usize = 1024;

/// The texts that are in use.
#[derive(Debug, Default)]
pub struct Interner {
    texts: HashSet<Arc<str>>,
    /// At this number it is time to forget those that nobody uses.
    full: usize,
}

impl Interner {
    /// Puts the one copy of this text in its place.
    pub(super) fn share(&mut self, text: &mut Arc<str>) {
        if let Some(known) = self.texts.get(text) {
            *text = Arc::clone(known);
            return;
        }
        if self.texts.len() >= self.full.max(TEXTS_MIN) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            // Not again before as many have come as are left: each text pays for a constant share of this.
            self.full = self.texts.len() * 2;
        }
        self.texts.insert(Arc::clone(text));
    }
}

/// Labels or annotations, by key; far smaller than a map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Pairs(Box<[(Arc<str>, Arc<str>)]>);

impl Pairs {
    /// Those of the pairs whose key is wanted.
    pub(super) fn of(pairs: Option<BTreeMap<Arc<str>, Arc<str>>>, wanted: impl Fn(&str) -> bool) -> Self {
        Self(pairs.into_iter().flatten().filter(|(key, _)| wanted(key)).collect())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// All of them, for those who keep them otherwise.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Uses one copy of each text.
    pub(super) fn share(&mut self, interner: &mut Interner) {
        for (key, value) in &mut self.0 {
            interner.share(key);
            interner.share(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_while_it_is_used() {
        let mut interner = Interner::default();
        let (mut first, mut second): (Arc<str>, Arc<str>) = ("node-1".into(), "node-1".into());
        interner.share(&mut first);
        interner.share(&mut second);
        assert!(Arc::ptr_eq(&first, &second));
        for number in 0..TEXTS_MIN * 4 {
            interner.share(&mut format!("pod-{number}").into());
        }
        assert!(interner.texts.len() <= TEXTS_MIN + 1, "{}", interner.texts.len());
        assert!(interner.texts.contains("node-1"));
    }

    #[test]
    fn pairs_are_found_by_key() {
        let map = [("b", "2"), ("a", "1"), ("x", "3")].map(|(key, value)| (key.into(), value.into()));
        let pairs = Pairs::of(Some(map.into()), |key| key != "x");
        assert_eq!((pairs.get("a"), pairs.get("b"), pairs.get("x")), (Some("1"), Some("2"), None));
        assert_eq!(pairs.to_map().into_iter().map(|pair| pair.0).collect::<Vec<_>>(), ["a", "b"]);
    }
}
