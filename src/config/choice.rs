//! Settings that are one of some words.

macro_rules! choices {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $of:literal])+ $(#[$default:ident])? $variant:ident = $word:literal,)+ })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub enum $name {
                $($(#[doc = $of])+ $(#[$default])? $variant,)+
            }

            impl $name {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$variant,)+];
                /// Their words.
                pub const WORDS: &[&str] = &[$($word,)+];

                /// Its word in the configuration.
                pub const fn word(self) -> &'static str {
                    match self {
                        $(Self::$variant => $word,)+
                    }
                }

                /// The one with this word.
                pub fn of(word: &str) -> Option<Self> {
                    Self::ALL.iter().copied().find(|choice| choice.word() == word)
                }
            }
        )+
    };
}

choices! {
    /// From which severity on a flag is escalated to the police.
    Escalation {
        /// LOW and above.
        LowAbove = "low_above",
        /// MEDIUM and above.
        #[default] MediumAbove = "medium_above",
        /// HIGH and above.
        HighOnly = "high_only",
    }
    /// How much OpenClaw's model thinks.
    Reasoning {
        /// As the task asks for.
        #[default] Adaptive = "adaptive",
        /// Much.
        High = "high",
        /// Little.
        Low = "low",
        /// Not at all.
        Off = "off",
    }
    /// Whether OpenClaw may run commands.
    Exec {
        /// None.
        #[default] Deny = "deny",
        /// Those that are listed.
        Allowlist = "allowlist",
        /// Any.
        Full = "full",
    }
    /// Who may write to OpenClaw directly.
    DmPolicy {
        /// Who has been paired with it.
        #[default] Pairing = "pairing",
        /// Who is listed.
        Allowlist = "allowlist",
        /// Anybody.
        Open = "open",
    }
    /// Where the sandbox may connect to.
    Egress {
        /// Through the sandbox's door, which knows what is allowed.
        #[default] Door = "door",
        /// Anywhere.
        Open = "open",
        /// Nowhere.
        None = "none",
    }
}
