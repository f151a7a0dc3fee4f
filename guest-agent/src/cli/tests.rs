use super::*;
use clap::CommandFactory;

const CHANNELS: [&str; 4] = ["`auto`", "`virtio_wl`", "`virtgpu`", "`process:SOCKET`"];

#[test]
fn the_help_names_every_channel() {
    for command in ["run", "serve"] {
        let mut args = Args::command();
        let help = args.find_subcommand_mut(command).unwrap().render_help().to_string();
        for channel in CHANNELS {
            assert!(help.contains(channel), "{channel}: {help}");
        }
    }
}
