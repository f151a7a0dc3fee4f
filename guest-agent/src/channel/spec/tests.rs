use super::*;

const CHANNELS: [&str; 4] = ["`auto`", "`virtio_wl`", "`virtgpu`", "`process:SOCKET`"];

fn parse(channel: &str) -> Result<ChannelSpec, String> {
    channel.parse()
}

#[test]
fn channels_have_names() {
    assert_eq!(parse("virtio_wl"), Ok(ChannelSpec::VirtioWl("/dev/wl0".into())));
    assert_eq!(parse("virtio_wl:/dev/wl1"), Ok(ChannelSpec::VirtioWl("/dev/wl1".into())));
    assert_eq!(parse("auto"), Ok(ChannelSpec::Auto));
    assert_eq!(parse("virtgpu"), Ok(ChannelSpec::Virtgpu(None)));
    let node = ChannelSpec::Virtgpu(Some("/dev/dri/renderD129".into()));
    assert_eq!(parse("virtgpu:/dev/dri/renderD129"), Ok(node));
    assert_eq!(parse("process:/run/a:b"), Ok(ChannelSpec::Process("/run/a:b".into())));
}

#[test]
fn what_is_no_channel_is_told_which_there_are() {
    for text in ["", "virtio", "virtio_wl:", "virtgpu:", "auto:", "process", "process:", "/dev/wl0"]
    {
        let why = parse(text).unwrap_err();
        for channel in CHANNELS {
            assert!(why.contains(channel), "{text}: {why}");
        }
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
fn a_render_node_that_cannot_be_opened_says_what_to_do() {
    for (node, what) in
        [("/dev/dri/nowhere", "there is no device"), ("/dev/null", "isn't a virtio-gpu's")]
    {
        let Err(Error::Lost(why)) = ChannelSpec::Virtgpu(Some(node.into())).open() else {
            panic!("{node} is none");
        };
        assert!(why.contains(node) && why.contains(what) && why.contains("modprobe"), "{why}");
    }
}

#[test]
fn without_a_channel_the_device_that_is_there_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let wl0 = dir.path().join("wl0");
    let nowhere = || Err(Error::Lost("there is no render node".into()));
    let Err(Error::Lost(why)) = open_any(&wl0, nowhere) else { panic!("there is none") };
    assert!(why.contains(wl0.to_str().unwrap()) && why.contains("no render node"), "{why}");
    let forbidden = || Err(Error::Refused("add the user to the group render".into()));
    let Err(Error::Refused(why)) = open_any(&wl0, forbidden) else { panic!("it may not") };
    assert_eq!(why, "add the user to the group render");
    std::os::unix::fs::symlink("/dev/null", &wl0).unwrap();
    let unasked = || panic!("a virtio_wl driver has made its node");
    let Err(Error::Refused(why)) = open_any(&wl0, unasked) else { panic!("that is no driver's") };
    assert!(why.contains("isn't the node of a virtio_wl device"), "{why}");
}
