//! Case files as files: `reports/case_<id>_<ts>.json`, rebuilt from the store at any time.

use std::path::{Path, PathBuf};

use crate::case::CaseFile;
use crate::store::{StoreError, export};

/// The file name of a case.
fn file_name(case: &CaseFile) -> String {
    // 2026-03-10T21:45:26.123Z becomes 20260310T214526Z, as the earlier tool named its files.
    let (date, _) =
        case.concluded_at.split_once('.').unwrap_or((case.concluded_at.trim_end_matches('Z'), ""));
    let stamp: String = date.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}{stamp}Z.json", prefix(case))
}

/// What the names of all files of a case begin with.
fn prefix(case: &CaseFile) -> String {
    // Ids of cases are ours or the earlier tool's; one from a damaged row is no path.
    let id: String =
        case.investigation_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    format!("case_{id}_")
}

/// Writes a case's file; an older one of the same case goes.
///
/// # Errors
/// Where the folder or file cannot be written.
pub(super) fn write(folder: &Path, case: &CaseFile) -> Result<PathBuf, StoreError> {
    export::private_dir(folder)?;
    let path = folder.join(file_name(case));
    let mut text = serde_json::to_string_pretty(case).unwrap_or_default();
    text.push('\n');
    export::replace(&path, &text)?;
    let prefix = prefix(case);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let older = name.to_str().is_some_and(|name| name.starts_with(&prefix));
        if older && entry.path() != path {
            // A file that stays is an older version of the same case, not a loss.
            drop(std::fs::remove_file(entry.path()));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(at: &str) -> CaseFile {
        serde_json::from_value(serde_json::json!({
            "crime_classification": "pii_leak", "severity_score": "LOW", "confidence": 0.5, "case_facts": "",
            "relevant_log_ids": [], "verdict_summary": "", "investigation_id": "ab-1", "concluded_at": at,
        }))
        .unwrap()
    }

    #[test]
    fn one_file_for_a_case() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("reports");
        let first = write(&folder, &case("2026-11-23T04:00:00.123Z")).unwrap();
        assert!(first.ends_with("case_ab-1_20261123T040000Z.json"));
        let second = write(&folder, &case("2026-11-23T05:00:00Z")).unwrap();
        assert!(second.ends_with("case_ab-1_20261123T050000Z.json"));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}
