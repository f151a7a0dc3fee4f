//! Keeps what was measured in the tree, so that it can be compared with later.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// What stands in a summary whose benchmarks ran on several days.
const SEVERAL: &str = "**Not one run**";

/// What stands in one that lacks something.
const LACKING: [&str; 2] = ["not measured", "Nothing was measured"];

/// Copies the summary in `results`, and its plots, to `record`, by the day that it is of. What was kept of the same day is
/// replaced. Returns the copy.
pub(super) fn keep(results: &Path, record: &Path) -> Result<PathBuf> {
    let summary = results.join("summary.md");
    let mut text = fs::read_to_string(&summary)
        .with_context(|| format!("can't read {}", summary.display()))?;
    ensure!(
        !text.contains(SEVERAL),
        "{} is of several days: run `cargo xtask bench --record` alone",
        summary.display()
    );
    if let Some(lacking) = LACKING.iter().find(|lacking| text.contains(**lacking)) {
        bail!("{} has {lacking:?} in it: run all benchmarks", summary.display());
    }
    let day = day(&text).with_context(|| format!("{} doesn't tell its day", summary.display()))?;
    fs::create_dir_all(record).with_context(|| format!("can't make {}", record.display()))?;
    let plots = fs::read_dir(results)?.flatten().map(|entry| entry.path());
    for plot in plots.filter(|path| path.extension().is_some_and(|extension| extension == "svg")) {
        let name = plot.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let link = format!("({name})");
        if text.contains(&link) {
            let kept = format!("{day}-{name}");
            fs::copy(&plot, record.join(&kept))
                .with_context(|| format!("can't copy {}", plot.display()))?;
            text = text.replace(&link, &format!("({kept})"));
        }
    }
    let kept = record.join(format!("{day}.md"));
    fs::write(&kept, text).with_context(|| format!("can't write {}", kept.display()))?;
    Ok(kept)
}

/// The day that a summary is of: what a line begins with that has the form YYYY-MM-DD.
fn day(text: &str) -> Option<String> {
    let days = text.lines().filter_map(|line| line.get(..10));
    let is_day = |text: &&str| {
        text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
    };
    days.into_iter().find(is_day).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_text(text: &str) -> (tempfile::TempDir, Result<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("summary.md"), text).unwrap();
        fs::write(folder.path().join("a.svg"), "<svg/>").unwrap();
        fs::write(folder.path().join("old.svg"), "<svg/>").unwrap();
        let kept = keep(folder.path(), &folder.path().join("record"));
        (folder, kept)
    }

    #[test]
    fn a_summary_is_kept_with_its_plots() {
        let (folder, kept) = keep_text("# Title\n\n2026-01-31, 2 processors\n\n![a](a.svg)\n");
        let kept = kept.unwrap();
        assert!(kept.ends_with("record/2026-01-31.md"), "{}", kept.display());
        let text = fs::read_to_string(kept).unwrap();
        assert_eq!(text, "# Title\n\n2026-01-31, 2 processors\n\n![a](2026-01-31-a.svg)\n");
        let record = folder.path().join("record");
        assert!(record.join("2026-01-31-a.svg").exists());
        assert_eq!(fs::read_dir(record).unwrap().count(), 2);
    }

    #[test]
    fn half_a_summary_is_not_kept() {
        for (text, reason) in [
            ("2026-01-31\n**Not one run**: frame", "several days"),
            ("2026-01-31\n| not measured |", "run all benchmarks"),
            ("Nothing was measured yet", "run all benchmarks"),
            ("# Title", "doesn't tell its day"),
        ] {
            let (_folder, kept) = keep_text(text);
            let error = format!("{:#}", kept.unwrap_err());
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
