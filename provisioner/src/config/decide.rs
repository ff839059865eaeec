//! What a change writes, and whether what is there allows it. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    ConfigError, ConfigName,
    etag::Current,
    number::holds_long_number,
    schema::{Schema, Violation},
    value::InvalidValue,
    write::{Action, Change},
};

/// What is there before a change.
pub(super) struct State {
    pub current: Current,
    pub schema: Option<Value>,
    pub restored: Option<Restored>,
}

/// What a key was at the version to go back to.
pub(super) struct Restored {
    pub deleted: bool,
    pub value: Option<String>,
}

/// An error as the one of a change of the batch.
pub(super) fn at(index: usize) -> impl Fn(ConfigError) -> ConfigError {
    move |cause| ConfigError::Change { index, cause: Box::new(cause) }
}

/// What can be said without looking: reserved names, one change a key.
pub(super) fn allowed(changes: &[Change]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for (index, change) in changes.iter().enumerate() {
        if change.name.is_reserved() {
            return Err(at(index)(ConfigError::Reserved));
        }
        if !names.insert(&change.name) {
            let told = Violation { path: String::new(), message: "the batch changes this key twice".into() };
            return Err(at(index)(ConfigError::Violations(vec![told])));
        }
    }
    Ok(())
}

/// A change with its value decided: the JSON text, or none for a deletion.
pub(super) struct Decided {
    pub name: ConfigName,
    pub value: Option<String>,
}

/// Decides all changes, or says which one cannot be made.
pub(super) fn decide_all(changes: Vec<Change>, states: Vec<State>) -> Result<Vec<Decided>, ConfigError> {
    let pairs = changes.into_iter().zip(states).enumerate();
    pairs.map(|(index, (change, state))| decide(change, state).map_err(at(index))).collect()
}

/// What the change writes, if what is there allows it.
fn decide(change: Change, state: State) -> Result<Decided, ConfigError> {
    let Current { version, exists } = state.current;
    if !change.precondition.holds(state.current) {
        return Err(ConfigError::PreconditionFailed { current: exists.then_some(version) });
    }
    let value = match change.action {
        Action::Set(value) => {
            check(state.schema.as_ref(), value.parsed())?;
            Some(value.text().to_owned())
        }
        Action::Delete if exists => None,
        Action::Delete => return Err(ConfigError::NotFound),
        Action::Restore(version) => {
            let then = state.restored.ok_or(ConfigError::NoVersion(version))?;
            let value =
                then.value.filter(|_| !then.deleted).ok_or(ConfigError::VersionIsDeletion(version))?;
            // Not all that was ever written is still allowed.
            if holds_long_number(&value) {
                return Err(InvalidValue::LongNumber.into());
            }
            if state.schema.is_some() {
                let parsed = serde_json::from_str(&value)
                    .map_err(|error| ConfigError::Database(sqlx::Error::Decode(error.into())))?;
                check(state.schema.as_ref(), &parsed)?;
            }
            Some(value)
        }
    };
    Ok(Decided { name: change.name, value })
}

fn check(schema: Option<&Value>, value: &Value) -> Result<(), ConfigError> {
    let Some(schema) = schema else { return Ok(()) };
    // It was accepted when it was set; a rule made stricter since then must not leave values unchecked.
    let violations = Schema::new(schema)?.violations(value)?;
    if violations.is_empty() { Ok(()) } else { Err(ConfigError::Violations(violations)) }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::RawValue};

    use super::{
        super::{etag::Precondition, value::ConfigValue},
        *,
    };

    fn name(service: &str) -> ConfigName {
        ConfigName { service: service.parse().unwrap(), key: "k".parse().unwrap() }
    }

    fn set(text: &str) -> Action {
        Action::Set(ConfigValue::new(&RawValue::from_string(text.into()).unwrap()).unwrap())
    }

    fn change(action: Action) -> Change {
        Change { name: name("ai"), action, precondition: Precondition::default() }
    }

    fn state(version: i64, exists: bool) -> State {
        State { current: Current { version, exists }, schema: None, restored: None }
    }

    #[test]
    fn a_set_value_keeps_its_text_and_fits_its_schema() {
        assert_eq!(decide(change(set("0.90")), state(0, false)).unwrap().value.unwrap(), "0.90");
        let guarded = || State { schema: Some(json!({"maximum": 1})), ..state(1, true) };
        assert!(decide(change(set("1")), guarded()).is_ok());
        assert!(matches!(decide(change(set("2")), guarded()), Err(ConfigError::Violations(_))));
    }

    #[test]
    fn what_is_gone_cannot_be_deleted_again() {
        assert!(decide(change(Action::Delete), state(3, true)).unwrap().value.is_none());
        assert!(matches!(decide(change(Action::Delete), state(3, false)), Err(ConfigError::NotFound)));
    }

    #[test]
    fn a_rollback_is_checked_like_any_value() {
        let then = |deleted, value: Option<&str>| Restored { deleted, value: value.map(Into::into) };
        let restore = |restored, schema| {
            decide(change(Action::Restore(2)), State { schema, restored, ..state(5, true) })
        };
        assert_eq!(restore(Some(then(false, Some("7"))), None).unwrap().value.unwrap(), "7");
        let long = restore(Some(then(false, Some("[1e-16383]"))), None);
        assert!(matches!(long, Err(ConfigError::Value(InvalidValue::LongNumber))));
        assert!(matches!(restore(None, None), Err(ConfigError::NoVersion(2))));
        assert!(matches!(restore(Some(then(true, None)), None), Err(ConfigError::VersionIsDeletion(2))));
        let strict = Some(json!({"type": "string"}));
        assert!(matches!(restore(Some(then(false, Some("7"))), strict), Err(ConfigError::Violations(_))));
    }

    #[test]
    fn a_failed_precondition_tells_the_version() {
        let mut stale = change(set("1"));
        stale.precondition = Precondition::version(2);
        let refused = decide(stale, state(3, true)).map(|_| ());
        assert!(matches!(refused, Err(ConfigError::PreconditionFailed { current: Some(3) })), "{refused:?}");
    }

    #[test]
    fn the_mirror_is_reserved_and_a_key_changes_once() {
        let mirror = Change { name: name("platform"), ..change(set("1")) };
        match allowed(&[change(set("1")), mirror]) {
            Err(ConfigError::Change { index: 1, cause }) => assert!(matches!(*cause, ConfigError::Reserved)),
            other => panic!("{other:?}"),
        }
        let twice = allowed(&[change(set("1")), change(Action::Delete)]);
        assert!(matches!(twice, Err(ConfigError::Change { index: 1, .. })));
    }
}
