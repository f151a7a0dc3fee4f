use super::*;
use clap::CommandFactory;

fn parse(channel: &str) -> Result<ChannelSpec, String> {
    channel.parse()
}

#[test]
fn channels_have_names() {
    assert_eq!(parse("virtio_wl"), Ok(ChannelSpec::VirtioWl("/dev/wl0".into())));
    assert_eq!(parse("virtio_wl:/dev/wl1"), Ok(ChannelSpec::VirtioWl("/dev/wl1".into())));
    assert_eq!(parse("process:/run/a:b"), Ok(ChannelSpec::Process("/run/a:b".into())));
}

#[test]
fn what_is_no_channel_is_told_which_there_are() {
    for text in ["", "virtio", "virtio_wl:", "process", "process:", "/dev/wl0"] {
        let why = parse(text).unwrap_err();
        assert!(why.contains("`virtio_wl`") && why.contains("`process:SOCKET`"), "{text}: {why}");
    }
}

#[test]
fn a_channel_that_cannot_be_opened_says_what_to_do() {
    let nowhere = tempfile::tempdir().unwrap().path().join("wl0");
    let Err(Error::Lost(why)) = ChannelSpec::VirtioWl(nowhere.clone()).open() else {
        panic!("there is none");
    };
    assert!(why.contains(nowhere.to_str().unwrap()) && why.contains("load its driver"), "{why}");
    let Err(Error::Refused(why)) = ChannelSpec::VirtioWl("/dev/null".into()).open() else {
        panic!("that is something else");
    };
    assert!(why.contains("/dev/null") && why.contains(NODE), "{why}");
}

#[test]
fn the_help_names_every_channel() {
    for command in ["run", "serve"] {
        let mut args = Args::command();
        let help = args.find_subcommand_mut(command).unwrap().render_help().to_string();
        assert!(help.contains("`virtio_wl`") && help.contains("`process:SOCKET`"), "{help}");
    }
}
