//! Files below a folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// All entries below `folder` whose name has one of the suffixes (lower case, with the dot) and does not begin with a
/// dot; links to folders are not followed, folders that cannot be read are passed over.
pub fn files_below(folder: &Path, suffixes: &[String]) -> Vec<OsString> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if has_suffix(&name.to_string_lossy(), suffixes) {
                found.push(entry.path().into_os_string());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found
}

fn has_suffix(name: &str, suffixes: &[String]) -> bool {
    let dot = name.rfind('.').filter(|&at| at > 0 && !name.starts_with('.'));
    dot.is_some_and(|at| suffixes.contains(&name[at..].to_lowercase()))
}
