//! Views: their names and lengths. Whether a template can be read is known to the control plane, which alone renders them.

use super::{Faults, VIEW_BYTES_MAX, VIEWS_MAX};
use crate::document::fault::member;
use crate::document::model::PolicyDocument;

pub(super) fn validate(document: &PolicyDocument, faults: &mut Faults) {
    faults.check_count("views", "views", document.views.len(), VIEWS_MAX);
    for (name, view) in &document.views {
        let path = member("views", name);
        faults.check_name(&path, "view", name);
        if view.body.trim().is_empty() || view.body.len() > VIEW_BYTES_MAX {
            faults.add(member(&path, "body"), format!("write a template of 1 to {VIEW_BYTES_MAX} bytes"));
        }
    }
}
