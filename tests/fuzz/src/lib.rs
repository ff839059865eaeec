//! What must hold for any bytes at all. The fuzz targets call these functions, and a test replays the kept corpus
//! through them; both fail by a panic.

mod decision;
mod offline;
mod oracle;
mod scenes;

pub use decision::{decision, decision_in_a_scene};
pub use offline::offline;

use webhook::admission::review;

/// The review decoder: an error with words, or a request that was really in the bytes.
pub fn review(body: &[u8]) {
    match review::decode(body) {
        Err(bad) => {
            assert!(!bad.to_string().is_empty() && !bad.code().is_empty());
        }
        Ok(request) => {
            let text = std::str::from_utf8(body).expect("a review that was decoded is text");
            for raw in [request.object, request.old_object].into_iter().flatten() {
                let raw = raw.get();
                assert!(
                    text.as_bytes().as_ptr_range().contains(&raw.as_ptr()),
                    "objects are borrowed, not copied"
                );
                assert!(!raw.is_empty());
            }
            // Dropping the last byte that is not white space cuts the outermost object.
            let cut = text.trim_end().len() - 1;
            assert!(review::decode(&body[..cut]).is_err(), "a truncated review was taken");
        }
    }
}
