//! Where the machine gets its own packages, and packages of another suite from there.

use super::Suite;
use crate::apt::AptGet;
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A source of the machine's apt that may have other suites, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    uri: String,
    /// What sources.list(5) calls Signed-By, as it is written there: paths of keyrings, fingerprints, or keys. Without
    /// it the keys of the whole machine count.
    signed_by: Option<String>,
}

/// One entry of a file of sources.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// The mirrors of a machine whose apt is configured in `etc`, none twice.
pub(super) fn of_machine(etc: &Path) -> Result<Vec<Mirror>> {
    let parts = fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = parts.map(|file| file.path()).collect();
    files.sort();
    files.insert(0, etc.join("sources.list"));
    let mut mirrors = Vec::new();
    for file in files {
        let read: fn(&str) -> Vec<Entry> = match file.extension().and_then(|end| end.to_str()) {
            Some("list") => one_line_entries,
            Some("sources") => stanzas,
            _ => continue,
        };
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for mirror in read(&text).into_iter().flat_map(mirrors_of) {
            if !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
    }
    // Others than Debian's may have a `main`, too.
    mirrors.sort_by_key(|mirror: &Mirror| !mirror.uri.contains("debian"));
    if mirrors.is_empty() {
        bail!(
            "{} names no mirror of Debian; see sources.list(5) for how to add one",
            etc.join("sources.list.d").display()
        );
    }
    Ok(mirrors)
}

/// Those of an entry that may have all suites. What is made for one suite beside it, such as its security updates, is
/// elsewhere.
fn mirrors_of(entry: Entry) -> Vec<Mirror> {
    let whole = entry.suites.iter().any(|suite| !suite.contains(['-', '/']));
    let main = entry.components.iter().any(|component| component == "main");
    let uris = entry.uris.into_iter().filter(|uri| whole && main && !uri.starts_with("cdrom:"));
    let signed_by = entry.signed_by;
    uris.map(|uri| Mirror { uri, signed_by: signed_by.clone() }).collect()
}

/// `deb [OPTIONS] URI SUITE COMPONENT...`
fn one_line_entries(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let signed_by = options.split_whitespace().find_map(|word| word.strip_prefix("signed-by="));
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(Entry {
            uris: vec![words.next()?],
            suites: vec![words.next()?],
            components: words.collect(),
            signed_by: signed_by.map(|paths| paths.replace(',', " ")),
        })
    };
    text.lines().filter_map(entry).collect()
}

/// Stanzas of fields, as deb822(5) has them.
fn stanzas(text: &str) -> Vec<Entry> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = text.split(|line| line.trim().is_empty());
    stanzas.filter_map(stanza).collect()
}

fn stanza(lines: &[&str]) -> Option<Entry> {
    // Name and value; a value goes on in lines that begin with a space.
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':')?;
            fields.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| &*field.1);
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let off = ["no", "false", "without", "off", "disable"];
    let enabled = field("enabled").is_none_or(|value| !off.contains(&&*value.to_lowercase()));
    (enabled && words("types").contains(&"deb".to_owned())).then(|| Entry {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

impl Mirror {
    /// Where it is.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Downloads the packages of `suite` and all that they depend on, with whatever apt keeps in `state`, a folder of
    /// its own. Returns the folder where they are then, and nothing else.
    ///
    /// Only what is signed by the keys that the machine trusts for this mirror comes through.
    pub(super) fn download(
        &self,
        suite: &Suite,
        state: &Path,
        apt: &mut AptGet<'_>,
    ) -> Result<PathBuf> {
        if state.exists() {
            // Another mirror may have been asked before.
            fs::remove_dir_all(state)
                .with_context(|| format!("can't remove {}", state.display()))?;
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(folder))
                .with_context(|| format!("can't make {}", state.display()))?;
        }
        // Nothing is installed yet, as apt sees it: so it gets the libraries, too.
        fs::write(state.join("status"), "")?;
        fs::write(state.join("suite.sources"), self.sources(suite))?;
        let config = state.join("apt.conf");
        fs::write(&config, configuration(state, &architecture()?))?;
        let config = config.to_str().context("the path of the workspace isn't text")?;

        let told = |error: anyhow::Error| match cure(&format!("{error:#}"), suite) {
            Some(cure) => anyhow!("{cure}\n{error:#}"),
            None => error,
        };
        apt.progress.stage(format!("apt-get update, of {}", suite.name));
        apt.run(&["-c", config, "update"]).map_err(told)?;
        apt.progress.stage(format!("apt-get download {}", suite.packages.join(" ")));
        let install = ["-c", config, "install", "--download-only", "--no-install-recommends"];
        apt.run(&[&install, suite.packages].concat()).map_err(told)?;
        Ok(state.join("cache/archives"))
    }

    /// The one source of packages.
    fn sources(&self, suite: &Suite) -> String {
        // A mirror that stands still is as good: nothing of it gets into the machine. Who signed it is checked.
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nCheck-Valid-Until: no\n",
            self.uri, suite.name
        );
        if let Some(signed_by) = &self.signed_by {
            text.push_str(&format!("Signed-By: {signed_by}\n"));
        }
        text
    }
}

/// What apt is told in addition to what it is told on this machine, such as by which proxy to go.
fn configuration(state: &Path, architecture: &str) -> String {
    let state = state.display();
    format!(
        "// What the machine wants for itself.\n\
         #clear APT::Architectures;\n\
         #clear APT::Default-Release;\n\
         #clear APT::Update;\n\
         #clear DPkg::Pre-Install-Pkgs;\n\
         APT::Architecture \"{architecture}\";\n\
         APT::Architectures {{ \"{architecture}\"; }};\n\
         APT::Update::Error-Mode \"any\";\n\
         // Another user may not come here.\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Dir::State \"{state}\";\n\
         Dir::State::lists \"{state}/lists\";\n\
         Dir::State::status \"{state}/status\";\n\
         Dir::Cache \"{state}/cache\";\n\
         Dir::Cache::archives \"{state}/cache/archives\";\n\
         Dir::Etc::sourcelist \"{state}/suite.sources\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n"
    )
}

/// The machine's own, such as amd64.
fn architecture() -> Result<String> {
    let mut command = Command::new("dpkg");
    let output = command.arg("--print-architecture").output().context("can't run dpkg")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What helps against an error of apt's.
fn cure(error: &str, suite: &Suite) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if says(&["NO_PUBKEY", "EXPKEYSIG", "Missing key", "couldn't be verified"]) {
        Some(format!(
            "the machine doesn't know the keys that {} is signed with; a newer keyring has them, so run: \
             apt-get update && apt-get install debian-archive-keyring",
            suite.name
        ))
    } else if says(&["does not have a Release file"]) {
        Some(format!("it has no {}; name a mirror in /etc/apt/sources.list.d that has", suite.name))
    } else if says(&["Unable to locate package", "has no installation candidate"]) {
        Some(format!("not all packages are in its {}", suite.name))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
