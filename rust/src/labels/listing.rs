//! Which files belong to a data set: pictures below a folder, their order, their label files, and those of none.

use std::collections::{HashMap, HashSet};
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
pub(super) fn in_order(pictures: &[PathBuf]) -> Vec<PathBuf> {
    let mut keyed: Vec<_> = pictures.iter().map(|path| (path.file_stem(), path.as_os_str())).collect();
    keyed.sort_unstable();
    keyed.dedup();
    keyed.into_iter().map(|(_, path)| path.into()).collect()
}

/// Where the labels of a picture lie: the last folder called `images` becomes `labels`, the suffix `.txt`.
pub fn label_file(picture: &Path) -> PathBuf {
    label_folder(picture.parent().unwrap_or(picture)).join(label_name(picture))
}

fn label_folder(folder: &Path) -> PathBuf {
    let last = folder.ancestors().find(|at| at.file_name() == Some(OsStr::new("images")));
    let place = last.and_then(|images| Some(images.with_file_name("labels").join(folder.strip_prefix(images).ok()?)));
    place.unwrap_or_else(|| folder.to_path_buf())
}

fn label_name(picture: &Path) -> OsString {
    let mut name = picture.file_stem().unwrap_or_default().to_os_string();
    name.push(".txt");
    name
}

/// A folder of label files, and the names of those that belong to a picture.
struct Folder {
    path: PathBuf,
    names: HashSet<OsString>,
}

/// The label files of pictures.
pub(super) struct LabelFiles {
    /// One per picture.
    pub(super) paths: Vec<PathBuf>,
    folders: Vec<Folder>,
}

impl LabelFiles {
    /// Where the labels of the pictures lie.
    pub(super) fn of(pictures: &[PathBuf]) -> Self {
        let (mut paths, mut folders) = (Vec::with_capacity(pictures.len()), Vec::<Folder>::new());
        let mut places: HashMap<&OsStr, usize> = HashMap::new(); // by the folder of the picture
        for picture in pictures {
            let folder = picture.parent().unwrap_or(picture);
            let place =
                *places.entry(folder.as_os_str()).or_insert_with(|| place_of(&mut folders, label_folder(folder)));
            let name = label_name(picture);
            paths.push(folders[place].path.join(&name));
            folders[place].names.insert(name);
        }
        Self { paths, folders }
    }

    /// Whether no two pictures have one file.
    pub(super) fn are_distinct(&self) -> bool {
        self.folders.iter().map(|folder| folder.names.len()).sum::<usize>() == self.paths.len()
    }

    /// Label files of no picture, in the same folders.
    pub(super) fn orphans(&self) -> Vec<PathBuf> {
        let in_folder = |folder: &Folder| {
            let place = if folder.path.as_os_str().is_empty() { Path::new(".") } else { &folder.path };
            let names = std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let orphans = names.filter(|name| !folder.names.contains(name) && is_label_name(name));
            orphans.map(|name| folder.path.join(name)).collect::<Vec<_>>()
        };
        let mut orphans: Vec<_> = self.folders.iter().flat_map(in_folder).collect();
        orphans.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        orphans
    }
}

/// The place of a folder, which is put behind the others when it is not among them.
fn place_of(folders: &mut Vec<Folder>, path: PathBuf) -> usize {
    folders.iter().position(|known| known.path == path).unwrap_or_else(|| {
        folders.push(Folder { path, names: HashSet::new() });
        folders.len() - 1
    })
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
        assert_eq!(in_order(&pictures), sorted);
    }
}
