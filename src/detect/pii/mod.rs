//! Personal data with a structure that can be checked.

mod email;
mod number;
mod phone;

pub(super) use email::emails;
pub(super) use number::{Wanted, numbers};
