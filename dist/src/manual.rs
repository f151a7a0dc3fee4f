//! Manual pages of the programs, section 1.

use anyhow::Result;
use clap::Command;
use clap_mangen::Man;
use roff::{Roff, roman};

/// Pages of one program: itself and its subcommands; name and content of each file.
pub(crate) fn pages(command: &Command) -> Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let program = command.get_name().to_owned();
    let subcommands: Vec<_> =
        command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).collect();
    let named = |subcommand: &Command| format!("{program}-{}", subcommand.get_name());
    let mut names: Vec<_> = subcommands.iter().map(|subcommand| named(subcommand)).collect();
    names.insert(0, program.clone());
    let others = |name: &str| {
        let own = names.iter().filter(|other| *other != name).map(|other| format!("{other}(1)"));
        let program = if program == "wlproxy" { "guest-agent(1)" } else { "wlproxy(1)" };
        own.chain([program.to_owned(), "wlproxy.toml(5)".to_owned()]).collect::<Vec<_>>().join(", ")
    };
    let mut pages = vec![page(&program, &command, &others(&program))?];
    for subcommand in subcommands {
        let name = named(subcommand);
        pages.push(page(&name, subcommand, &others(&name))?);
    }
    Ok(pages)
}

fn page(name: &str, command: &Command, see_also: &str) -> Result<(String, Vec<u8>)> {
    let source = format!("wlproxy {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name).source(source);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    if let Some(notes) = command.get_after_long_help() {
        rest.control("SH", ["NOTES"]).text([roman(notes.to_string())]);
    }
    rest.control("SH", ["SEE ALSO"]).text([roman(see_also)]);
    rest.to_writer(&mut page)?;
    // Each part brings the same preamble.
    let (page, preamble) = (String::from_utf8(page)?, Roff::new().render());
    let page = preamble.clone() + &page.replace(&preamble, "");
    Ok((format!("man/{name}.1"), page.into_bytes()))
}
