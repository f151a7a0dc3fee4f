//! A number for each message that there is. What is to be known of some, others find by it, without a look at names.

use super::{Interface, MessageDesc, tables};
use std::collections::HashMap;
use std::sync::LazyLock;

/// One of all messages.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Of which interface it is.
    pub interface: &'static Interface,
    /// What it is.
    pub desc: &'static MessageDesc,
    /// The compositor sends it.
    pub is_event: bool,
}

/// The numbers of an interface's first request, and of its first event. Others follow by their opcodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct First {
    pub(super) request: u16,
    pub(super) event: u16,
}

#[derive(Debug, Default)]
struct Numbers {
    messages: Vec<Known>,
    /// By message: the first ones of what it makes.
    made: Vec<Option<First>>,
    /// By the address of an interface: each is a static. Two messages, in contrast, may have one and the same description.
    interfaces: HashMap<usize, First>,
}

impl Numbers {
    /// Of all that can be reached from the globals.
    fn new() -> Self {
        let mut numbers = Self::default();
        let mut todo: Vec<_> = tables::globals().map(|global| global.interface).collect();
        todo.push(tables::wl_display());
        while let Some(interface) = todo.pop() {
            if numbers.interfaces.contains_key(&address(interface)) {
                continue;
            }
            // There are about a thousand messages: a test counts.
            let request = numbers.messages.len() as u16;
            let event = request + interface.requests.len() as u16;
            numbers.interfaces.insert(address(interface), First { request, event });
            let messages = interface.requests.iter().map(|desc| (desc, false));
            for (desc, is_event) in messages.chain(interface.events.iter().map(|desc| (desc, true)))
            {
                numbers.messages.push(Known { interface, desc, is_event });
                todo.extend(desc.child_interface);
            }
        }
        let made = |known: &Known| known.desc.child_interface.map(|made| numbers.of(made));
        let made = numbers.messages.iter().map(made).collect();
        Self { made, ..numbers }
    }

    fn of(&self, interface: &'static Interface) -> First {
        // Whatever an object is was reached.
        self.interfaces[&address(interface)]
    }
}

static NUMBERS: LazyLock<Numbers> = LazyLock::new(Numbers::new);

fn address(interface: &'static Interface) -> usize {
    std::ptr::from_ref(interface).addr()
}

/// All messages: those of number 0, 1, and so on.
pub fn messages() -> &'static [Known] {
    &NUMBERS.messages
}

/// The first ones of an interface that the tables know.
pub(super) fn of(interface: &'static Interface) -> First {
    NUMBERS.of(interface)
}

/// The first ones of what a message makes, if that is always the same.
pub(super) fn made_by(number: u16) -> Option<First> {
    NUMBERS.made.get(usize::from(number)).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_message_has_a_number_of_its_own() {
        let mut seen = HashSet::new();
        for (number, known) in messages().iter().enumerate() {
            let Known { interface, desc, is_event } = *known;
            assert!(seen.insert((interface.name, desc.name, is_event)), "{}", interface.name);
            let (First { request, event }, all) = match is_event {
                true => (of(interface), interface.events),
                false => (of(interface), interface.requests),
            };
            let opcode = number - usize::from(if is_event { event } else { request });
            assert_eq!(all[opcode].name, desc.name);
            assert_eq!(made_by(number as u16), desc.child_interface.map(of));
        }
        assert!((500..u16::MAX.into()).contains(&messages().len()), "{}", messages().len());
    }
}
