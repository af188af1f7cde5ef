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
        "A graph file has five sections: `[graph]`, `[defaults]`, `[state]`, `[node.NAME]` and `[[migrate]]`. A key that none of them knows would have no effect, so it is an error, not a comment.";
    MISSING_KEY "G003" "missing key"
        "A key that has no default is not there. `[graph]` needs `name` and `start`, a channel needs `type`, a prompt node needs `model` and `output`, a gate `ask` and `options`, `each` needs `over` and `as`, `retry` needs `attempts`, `cache` needs `ttl`, a migration `from` and `to`.";
    WRONG_TYPE "G004" "value of the wrong type"
        "The key is known, but its value is of another type, as a number where a string is needed.";
    OUT_OF_RANGE "G005" "number out of range"
        "The number is too small or too large to make sense: nothing can be tried 0 times, and no run may take an unlimited number of steps.";
    BAD_DURATION "G006" "text that is no duration"
        "A duration is a whole number and a unit: `500ms`, `60s`, `10m`, `2h` or `1d`.";
    BAD_NAME "G007" "name that cannot be used"
        "Channel names are used as variables in conditions and prompts: letters, digits and `_`, not starting with a digit, and no word of the condition language such as `and`. Node and graph names may also have `-`. `end` is the reserved end of a graph.";
    MEANINGLESS_KEY "G008" "key without meaning here"
        "The key belongs to another kind of node, or says nothing beside another key. `model` and `output` say how a `prompt` is answered, `in` and `out` connect a `graph`, `ask` and `options` make a gate's question, and only a `task`, which is Rust code, can `goto` and `send`.";
    KIND "G009" "node without one clear kind"
        "A node is a registered Rust function (`task`), a model call (`prompt`), another graph (`graph`) or a person's decision (`kind = \"gate\"`): one of them, and only one.";
    UNKNOWN_TASK "G010" "unknown task"
        "No Rust function is registered under this name.";
    UNKNOWN_PROMPT "G011" "unknown prompt"
        "There is no prompt template of this name, neither built in nor in the prompts folder.";
    UNKNOWN_ROLE "G012" "unknown model role"
        "`model` names a role, as `patrol` or `investigator`; which model plays it is said in the configuration.";
    UNKNOWN_TYPE "G013" "unknown type"
        "Types are `any`, `bool`, `int`, `float`, `string`, the name of a registered Rust type, `T?` for a value or null, `T[]` for a list, `{T}` for an object whose values are `T`.";
    UNKNOWN_REDUCER "G014" "unknown reducer"
        "A reducer says how the writes of a step become the next value: `last`, `append`, `merge`, `union`, `sum`, `max`, `min`, `first`, `by_id`, or one that the host program registered.";
    UNKNOWN_CLASS "G015" "unknown error class"
        "`retry.on` lists the classes of error that are worth another attempt, and `on` of an `on_error` arm those that it takes: `transient`, `rate_limit`, `timeout`, `malformed`, `refused`, `permanent`, `panic`, `budget`.";
    UNKNOWN_DURABILITY "G016" "unknown durability"
        "`power`: each step survives a loss of power. `crash`: each step survives a killed process. `exit`: written once, when the run ends.";
    UNKNOWN_NODE "G017" "unknown node"
        "An edge, `start` or `finally` leads to a node that is not in the file. `end` ends the branch.";
    UNKNOWN_CHANNEL "G018" "unknown channel"
        "A state channel that `[state]` does not have. Every channel is declared there, with its type.";
    REDUCER_TYPE "G019" "reducer that does not fit the channel's type"
        "`append` and `union` need a list, `by_id` a list of objects with an `id`, `merge` needs an object, `sum`, `max` and `min` need a number. `last` and `first` fit every type.";
    DEFAULT_TYPE "G020" "default that does not fit the channel's type"
        "The default is the channel's value before the first write, so it must have the channel's type.";
    UNKNOWN_FIELD "G021" "unknown field"
        "`with`, `reads`, `writes`, `validates`, `overwrite` and `each.as` name fields of the node's own input and output: those of the Rust function, the prompt's variables and the output type's fields, or the inner graph's `input` and `output` channels.";
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
        "A channel with the reducer `last` takes one write a step; of two, which one stays would be chance. Write in different steps, to different channels, or choose a reducer that keeps both, as `append`. A fan-out, and a node that others `send` tasks to, write once for each task.";
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
        "Once here, a run would go round until `max_steps` stops it. One of the nodes needs an arm that leads to the end, or `max_visits`.";
    NEVER_WRITTEN "G038" "channel that is read but never has a value"
        "No node writes the channel, it has no default and is no input, so every read gives null, and a reader does not take null.";
    FIXED_TYPE "G039" "fixed value does not fit the field"
        "The value in `with` has another type than the field of the node's input.";
    TOO_LARGE "G040" "file too large"
        "A graph file may have 256 KiB, 500 nodes and 500 channels. Checks and drawings take more time the larger the graph is.";
    OUTPUT_FIELDS "G041" "output type without fields"
        "The fields of a prompt node's output type are what it writes. A type that is no object has none.";
    UNKNOWN_GRAPH "G042" "unknown graph"
        "A `graph` node names a graph file that is at hand and has no faults of its own. A graph cannot contain itself.";
    BAD_VALUE "G043" "word that has no meaning here"
        "The key takes one of a few words: `barrier` is `superstep` or `dataflow`, `trust` is `trusted` or `untrusted`, `effect` is `pure`, `read`, `write` or `danger`, `kind` is `gate`, `on_item_error` is `fail`, `null` or `drop`, `join` is `all`, `any` or as `2 of 3` with `on_timeout` `go` or `fail`.";
    UNKNOWN_OPTION "G044" "unknown option of a gate"
        "`on_timeout` names one of the gate's own `options`: the one that is taken when nobody has answered.";
    GATE_OPTIONS "G045" "gate that leaves no choice"
        "A gate asks a person to choose. With no option it can never be passed; with one, or with several that all lead to the same place, the answer decides nothing.";
    GATE_TIMEOUT "G046" "gate whose waiting has no end that is said"
        "A gate with a `timeout` says with `on_timeout` which option is taken then, and one with `on_timeout` says when. A gate without either waits until it is answered.";
    GATE_OPENS "G047" "silence that counts as consent"
        "When nobody answers, `on_timeout` leads to a `danger` node without a further gate. A gate fails closed: let it lead to the option that does nothing.";
    NO_GATE "G048" "danger without a gate"
        "What a `danger` node does cannot be undone, so a person must have consented: on every path from `start` to it stands a gate. `finally`, error arms, `goto` and `send` are paths too.";
    STEERED "G049" "danger that untrusted values steer"
        "Between the last gate and a `danger` node, a choice of the way depends on an untrusted channel: log text or a model would decide whether it is done, and the person who consented could not see that. Decide before the gate.";
    CHANGED "G050" "danger over a value that may change after consent"
        "The `danger` node reads an untrusted channel that another node can write after the last gate, so what is done need not be what was shown. Write it before the gate, or ask again.";
    NOT_SHOWN "G051" "consent to something that is not shown"
        "The `danger` node reads an untrusted channel that its last gate does not show: whoever consents does not see to what. Add the channel to the gate's `shows`.";
    TRUST_FLOW "G052" "untrusted value in a trusted channel"
        "What a node makes of untrusted channels is untrusted, and so is every answer of a model, every failure's message and every task that an untrusted value was sent with. Mark the channel `trust = \"untrusted\"`, or, where the node checks the value, say so with `validates`.";
    VALIDATES "G053" "node that cannot vouch for this"
        "A model's answer is held to its schema, so a `prompt` node can vouch for a bool, a number or a word of a fixed list, never for text. A graph's channels have their own labels.";
    UNTRUSTED_CONDITION "G054" "way that untrusted text decides"
        "A condition may use of an untrusted channel only what a schema bounds: a bool, a number, a word of a fixed list, whether a list or optional value is there, and `| length` of a list. Text that a log or model wrote could choose the way itself.";
    SECRET_LEAK "G055" "secret that would leave its channel"
        "A `secret` channel is encrypted at rest and masked in every view. A prompt would send it to a model, and a channel of an inner graph that is not secret would store it in clear.";
    EFFECT "G056" "effect lower than the function's"
        "The function was registered with the least that it does to the world. A graph file may say more, never less.";
    CACHE_EFFECT "G057" "cache on a node that changes something"
        "An earlier result cannot stand for doing it: only `pure` and `read` nodes may have a `cache`.";
    DEAD_ARM "G058" "error arm that is never taken"
        "The first arm of `on_error` that has the class of the failure is taken, and one without `on` has them all. An earlier arm takes what this one names.";
    RETRY_HOPELESS "G059" "retry of what fails the same way again"
        "A failure of class `permanent` fails again the same way, and a spent `budget` stays spent. Further attempts only cost time.";
    BAD_SEND "G060" "node that cannot be sent tasks"
        "A task that is sent brings its own input, so the node it is sent to has no `each`, no `join`, is no gate and is not `finally`.";
    JOIN_NEVER "G061" "join that can never fire"
        "`\"2 of 3\"` needs as many nodes that lead here as it says, needs no more than there are, and needs branches that can run beside each other: of two arms of one choice only one comes. A run's start has nobody to wait for.";
    JOIN_IDLE "G062" "join that has nothing to join"
        "Fewer than two branches can come, so there is nothing to wait for.";
    RUNS_TWICE "G063" "node that parallel branches reach at different times"
        "Branches of unequal length lead to the same node, so it runs once for each of them. `join = \"all\"` makes it wait for all; where it is meant, nothing needs to change.";
    FINALLY "G064" "`finally` node that is part of the graph"
        "`finally` runs by itself when the run ends, also after a failure: no edge leads to it or out of it, it waits for nothing, and is neither a gate nor a fan-out.";
    MAX_ITEMS "G065" "`max_items` of something that is no list"
        "`max_items` says how many items of a list stay; other types have none.";
    NOT_PERSISTED "G066" "input that a resume loses"
        "A channel with `persist = false` is back at its default after a resume. This one is an `input` and has no default, so the run would go on without it.";
    MIGRATION "G067" "migration that leads nowhere"
        "Migrations lead in steps from earlier versions to this one: each from a lower to a higher version, one for each step, the last to `version`. They name channels and nodes as that version has them.";
    NO_DATAFLOW "G068" "dataflow without anything to gain"
        "`barrier = \"dataflow\"` lets a branch run ahead where what it reads and writes is disjoint from what the others still read and write. No two nodes that can run beside each other are.";
    WRITE_UNREAD "G069" "write that nobody reads"
        "A node writes the channel, but no node, condition or gate reads it. Mark it `output = true` if it is a result, or throw the field away: `writes = { field = \"_\" }`.";
    UNUSED "G070" "channel that is never used"
        "Nothing reads or writes the channel. Take it out, or give it to a node.";
    NO_OUTPUT "G071" "output that is never written"
        "The channel is what the run is for, but nothing writes it, so it will be empty.";
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
