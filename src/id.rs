//! Typed identifiers. Version 7 where an id must be new, version 5 where the same thing must
//! get the same id twice.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of every version 5 id of this project.
const NAMESPACE: Uuid = Uuid::from_u128(0x5e27_1f0a_3c1b_5d0e_9a41_73d6_11c0_de01);

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id; later ids sort after earlier ones.
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id that these parts always give, in this order.
            pub fn stable(parts: &[&str]) -> Self {
                let mut name = String::from(stringify!($name));
                for part in parts {
                    // The length keeps ("ab","c") and ("a","bc") apart.
                    name.push_str(&format!("\u{1f}{}:{part}", part.len()));
                }
                Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
            }

            /// The id of these bytes, as [`Self::uuid`] gave them.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The id as a UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": "uuid" })
            }
        }
    };
}

id_type! {
    /// A run of a graph.
    RunId
}
id_type! {
    /// A turn: stable over re-reads and growth of its log file.
    TurnId
}
id_type! {
    /// A patrol flag: the same stream, turn, category and rule or lens give the same flag.
    FlagId
}
id_type! {
    /// A vote of one patrol agent on one turn.
    VoteId
}
id_type! {
    /// An investigation, and the case file it ends with.
    InvestigationId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_ids_repeat_and_parts_do_not_run_together() {
        assert_eq!(FlagId::stable(&["a", "b"]), FlagId::stable(&["a", "b"]));
        assert_ne!(FlagId::stable(&["ab", "c"]), FlagId::stable(&["a", "bc"]));
        assert_ne!(FlagId::stable(&["a"]).uuid(), TurnId::stable(&["a"]).uuid());
    }

    #[test]
    fn fresh_ids_sort_by_time() {
        let ids: Vec<RunId> = (0..100).map(|_| RunId::fresh()).collect();
        assert!(ids.is_sorted());
    }
}
