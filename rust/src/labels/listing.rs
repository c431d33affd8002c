//! Which files belong to a data set: pictures below a folder, their order, their label files, and those of none.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Files beside labels that are none.
const NO_LABELS: [&str; 5] = ["classes.txt", "labels.txt", "train.txt", "val.txt", "test.txt"];

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

/// Every picture once, by name without folder and suffix, then by path.
pub(super) fn in_order(mut pictures: Vec<PathBuf>) -> Vec<PathBuf> {
    pictures.sort_by_cached_key(|path| (path.file_stem().map(OsStr::to_os_string), path.clone().into_os_string()));
    pictures.dedup_by(|a, b| a.as_os_str() == b.as_os_str());
    pictures
}

/// Where the labels of a picture lie: the last folder called `images` becomes `labels`, the suffix `.txt`.
pub fn label_file(picture: &Path) -> PathBuf {
    let (folder, name) = (picture.parent().unwrap_or(picture), picture.file_name().unwrap_or_default());
    let last = folder.ancestors().find(|at| at.file_name() == Some(OsStr::new("images")));
    let place = last.and_then(|images| Some(images.with_file_name("labels").join(folder.strip_prefix(images).ok()?)));
    place.unwrap_or_else(|| folder.to_path_buf()).join(name).with_extension("txt")
}

/// Label files of no picture, in the folders of those that belong to one.
pub(super) fn orphans(labels: &[PathBuf]) -> Vec<PathBuf> {
    let known: HashSet<&OsStr> = labels.iter().map(|label| label.as_os_str()).collect();
    let folders: BTreeSet<&OsStr> = labels.iter().filter_map(|label| Some(label.parent()?.as_os_str())).collect();
    let in_folder = |folder: &OsStr| {
        let place = if folder.is_empty() { OsStr::new(".") } else { folder };
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        let names: BTreeSet<_> = entries.map(|entry| entry.file_name()).filter(|name| is_label_name(name)).collect();
        names.into_iter().map(|name| Path::new(folder).join(name)).collect::<Vec<_>>()
    };
    folders.into_iter().flat_map(in_folder).filter(|path| !known.contains(path.as_os_str())).collect()
}

fn is_label_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".txt") && !NO_LABELS.contains(&&*name) && !name.to_uppercase().starts_with("README")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{in_order, label_file};

    #[test]
    fn labels_lie_where_the_last_images_becomes_labels() {
        for (picture, labels) in [
            ("/a/images/b/images/c.d.jpg", "/a/images/b/labels/c.d.txt"),
            ("images/x.png", "labels/x.txt"),
            ("/images/deep/er/x.png", "/labels/deep/er/x.txt"),
            ("/a/images.jpg", "/a/images.txt"),
            ("/a/my images/x", "/a/my images/x.txt"),
            ("x.jpg", "x.txt"),
            ("../images/x.jpg", "../labels/x.txt"),
        ] {
            assert_eq!(label_file(Path::new(picture)).as_os_str(), labels);
        }
    }

    #[test]
    fn pictures_come_once_by_their_stems() {
        let pictures = ["b/a.png", "a/b.jpg", "a/a.png", "a/b.jpg", "a/a.b.jpg", "z/a.jpg"].map(PathBuf::from);
        let sorted = ["a/a.png", "b/a.png", "z/a.jpg", "a/a.b.jpg", "a/b.jpg"].map(PathBuf::from);
        assert_eq!(in_order(pictures.to_vec()), sorted);
    }
}
