//! `--stats FILE`.

use crate::stats::Stats;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where numbers are written to, if anywhere.
#[derive(Debug)]
pub(crate) struct StatsFile(pub(crate) Option<PathBuf>);

impl StatsFile {
    /// Writes the numbers. Readers see the old file or the new one, never half of one.
    pub(crate) fn write(&self, stats: &Stats) {
        if let Some(path) = &self.0
            && let Err(error) = replace(path, stats)
        {
            tracing::warn!("can't write the statistics to {}: {error}", path.display());
        }
    }
}

fn replace(path: &Path, stats: &Stats) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = std::fs::File::create(&new)?;
    serde_json::to_writer_pretty(&mut file, stats)?;
    writeln!(file)?;
    std::fs::rename(new, path)
}
