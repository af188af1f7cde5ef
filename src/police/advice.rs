//! What a category means for the person who owns the agent.

use crate::case::Category;

/// What happened, in plain words, for the first line of a case.
pub(super) const fn headline(category: Category) -> &'static str {
    match category {
        Category::PiiLeak => "personal data stands in the open",
        Category::HarmfulIntent => "the conversation is about doing harm",
        Category::UnsafeToolUse => "a tool was used in a way that endangers the machine or its data",
        Category::PromptInjection => "text tried to take the agent over",
        Category::CredentialSolicitation => "somebody was asked for credentials",
        Category::SecretHardcoding => "a credential stands in the open",
        Category::BackdoorInsertion => "a way back in was being installed",
        Category::ConfidentialDataDisclosure => "confidential data was being sent away",
        Category::EmailPiiExfiltration => "personal data was being sent away by e-mail",
        Category::Unknown => "something is wrong that has no category",
    }
}

/// What to do now, most urgent first.
pub(super) fn actions(category: Category) -> Vec<String> {
    let actions: &[&str] = match category {
        Category::PiiLeak | Category::EmailPiiExfiltration => &[
            "Find out whose data it is and whether it left the machine; tell them where the law asks for it.",
            "Remove the data from the agent's memory, files and chats.",
        ],
        Category::SecretHardcoding => &[
            "Revoke the credential and issue a new one: it stands in logs and in the model provider's hands.",
            "Look in the credential's own audit log for use that is not yours.",
            "Give the agent a secret by reference, not by value.",
        ],
        Category::CredentialSolicitation => &[
            "Do not answer the request; change the credential if somebody did.",
            "Find out what made the agent ask: an injected instruction, a skill, or its own prompt.",
        ],
        Category::PromptInjection => &[
            "Check what the agent did after it read the text: tool calls, messages, files.",
            "Remove the page, file or message it came from, and start the agent in a fresh session.",
        ],
        Category::UnsafeToolUse => &[
            "Check whether the command ran, and what it changed.",
            "Deny the tool, or require approval for it, before the agent goes on.",
        ],
        Category::BackdoorInsertion => &[
            "Stop the agent, and remove the key, job, account or unit that it installed.",
            "Treat the machine as entered by a stranger until that is disproved.",
        ],
        Category::ConfidentialDataDisclosure => &[
            "Find out what was sent, and to whom; block the destination.",
            "Change every credential that was among it.",
        ],
        Category::HarmfulIntent => {
            &["Read the conversation; end it, and bar the user if the intent is real."]
        }
        Category::Unknown => &["Read the flagged turns."],
    };
    actions.iter().map(|action| (*action).to_owned()).collect()
}
