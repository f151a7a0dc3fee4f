//! Commits that wait for a parent's.

use super::compositors::{Compositor, Smithay, Step, Wlroots};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// wlroots and smithay keep each of them.
#[test]
fn each_commit_that_waits_for_a_parent_counts() {
    let (mut client, [parent, child, _]) = with_subsurface(MANY);
    let (other, _) = client.below(parent);
    for _ in 0..10 {
        for surface in [child, other].repeat(15) {
            client.commit(surface).unwrap();
        }
        assert_eq!(client.waiting(), 30);
        client.commit(parent).unwrap();
        assert_eq!(client.waiting(), 0);
    }
    (0..30).for_each(|_| client.commit(child).unwrap());
    let violation = client.commit(other).unwrap_err();
    check(violation, "wl_surface@", &["30 commits that wait", "`commits`"]);

    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    (0..20).for_each(|_| client.commit(child).unwrap());
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    assert_eq!(client.waiting(), 20);
    // Only its own shows it now.
    client.commit(parent).unwrap();
    assert_eq!(client.waiting(), 20);
    client.commit(child).unwrap();
    assert_eq!(client.waiting(), 0);
}

#[test]
fn what_a_synchronised_subsurface_waits_to_show_counts() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    let pool = client.pool().unwrap();
    for _ in 0..3 {
        client.flash(pool, child).unwrap();
        client.commit(parent).unwrap();
    }
    // A pool, what it shows, and two that wait; none takes the place of another.
    (0..2).for_each(|_| client.flash(pool, child).unwrap());
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
    client.commit(parent).unwrap();
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    (0..100).for_each(|_| client.flash(pool, child).unwrap());
}

#[test]
fn what_has_no_parent_any_more_waits_for_ever() {
    for parent_goes in [true, false] {
        for desync in [true, false] {
            let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
            client.commit(child).unwrap();
            if desync {
                client.say(subsurface, SET_DESYNC, &[]).unwrap();
            }
            match parent_goes {
                true => client.say(parent, SURFACE_DESTROY, &[]).unwrap(),
                false => client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap(),
            }
            (0..29).for_each(|_| client.commit(child).unwrap());
            assert_eq!(client.waiting(), 30);
            // Until it has one again.
            if parent_goes {
                client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
            }
            let parent = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
            client.put_below(child, parent);
            client.commit(parent).unwrap();
            assert_eq!(client.waiting(), 0);
            client.commit(child).unwrap();
            client.say(child, SURFACE_DESTROY, &[]).unwrap();
        }
    }
}

/// smithay keeps what waited of a surface that is destroyed, as long as anything refers to it.
#[test]
fn what_waits_outlives_its_surface_with_what_was_made_of_it() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    (0..10).for_each(|_| client.commit(child).unwrap());
    let xdg_surface = client.make(WM_BASE, 2, &[Arg::Object(child)]).unwrap();
    let pool = client.pool().unwrap();
    client.flash(pool, child).unwrap();
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    client.commit(parent).unwrap();
    assert_eq!(client.waiting(), 11);
    (0..2).for_each(|_| _ = client.buffer(pool, 1, 1).unwrap());
    check(client.buffer(pool, 1, 1).unwrap_err(), "wl_shm_pool@", &["4 buffers"]);
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    assert_eq!(client.waiting(), 11);
    // xdg_surface.destroy
    client.say(xdg_surface, 0, &[]).unwrap();
    assert_eq!(client.waiting(), 0);
    client.buffer(pool, 1, 1).unwrap();

    // Nothing is kept of one of which nothing is left, and what was made of others doesn't matter.
    let (child, subsurface) = client.below(parent);
    client.commit(child).unwrap();
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    assert_eq!(client.waiting(), 0);
    // Nor does a wl_subsurface of one that is gone matter to another.
    let (child, subsurface) = client.below(parent);
    client.say(child, SURFACE_DESTROY, &[]).unwrap();
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
    assert_eq!(client.waiting(), 0);
}

