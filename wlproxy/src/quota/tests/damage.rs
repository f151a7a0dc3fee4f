//! How much damage a client may have.

use super::*;

#[test]
fn damage_is_counted_until_the_commit() {
    let mut client = Client::new(SMALL);
    let surface = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    for _ in 0..3 {
        (0..6).for_each(|_| client.say(surface, DAMAGE, &rectangle()).unwrap());
        client.say(surface, COMMIT, &[]).unwrap();
    }
    (0..6).for_each(|_| client.say(surface, DAMAGE, &rectangle()).unwrap());
    let violation = client.say(surface, DAMAGE, &rectangle()).unwrap_err();
    check(violation, "wl_surface@8.damage", &["6 rectangles of damage", "`damage`"]);
}

#[test]
fn all_surfaces_together_have_so_much_damage() {
    let mut client = Client::new(MANY);
    let surfaces: Vec<_> =
        (0..17).map(|_| client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap()).collect();
    let damage = |client: &mut Client, surface| client.say(surface, DAMAGE, &rectangle());
    for &surface in &surfaces[..16] {
        (0..6).for_each(|_| damage(&mut client, surface).unwrap());
    }
    client.say(surfaces[0], SURFACE_DESTROY, &[]).unwrap();
    client.say(surfaces[1], COMMIT, &[]).unwrap();
    (0..6).for_each(|_| damage(&mut client, surfaces[1]).unwrap());
    (0..6).for_each(|_| damage(&mut client, surfaces[16]).unwrap());
    client.say(surfaces[1], COMMIT, &[]).unwrap();
    (0..6).for_each(|_| damage(&mut client, surfaces[1]).unwrap());
    let extra = client.make(COMPOSITOR, CREATE_SURFACE, &[]).unwrap();
    let violation = damage(&mut client, extra).unwrap_err();
    check(violation, "wl_surface@", &["96 rectangles of damage of all", "`damage`"]);
}

#[test]
fn damage_of_a_synchronised_subsurface_adds_up() {
    let (mut client, [parent, child, subsurface]) = with_subsurface(MANY);
    let damage = |client: &mut Client| {
        client.say(child, DAMAGE, &rectangle())?;
        client.say(child, COMMIT, &[])
    };
    for _ in 0..10 {
        (0..6).for_each(|_| damage(&mut client).unwrap());
        client.say(parent, COMMIT, &[]).unwrap();
    }
    client.say(subsurface, SET_DESYNC, &[]).unwrap();
    (0..100).for_each(|_| damage(&mut client).unwrap());
    client.say(subsurface, SET_SYNC, &[]).unwrap();
    (0..6).for_each(|_| damage(&mut client).unwrap());
    let violation = damage(&mut client).unwrap_err();
    check(violation, "wl_surface@10.damage", &["6 rectangles of damage", "`damage`"]);
}
