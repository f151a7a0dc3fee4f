use super::*;
use ::smithay::reexports::wayland_server::protocol::wl_output::WlOutput;
use ::smithay::reexports::wayland_server::{
    DataInit, Dispatch, Display, GlobalDispatch, New, Resource,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// A compositor with one global, for whom a rule allows it.
struct State;

impl GlobalDispatch<WlOutput, Rule> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        output: New<WlOutput>,
        _: &Rule,
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(output, ());
    }

    fn can_view(client: Client, rule: &Rule) -> bool {
        let filter = rule.clone().filter();
        // The type that smithay's constructors ask for.
        let filter: Box<dyn for<'c> Fn(&'c Client) -> bool + Send + Sync> = Box::new(filter);
        filter(&client)
    }
}

impl Dispatch<WlOutput, ()> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &WlOutput,
        _: <WlOutput as Resource>::Request,
        _: &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

/// Another compositor's client data.
struct Other;

impl ClientData for Other {}

fn peer_of(vm: &str) -> Peer {
    Peer { vm: vm.to_owned(), connection: 7 }
}

/// A client with its data, and its end of the connection.
fn client(display: &Display<State>, data: Arc<dyn ClientData>) -> (Client, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (display.handle().insert_client(theirs, data).unwrap(), ours)
}

/// Whether a client sees any global.
fn sees(display: &mut Display<State>, mut client: &UnixStream) -> bool {
    // wl_display.get_registry(2), wl_display.sync(3).
    let requests = [[1, 12 << 16 | 1, 2], [1, 12 << 16, 3]].concat();
    let bytes: Vec<u8> = requests.into_iter().flat_map(u32::to_ne_bytes).collect();
    client.write_all(&bytes).unwrap();
    display.dispatch_clients(&mut State).unwrap();
    display.flush_clients().unwrap();
    let mut answer = [0; 4096];
    let length = client.read(&mut answer).unwrap();
    let name = b"wl_output\0";
    answer[..length].windows(name.len()).any(|window| window == name)
}

#[test]
fn a_client_is_known_by_its_vm() {
    let display = Display::<State>::new().unwrap();
    let (work, _work) = client(&display, Arc::new(ClientState::of(peer_of("work"))));
    assert_eq!(peer(&work), Some(&peer_of("work")));
    let context = work.get_data::<ClientState>().unwrap().security_context().unwrap();
    assert_eq!((context.sandbox_engine, &*context.app_id), ("wlproxy", "work"));
    assert_eq!(context.instance_id, "7");
    let (local, _local) = client(&display, Arc::new(ClientState::local()));
    assert_eq!(peer(&local), None);
    assert_eq!(local.get_data::<ClientState>().unwrap().security_context(), None);
    let (other, _other) = client(&display, Arc::new(Other));
    assert_eq!(peer(&other), None);
}

#[test]
fn a_global_is_seen_by_whom_the_rule_allows_it() {
    for (rule, allowed) in [
        (Rule::local(), &["local"][..]),
        (Rule::local().and_vm("work"), &["local", "work"]),
        (Rule::local().and_vm("work").but_vm("work"), &["local"]),
        (Rule::vms(["work"]), &["work"]),
        (Rule::vms(["work", "untrusted"]).but_vm("untrusted").and_local(), &["local", "work"]),
        (Rule::vms([""; 0]), &[]),
        (Rule::everybody(), &["local", "work", "untrusted"]),
        (Rule::everybody().but_local(), &["work", "untrusted"]),
        (Rule::everybody().but_vm("untrusted"), &["local", "work"]),
        (Rule::everybody().but_vm("work").and_vm("work"), &["local", "work", "untrusted"]),
    ] {
        let mut display = Display::<State>::new().unwrap();
        display.handle().create_global::<State, WlOutput, _>(1, rule.clone());
        let clients: [(&str, Arc<dyn ClientData>); 4] = [
            ("local", Arc::new(ClientState::local())),
            ("work", Arc::new(ClientState::of(peer_of("work")))),
            ("untrusted", Arc::new(ClientState::of(peer_of("untrusted")))),
            // Who that is can't be told.
            ("other", Arc::new(Other)),
        ];
        let seeing = clients.map(|(name, data)| {
            let (_client, stream) = client(&display, data);
            sees(&mut display, &stream).then_some(name)
        });
        assert_eq!(seeing.into_iter().flatten().collect::<Vec<_>>(), allowed, "{rule:?}");
    }
}