/// As wlroots has it: others go on down to where something waits.
#[test]
fn a_commit_shows_what_waits_for_it_and_no_more() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    let (grandchild, below) = client.below(child);
    let commit = |client: &mut Client, surface, waiting| {
        client.commit(surface).unwrap();
        assert_eq!(client.waiting(), waiting);
    };
    // That in the middle has committed nothing, or before.
    commit(&mut client, grandchild, 1);
    commit(&mut client, parent, 1);
    commit(&mut client, child, 2);
    commit(&mut client, grandchild, 3);
    commit(&mut client, parent, 1);
    commit(&mut client, child, 2);
    commit(&mut client, parent, 0);
    // That in the middle is on its own.
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    commit(&mut client, grandchild, 1);
    commit(&mut client, parent, 1);
    commit(&mut client, child, 0);
    // That at the bottom is synchronised only as the middle is.
    client.say(subsurface, SET_SYNC, &[]).unwrap();
    client.say(below, SET_DESYNC, &[]).unwrap();
    commit(&mut client, grandchild, 1);
    commit(&mut client, child, 2);
    commit(&mut client, parent, 1);
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    commit(&mut client, grandchild, 0);
}

/// Whatever is done, as many count as wait in the worst compositor.
fn as_many_as_wait(actions: &[(u8, u8, u8)]) -> Result<usize, TestCaseError> {
    let quota = Quota { surfaces: 1000, commits: 10_000, nesting: 1000, ..MANY };
    let (mut client, [first, ..]) = with_subsurface(quota);
    let mut compositors: [(&str, Box<dyn Compositor>); 3] = [
        ("smithay", Box::new(Smithay::default())),
        ("wlroots 0.15", Box::new(Wlroots::new(true))),
        ("wlroots", Box::new(Wlroots::new(false))),
    ];
    compositors.iter_mut().for_each(|(_, compositor)| compositor.step(Step::Create(first)));
    let mut surfaces = vec![first];
    // By surface, also one that is gone: its wl_subsurface.
    let mut subsurfaces = BTreeMap::new();
    let (mut total, mut steps) = (0, vec![Step::Create(first)]);
    for &(what, one, other) in actions {
        let pick = |of: &[u32], at: u8| of.get(usize::from(at) % of.len().max(1)).copied();
        let owners: Vec<_> = subsurfaces.keys().copied().collect();
        let step = match what % 16 {
            0 => {
                let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
                surfaces.push(surface);
                Step::Create(surface)
            }
            1..=3 => {
                let (Some(child), Some(parent)) = (pick(&surfaces, one), pick(&surfaces, other))
                else {
                    continue;
                };
                if subsurfaces.contains_key(&child) {
                    continue;
                }
                let args = [child, parent].map(Arg::Object);
                let Ok(subsurface) = client.make(SUBCOMPOSITOR, GET_SUBSURFACE, &args) else {
                    // It would be above itself: a client would be ended for that, nothing else comes of it.
                    continue;
                };
                subsurfaces.insert(child, subsurface);
                Step::MakeSubsurface(child, parent)
            }
            4 | 5 => {
                let Some(surface) = pick(&owners, one) else { continue };
                let (opcode, synchronised) =
                    if other % 2 == 0 { (SET_SYNC, true) } else { (SET_DESYNC, false) };
                client.say(subsurfaces[&surface], opcode, &[]).unwrap();
                if !surfaces.contains(&surface) {
                    continue;
                }
                Step::Synchronise(surface, synchronised)
            }
            6 => {
                let Some(surface) = pick(&owners, one) else { continue };
                let subsurface = subsurfaces.remove(&surface).unwrap();
                client.say(subsurface, SUBSURFACE_DESTROY, &[]).unwrap();
                Step::DestroySubsurface(surface)
            }
            7 if other % 2 == 0 => {
                let Some(surface) = pick(&surfaces, one) else { continue };
                surfaces.retain(|&id| id != surface);
                client.say(surface, SURFACE_DESTROY, &[]).unwrap();
                Step::Destroy(surface)
            }
            _ => {
                let Some(surface) = pick(&surfaces, one) else { continue };
                client.commit(surface).unwrap();
                Step::Commit(surface)
            }
        };
        steps.push(step);
        for (name, compositor) in &mut compositors {
            compositor.step(step);
            let (counted, waiting) = (client.waiting() as usize, compositor.waiting());
            prop_assert!(counted >= waiting, "{counted}, but {waiting} wait in {name}: {steps:?}");
            total += waiting;
        }
    }
    Ok(total)
}

/// What the next test looks for is there.
#[test]
fn commits_wait_in_all_compositors() {
    // Two surfaces, of which one becomes a subsurface, and two commits of that.
    let actions = [(0, 0, 0), (1, 1, 0), (8, 1, 0), (8, 1, 0)];
    assert_eq!(as_many_as_wait(&actions).unwrap(), 3 * (1 + 2));
}

proptest! {
    #[test]
    fn as_many_commits_count_as_wait(actions in prop::collection::vec(any::<(u8, u8, u8)>(), 0..400)) {
        as_many_as_wait(&actions)?;
    }
}
