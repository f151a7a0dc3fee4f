//! The compositors of `examples/`, which link the shim: real clients of two VMs and local ones on each.
//!
//! A test is a function of an [`Example`], and the list of each example names those that it has to pass.

mod borders;
mod exchange;
mod life;
mod looks;
mod still;

use anyhow::Result;
use wayland_client::protocol::wl_seat::WlSeat;
use wlproxy_tests::{Client, Desk, Display, Example, Kind, Picture, Plan, Shown, until};

/// The tests of an example.
macro_rules! on {
    ($module:ident, $example:expr; $($file:ident::$test:ident),+ $(,)?) => {
        mod $module {
            use wlproxy_tests::Example;
            $(
                #[test]
                fn $test() {
                    crate::$file::$test($example);
                }
            )+
        }
    };
}

on!(smithay, Example::Smithay;
    looks::windows_look_as_those_of_local_clients,
    looks::each_vm_has_a_colour_and_a_name,
    looks::what_moves_arrives_whole,
    borders::nothing_is_drawn_on_a_border,
    borders::a_window_goes_and_comes_again,
    borders::absurd_places_harm_nobody,
    exchange::what_is_copied_is_pasted_each_way,
    exchange::a_global_for_local_clients_is_seen_by_them_alone,
    life::a_thousand_clients_leave_nothing,
    life::the_host_is_found_again,
    life::a_client_that_dies_in_a_message_leaves_nothing,
    life::a_vm_that_stands_still_holds_up_nobody,
);

on!(libwayland, Example::Libwayland;
    looks::windows_look_as_those_of_local_clients,
    looks::each_vm_has_a_colour_and_a_name,
    looks::what_moves_arrives_whole,
    borders::a_window_goes_and_comes_again,
    borders::absurd_places_harm_nobody,
    exchange::what_is_copied_is_pasted_each_way,
    life::a_thousand_clients_leave_nothing,
    life::the_host_is_found_again,
    life::a_client_that_dies_in_a_message_leaves_nothing,
    life::a_vm_that_stands_still_holds_up_nobody,
);

on!(wlroots, Example::Wlroots;
    looks::windows_look_as_those_of_local_clients,
    looks::each_vm_has_a_colour_and_a_name,
    looks::what_moves_arrives_whole,
    borders::nothing_is_drawn_on_a_border,
    borders::a_window_goes_and_comes_again,
    borders::absurd_places_harm_nobody,
    exchange::what_is_copied_is_pasted_each_way,
    exchange::a_global_for_local_clients_is_seen_by_them_alone,
    life::a_thousand_clients_leave_nothing,
    life::the_host_is_found_again,
    life::a_client_that_dies_in_a_message_leaves_nothing,
    life::a_vm_that_stands_still_holds_up_nobody,
);

const VMS: &[&str] = &["work", "untrusted"];

/// An example and two client VMs, to which what comes once has come: the keymap. smithay has another one for old clients,
/// without a NUL at its end.
fn desk(example: Example) -> Desk {
    let plan = Plan { compositor: Kind::Example(example), vms: VMS, ..Plan::default() };
    let mut desk = Desk::start(plan);
    for (vm, version) in VMS.iter().flat_map(|vm| [(vm, 5), (vm, 7)]) {
        keymap(&desk.through(vm), version).expect("a keymap");
    }
    desk.take_baseline();
    desk
}

fn keymap(display: &Display, version: u32) -> Result<()> {
    let mut client = Client::connect(display)?;
    let seat: WlSeat = client.bind(version)?;
    client.until("a keyboard", |state| state.keyboard)?;
    seat.get_keyboard(&client.handle(), ());
    client.until("a keymap", |state| state.keymap.is_some())
}

fn place(desk: &Desk, vm: Option<&str>) -> Display {
    vm.map_or_else(|| desk.direct(), |vm| desk.through(vm))
}

/// The window of a VM, or the local one, if it is there.
fn window<'a>(picture: &'a Picture, vm: Option<&str>) -> Option<&'a Shown> {
    picture.windows.iter().find(|shown| shown.vm.as_deref() == vm)
}

fn no_windows(desk: &Desk) {
    until("the windows' end", || desk.picture().windows.is_empty().then_some(()));
}
