//! Which device node is a virtio-gpu's, and why it can't be used if it can't.

use super::Error;
use super::node::{Kind, Node};
use nix::unistd::{Gid, Group};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where DRM's device nodes are.
const FOLDER: &str = "/dev/dri";

/// How the names of those begin that render and show nothing.
const PREFIX: &str = "renderD";

/// What there has to be.
const CURE: &str = "give this VM a virtio-gpu device with the cross-domain capset, and load its driver (modprobe \
                    virtio_gpu)";

/// The render node of a virtio-gpu with the cross-domain capset, if there is one.
///
/// # Errors
/// [`Error::Lost`] if there is none, [`Error::Refused`] if it may not be opened.
pub fn find() -> Result<PathBuf, Error> {
    find_in(Path::new(FOLDER))
}

fn find_in(folder: &Path) -> Result<PathBuf, Error> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut nodes: Vec<PathBuf> = names
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        .map(|entry| entry.path())
        .collect();
    nodes.sort();
    // The one that comes nearest says what is missing.
    let mut nearest = None;
    for node in nodes {
        match check(&node) {
            Ok(()) => return Ok(node),
            Err(error @ Error::Refused(_)) => nearest = Some(error),
            Err(error) => {
                nearest.get_or_insert(error);
            }
        }
    }
    Err(nearest.unwrap_or_else(|| {
        Error::Lost(format!("there is no render node in {}: {CURE}", folder.display()))
    }))
}

/// Whether the node at `path` can be used.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let shown = path.display();
    match Node(path.to_owned()).kind() {
        Ok(Kind::CrossDomain) => Ok(()),
        Ok(Kind::Without(what)) => {
            Err(Error::Lost(format!("the virtio-gpu of {shown} is one without {what}: {CURE}")))
        }
        Ok(Kind::Other) => Err(Error::Lost(format!("{shown} isn't a virtio-gpu's: {CURE}"))),
        Err(error) => Err(unopened(path, &error)),
    }
}

/// Why the node can't be opened, and what to do.
fn unopened(path: &Path, error: &io::Error) -> Error {
    let node = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => Error::Lost(format!("there is no device {node}: {CURE}")),
        io::ErrorKind::PermissionDenied => {
            let gid = fs::metadata(path).map(|metadata| Gid::from_raw(metadata.gid()));
            let who = gid.map_or_else(|_| "who may".to_owned(), name);
            Error::Refused(format!(
                "this user may not read and write {node}: add the user to {who}, and log in again"
            ))
        }
        _ => Error::Lost(format!("{node} can't be opened: {error}")),
    }
}

/// A group as people know it.
fn name(gid: Gid) -> String {
    match Group::from_gid(gid) {
        Ok(Some(group)) => format!("the group {0} (usermod -aG {0} USER)", group.name),
        _ => format!("the group {gid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_without_such_a_node_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let why = |path: &Path| match find_in(path) {
            Err(Error::Lost(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&folder.path().join("dri")).contains("there is no render node"));
        symlink("/dev/null", folder.path().join("card0")).unwrap();
        assert!(why(folder.path()).contains("there is no render node"));
        symlink("/dev/null", folder.path().join("renderD128")).unwrap();
        let text = why(folder.path());
        assert!(text.contains("renderD128 isn't a virtio-gpu's") && text.contains("modprobe"));
    }

    #[test]
    fn who_may_not_open_it_is_told_the_group() {
        let node = tempfile::NamedTempFile::new().unwrap();
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let Error::Refused(why) = unopened(node.path(), &denied) else { panic!("it may not") };
        let group = Group::from_gid(Gid::effective()).unwrap().unwrap().name;
        assert!(why.contains(node.path().to_str().unwrap()) && why.contains(&group), "{why}");
    }
}
