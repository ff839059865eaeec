//! What comes next in the life of the certificates. Pure: the Secret, the time and what is registered come in.
//!
//! An authority is replaced in three stages, each written to the Secret, so that any replica goes on where another stopped:
//! the bundle has old and new; the serving certificate is of the new; the bundle has the new alone.

use time::OffsetDateTime;

use super::material::{Authority, Lives, Material, MaterialError, bundle, contains};

/// What the stages depend on.
pub struct Circumstances<'a> {
    /// Names that the serving certificate must have.
    pub names: &'a [String],
    /// How long things live.
    pub lives: Lives,
    /// The bundle that this replica has last seen in both webhook configurations.
    pub registered: Option<&'a str>,
    /// The bundle that this replica has last read from the Secret.
    pub trusted: Option<&'a str>,
    /// The time.
    pub now: OffsetDateTime,
}

/// What the Secret should hold now; nothing if it is as it should be.
pub fn step(present: Option<&Material>, at: &Circumstances<'_>) -> Result<Option<Material>, MaterialError> {
    let Circumstances { names, lives, now, .. } = at;
    let Some(present) = present else { return Material::make(names, lives, at.trusted, *now).map(Some) };
    let serves = present.serves(names, *now);
    if let Some(next) = &present.next
        && next.signs(*now)
        && (!serves && !present.authority.signs(*now) || announced(next, at))
    {
        return present.promote(next, names, lives, *now).map(Some);
    }
    let signs = present.authority.signs(*now);
    if !serves || present.leaf_due(*now) && signs {
        return if signs {
            present.renew(names, lives, *now).map(Some)
        } else {
            // Nothing left to go on with: whoever trusted the old one still finds it in the bundle.
            Material::make(names, lives, Some(&present.bundle), *now).map(Some)
        };
    }
    if (!signs || present.authority.due(*now)) && present.next.as_ref().is_none_or(|next| !next.signs(*now)) {
        let next = Authority::make(lives.authority, *now)?;
        let bundle = bundle(&next.certificate, &present.bundle);
        return Ok(Some(Material { next: Some(next), bundle, ..present.clone() }));
    }
    let settled = present.next.is_none() && present.leaf_older_than(lives.overlap, lives, *now);
    if settled && present.bundle != present.authority.certificate {
        return Ok(Some(Material { bundle: present.authority.certificate.clone(), ..present.clone() }));
    }
    Ok(None)
}

/// Whether every API server has had the time to trust the next authority.
fn announced(next: &Authority, at: &Circumstances<'_>) -> bool {
    at.registered.is_some_and(|bundle| contains(bundle, &next.certificate))
        && next.older_than(at.lives.overlap, &at.lives, at.now)
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
