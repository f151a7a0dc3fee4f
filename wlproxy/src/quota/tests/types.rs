//! How many types a selection may have, and how long they may be.

use super::*;
use std::ffi::CString;

/// wl_data_source.destroy
const SOURCE_DESTROY: u16 = 1;

impl Client {
    fn source(&mut self) -> u32 {
        self.make(DATA_DEVICE_MANAGER, CREATE_SURFACE, &[]).unwrap()
    }

    fn offer_type(&mut self, source: u32, length: usize) -> Result<(), Violation> {
        let kind = CString::new("a".repeat(length)).unwrap();
        self.say(source, 0, &[Arg::Str(Some(&kind))])
    }
}

#[test]
fn a_selection_has_so_many_types() {
    let mut client = Client::new(SMALL);
    let [first, second] = [0, 1].map(|_| client.source());
    for source in [first, second] {
        (0..7).for_each(|_| client.offer_type(source, 3).unwrap());
    }
    client.say(first, SOURCE_DESTROY, &[]).unwrap();
    let violation = client.offer_type(second, 3).unwrap_err();
    check(violation, "wl_data_source@9.offer", &["7 types of one", "`types`"]);
}

/// A long one is as good as several, whichever it is.
#[test]
fn they_are_no_longer_than_so_many_of_the_usual_length() {
    let mut client = Client::new(SMALL);
    let source = client.source();
    client.offer_type(source, 767).unwrap();
    client.offer_type(source, 127).unwrap();
    let violation = client.offer_type(source, 0).unwrap_err();
    check(violation, "wl_data_source@8.offer", &["896 bytes of types of one", "`types`"]);
}

/// Also where each source has few.
#[test]
fn all_sources_together_have_sixteen_times_as_many() {
    for (length, words) in [(1, "112 types of all"), (600, "14336 bytes of types of all")] {
        let mut client = Client::new(Quota { objects: 1000, ..SMALL });
        // What is destroyed counts no more.
        for _ in 0..100 {
            let source = client.source();
            client.offer_type(source, length).unwrap();
            client.say(source, SOURCE_DESTROY, &[]).unwrap();
        }
        let mut offered = 0;
        let violation = loop {
            let source = client.source();
            match client.offer_type(source, length) {
                Ok(()) => offered += 1,
                Err(violation) => break violation,
            }
        };
        assert_eq!(offered, if length == 1 { 112 } else { 14336 / 601 });
        check(violation, "wl_data_source@", &[words, "`types`"]);
    }
}
