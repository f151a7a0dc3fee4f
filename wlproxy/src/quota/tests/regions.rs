//! How many rectangles regions may have, and what has taken them over.

use super::*;

#[test]
fn a_region_has_its_own_rectangles() {
    let mut client = Client::new(SMALL);
    let [first, second] = [0, 1].map(|_| client.make(COMPOSITOR, CREATE_REGION, &[]).unwrap());
    for region in [first, second] {
        for opcode in [ADD, SUBTRACT, ADD, ADD, SUBTRACT] {
            client.say(region, opcode, &rectangle()).unwrap();
        }
    }
    client.say(first, REGION_DESTROY, &[]).unwrap();
    let violation = client.say(second, ADD, &rectangle()).unwrap_err();
    check(violation, "wl_region@9.add", &["5 rectangles", "`rectangles`"]);
}

/// Also those that are gone, as long as a surface has what was in them.
#[test]
fn all_regions_together_have_so_many_rectangles() {
    let quota = Quota { objects: 1000, surfaces: 100, ..SMALL };
    let full = |client: &mut Client| {
        let region = client.make(COMPOSITOR, CREATE_REGION, &[])?;
        (0..5).try_for_each(|_| client.say(region, ADD, &rectangle()))?;
        Ok::<_, Violation>(region)
    };
    let mut client = Client::new(quota);
    (0..16).for_each(|_| _ = full(&mut client).unwrap());
    let words = ["80 rectangles in all", "`rectangles`"];
    check(full(&mut client).unwrap_err(), "wl_region@", &words);

    let mut client = Client::new(quota);
    let surfaces: Vec<_> =
        (0..8).map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap()).collect();
    let set = |client: &mut Client, surface, opcode, region| {
        client.say(surface, opcode, &[Arg::Object(region)])
    };
    let region = full(&mut client).unwrap();
    // Again and again takes the place of what was.
    for &surface in surfaces.iter().cycle().take(100) {
        set(&mut client, surface, SET_OPAQUE, region).unwrap();
    }
    for &surface in &surfaces[1..] {
        set(&mut client, surface, SET_INPUT, region).unwrap();
    }
    client.say(region, REGION_DESTROY, &[]).unwrap();
    let region = full(&mut client).unwrap();
    let violation = set(&mut client, surfaces[0], SET_INPUT, region).unwrap_err();
    check(violation, "wl_surface@8.set_input_region", &words);

    // What is given back, and goes with its surface, counts no more.
    let mut client = Client::new(quota);
    for _ in 0..100 {
        let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
        let region = full(&mut client).unwrap();
        set(&mut client, surface, SET_OPAQUE, region).unwrap();
        set(&mut client, surface, SET_INPUT, region).unwrap();
        set(&mut client, surface, SET_INPUT, 0).unwrap();
        client.say(region, REGION_DESTROY, &[]).unwrap();
        client.say(surface, SURFACE_DESTROY, &[]).unwrap();
    }
}

#[test]
fn each_commit_that_waits_has_the_regions_of_its_surface() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    let region = client.make(COMPOSITOR, CREATE_REGION, &[]).unwrap();
    (0..5).for_each(|_| client.say(region, ADD, &rectangle()).unwrap());
    client.say(child, SET_OPAQUE, &[Arg::Object(region)]).unwrap();
    client.say(child, SET_INPUT, &[Arg::Object(region)]).unwrap();
    // 80 may be: 5 of the region, 10 that the surface has, and 10 with each commit, which it needn't set anew.
    for _ in 0..10 {
        (0..6).for_each(|_| client.commit(child).unwrap());
        client.commit(parent).unwrap();
    }
    (0..6).for_each(|_| client.commit(child).unwrap());
    let violation = client.commit(child).unwrap_err();
    check(violation, "wl_surface@", &["80 rectangles in all", "`rectangles`"]);

    // What waits has them when region and surface are gone, too.
    let (mut client, [_, child, subsurface]) = with_subsurface(MANY);
    let full = |client: &mut Client| {
        let region = client.make(COMPOSITOR, CREATE_REGION, &[])?;
        (0..5).try_for_each(|_| client.say(region, ADD, &rectangle()))?;
        Ok::<_, Violation>(region)
    };
    let region = full(&mut client).unwrap();
    client.say(child, SET_OPAQUE, &[Arg::Object(region)]).unwrap();
    (0..14).for_each(|_| client.commit(child).unwrap());
    client.say(region, REGION_DESTROY, &[]).unwrap();
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    (0..2).for_each(|_| _ = full(&mut client).unwrap());
    check(full(&mut client).unwrap_err(), "wl_region@", &["80 rectangles in all"]);
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    (0..13).for_each(|_| _ = full(&mut client).unwrap());
}

/// Those of pointer constraints, too.
#[test]
fn each_commit_that_waits_has_the_regions_of_what_was_made_of_its_surface() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    let [seat, constraints] = [1, 2].map(|more| client.last + more);
    client.bind(c"wl_seat", seat);
    client.bind(c"zwp_pointer_constraints_v1", constraints);
    client.last += 2;
    let pointer = client.make(seat, 0, &[]).unwrap();
    let region = client.make(COMPOSITOR, CREATE_REGION, &[]).unwrap();
    (0..5).for_each(|_| client.say(region, ADD, &rectangle()).unwrap());
    // lock_pointer: id, surface, pointer, region, lifetime
    let objects = [child, pointer, region].map(Arg::Object);
    let args = [&objects[..], &[Arg::Uint(1)]].concat();
    let lock = client.make(constraints, 1, &args).unwrap();
    (0..14).for_each(|_| client.commit(child).unwrap());
    client.commit(parent).unwrap();
    // zwp_locked_pointer_v1.destroy: then it has none.
    client.say(lock, 0, &[]).unwrap();
    (0..30).for_each(|_| client.commit(child).unwrap());
    client.commit(parent).unwrap();
    client.make(constraints, 1, &args).unwrap();
    (0..14).for_each(|_| client.commit(child).unwrap());
    let violation = client.commit(child).unwrap_err();
    check(violation, "wl_surface@", &["80 rectangles in all", "`rectangles`"]);
}
