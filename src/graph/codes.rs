//! The stable codes of faults in a graph file, with what `sentrix explain` says about each.

/// A kind of fault: a code that never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code, as `G017`.
    pub code: &'static str,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it is wrong and what to do, in a few sentences.
    pub explanation: &'static str,
}

/// The entry of a code, in any case: `g017` finds `G017`.
pub fn explain(code: &str) -> Option<&'static CodeInfo> {
    CODES.iter().find(|info| info.code.eq_ignore_ascii_case(code.trim()))
}

macro_rules! codes {
    ($($name:ident $code:literal $title:literal $explanation:literal;)+) => {
        $(pub(super) const $name: &str = $code;)+
        /// Every code, in order.
        pub const CODES: &[CodeInfo] = &[$(CodeInfo { code: $code, title: $title, explanation: $explanation }),+];
    };
}

codes! {
    SYNTAX "G001" "text that is no TOML"
        "The file cannot be read at this place: a quote or bracket that is not closed, a value without quotes, or a key or table that is there twice. What is readable around it is checked all the same.";
    UNKNOWN_KEY "G002" "unknown key"
        "A graph file has four sections: `[graph]`, `[defaults]`, `[state]` and `[node.NAME]`. A key that none of them knows would have no effect, so it is an error, not a comment.";
    MISSING_KEY "G003" "missing key"
        "A key that has no default is not there. `[graph]` needs `name` and `start`, a channel needs `type`, a prompt node needs `model` and `output`, `each` needs `over` and `as`, `retry` needs `attempts`.";
    WRONG_TYPE "G004" "value of the wrong type"
        "The key is known, but its value is of another type, as a number where a string is needed.";
    OUT_OF_RANGE "G005" "number out of range"
        "The number is too small or too large to make sense: nothing can be tried 0 times, and no run may take an unlimited number of steps.";
    BAD_DURATION "G006" "text that is no duration"
        "A duration is a whole number and a unit: `500ms`, `60s`, `10m`, `2h` or `1d`.";
    BAD_NAME "G007" "name that cannot be used"
        "Channel names are used as variables in conditions and prompts: letters, digits and `_`, not starting with a digit, and no word of the condition language such as `and`. Node and graph names may also have `-`. `end` is the reserved end of a graph.";
    MEANINGLESS_KEY "G008" "key without meaning here"
        "The key belongs to another kind of node. `model` and `output` say how a `prompt` is answered; a `task` is Rust code and has its own.";
    KIND "G009" "node without one clear kind"
        "A node is either a registered Rust function (`task`) or a model call (`prompt`): one of the two keys, and not both.";
    UNKNOWN_TASK "G010" "unknown task"
        "No Rust function is registered under this name.";
    UNKNOWN_PROMPT "G011" "unknown prompt"
        "There is no prompt template of this name, neither built in nor in the prompts folder.";
    UNKNOWN_ROLE "G012" "unknown model role"
        "`model` names a role, as `patrol` or `investigator`; which model plays it is said in the configuration.";
    UNKNOWN_TYPE "G013" "unknown type"
        "Types are `any`, `bool`, `int`, `float`, `string`, the name of a registered Rust type, `T?` for a value or null, `T[]` for a list, `{T}` for an object whose values are `T`.";
    UNKNOWN_REDUCER "G014" "unknown reducer"
        "A reducer says how the writes of a step become the next value: `last`, `append`, `merge`, `union`, `sum`, `max` or `min`.";
    UNKNOWN_CLASS "G015" "unknown error class"
        "`retry.on` lists the classes of error that are worth another attempt: `transient`, `rate_limit`, `timeout`, `malformed`, `refused`, `permanent`, `panic`.";
    UNKNOWN_DURABILITY "G016" "unknown durability"
        "`power`: each step survives a loss of power. `crash`: each step survives a killed process. `exit`: written once, when the run ends.";
    UNKNOWN_NODE "G017" "unknown node"
        "An edge or `start` leads to a node that is not in the file. `end` ends the branch.";
    UNKNOWN_CHANNEL "G018" "unknown channel"
        "A state channel that `[state]` does not have. Every channel is declared there, with its type.";
    REDUCER_TYPE "G019" "reducer that does not fit the channel's type"
        "`append` and `union` need a list, `merge` needs an object, `sum`, `max` and `min` need a number. `last` fits every type.";
    DEFAULT_TYPE "G020" "default that does not fit the channel's type"
        "The default is the channel's value before the first write, so it must have the channel's type.";
    UNKNOWN_FIELD "G021" "unknown field"
        "`with`, `reads`, `writes` and `each.as` name fields of the node's own input and output: those of the Rust function, or the prompt's variables and the output type's fields.";
    MISSING_INPUT "G022" "input field without a value"
        "A required field of the input gets its value from the channel of the same name, from `reads`, from `with` or from `each.as`. None of them gives it.";
    GIVEN_TWICE "G023" "field that is given twice"
        "A field has one source. Two of `with`, `reads` and `each.as` give it, so one would be lost.";
    READ_TYPE "G024" "channel does not fit the input field"
        "The channel may hold values that the node's input cannot take. A channel of type `T?` may hold null, which only an optional field takes.";
    WRITE_TYPE "G025" "output field does not fit the channel"
        "The node may write a value that the channel cannot hold. A list channel with `append` or `union` takes one item or a list of them.";
    LOST_OUTPUT "G026" "output field that goes nowhere"
        "An output field goes to the channel of the same name or the one that `writes` says. If it is not wanted, say so: `writes = { field = \"_\" }`.";
    PARALLEL_WRITERS "G027" "several writers in one step"
        "A channel with the reducer `last` takes one write a step; of two, which one stays would be chance. Write in different steps, to different channels, or choose a reducer that keeps both, as `append`.";
    EACH_OVER "G028" "fan-out over something that is no list"
        "`each.over` names a list channel: the node runs once for each of its items.";
    EACH_ITEM "G029" "item does not fit the input field"
        "The items of the list have another type than the field that `each.as` names.";
    BAD_NEXT "G030" "`next` that cannot be read"
        "`next` is a node, a list of nodes to go to at once, or a list of arms `{ if = \"…\", to = \"node\" }` that ends with `{ else = \"node\" }`. `end` ends the branch.";
    NO_ELSE "G031" "conditions without `else`"
        "If no condition holds, the branch would silently end. Say what happens then: `{ else = \"end\" }` if that is meant.";
    AFTER_ELSE "G032" "arm that is never reached"
        "The first arm that holds is taken, and `else` always holds.";
    EXPRESSION "G033" "condition that cannot be read"
        "Conditions are expressions over the state channels, as in Jinja: `wanted and round < 3`, `kind in ['net', 'proc']`, `flags | length > 0`. Filters and tests are known ones, functions there are none.";
    EXPRESSION_CHANNEL "G034" "condition over an unknown channel"
        "A condition may read state channels and nothing else.";
    PROMPT_VARIABLE "G035" "prompt variable without a value"
        "The template uses a variable that is no channel and that neither `with`, `reads` nor `each.as` gives.";
    UNREACHABLE "G036" "node that is never reached"
        "No way leads from `start` to this node. Give it an edge or take it out.";
    NO_END "G037" "cycle without a way out"
        "Once here, a run would go round until `max_steps` stops it. One of the nodes needs an arm that leads to the end.";
    NEVER_WRITTEN "G038" "channel that is read but never has a value"
        "No node writes the channel, it has no default and is no input, so every read gives null, and a reader does not take null.";
    FIXED_TYPE "G039" "fixed value does not fit the field"
        "The value in `with` has another type than the field of the node's input.";
    TOO_LARGE "G040" "file too large"
        "A graph file may have 256 KiB, 500 nodes and 500 channels. Checks and drawings take more time the larger the graph is.";
    OUTPUT_FIELDS "G041" "output type without fields"
        "The fields of a prompt node's output type are what it writes. A type that is no object has none.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_without_gaps() {
        for (index, info) in CODES.iter().enumerate() {
            assert_eq!(info.code, format!("G{:03}", index + 1));
            assert!(!info.title.ends_with('.') && info.explanation.ends_with('.'), "{}", info.code);
        }
        assert_eq!(explain(" g017 ").map(|info| info.title), Some("unknown node"));
        assert_eq!(explain("G999"), None);
    }
}
