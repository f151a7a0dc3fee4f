//! Completions for shells.

use clap::Command;
use clap_complete::Shell;

/// Completions for one program: name and content of each file.
pub(crate) fn scripts(command: &Command) -> Vec<(String, Vec<u8>)> {
    let name = command.get_name().to_owned();
    let script = |(shell, file)| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), &name, &mut script);
        if shell == Shell::Bash {
            script = mend(&name, &script);
        }
        (format!("completions/{file}"), script)
    };
    // The names under which the shells look for them.
    [
        (Shell::Bash, format!("{name}.bash")),
        (Shell::Zsh, format!("_{name}")),
        (Shell::Fish, format!("{name}.fish")),
    ]
    .map(script)
    .into()
}

/// clap_complete 4.6.11 writes the name of a program with a dash in two ways, and bash then completes no option of a
/// subcommand.
fn mend(name: &str, script: &[u8]) -> Vec<u8> {
    let (wrong, right) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
    String::from_utf8_lossy(script).replace(&wrong, &right).into_bytes()
}
