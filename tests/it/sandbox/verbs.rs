//! Verbs about sandboxes from the outside.
