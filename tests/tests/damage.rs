//! What is copied: exactly what is stale, and that is enough.

use anyhow::Result;
use wayland_client::protocol::wl_output::Transform;
use wayland_client::protocol::wl_surface::WlSurface;
use wlproxy_tests::scenes::{pattern, place};
use wlproxy_tests::{Buffer, Client, Desk, Dice, Display, Image, Model, Rect, Toplevel, Vm, Way};

/// The buffers' size in pixels: neither square nor a power of two.
const SIZE: (i32, i32) = (240, 168);

/// Where the window is.
const PLACE: (i64, i64) = (100, 100);

/// How a client tells what it has changed, and how its buffer gets onto the surface.
#[derive(Debug, Clone, Copy)]
struct Posting {
    scale: i32,
    transform: Transform,
    /// Half of what is in the buffer, shown in half of its size: x, y, width, height of the source.
    viewport: Option<(i32, i32, i32, i32)>,
    /// wl_surface.damage instead of damage_buffer.
    by_surface: bool,
}

const PLAIN: Posting =
    Posting { scale: 1, transform: Transform::Normal, viewport: None, by_surface: false };

/// The rectangle of the buffer that shows at `rect` of a surface with `transform`. `size` is the buffer's.
fn to_buffer(transform: Transform, (width, height): (i32, i32), rect: Rect) -> Rect {
    let Rect { x, y, width: w, height: h } = rect;
    // First the turn, then the flip; w and h change places when x and y do.
    let (x, y, w, h) = match transform {
        Transform::_90 => (y, height - x - w, h, w),
        Transform::_180 => (width - x - w, height - y - h, w, h),
        Transform::_270 => (width - y - h, x, h, w),
        Transform::Flipped => (width - x - w, y, w, h),
        Transform::Flipped90 => (y, x, h, w),
        Transform::Flipped180 => (x, height - y - h, w, h),
        Transform::Flipped270 => (width - y - h, height - x - w, h, w),
        _ => (x, y, w, h),
    };
    Rect { x, y, width: w, height: h }
}

const TRANSFORMS: [Transform; 8] = [
    Transform::Normal,
    Transform::_90,
    Transform::_180,
    Transform::_270,
    Transform::Flipped,
    Transform::Flipped90,
    Transform::Flipped180,
    Transform::Flipped270,
];

/// The tests' own idea of transforms is the compositor's.
#[test]
fn transforms_are_understood() {
    let desk = Desk::new(Way::Direct);
    for transform in TRANSFORMS {
        let title = format!("{transform:?}");
        let scene = |client: &mut Client, window: &Toplevel| {
            let buffer = client.buffer(SIZE.0, SIZE.1);
            buffer.draw(pattern);
            window.surface.set_buffer_transform(transform);
            window.show(&buffer);
            Ok(())
        };
        let window = place(&desk, &desk.direct(), &title, scene, (10, 20)).unwrap();
        let screen = desk.screenshot();
        for (x, y) in [(0, 0), (17, 3), (150, 160), (5, 99)] {
            let at = to_buffer(transform, SIZE, Rect { x, y, width: 1, height: 1 });
            let colour = pattern(at.x, at.y) & 0xff_ffff;
            assert_eq!(
                screen.pixel(x as usize + 10, y as usize + 20),
                colour,
                "{title} at {x}, {y}"
            );
        }
        drop(window);
        desk.sway().empty();
    }
}

impl Posting {
    fn apply(self, client: &Client, surface: &WlSurface) -> Result<()> {
        surface.set_buffer_scale(self.scale);
        surface.set_buffer_transform(self.transform);
        if let Some((x, y, width, height)) = self.viewport {
            let viewport = client.viewport(surface)?;
            viewport.set_source(x.into(), y.into(), width.into(), height.into());
            viewport.set_destination(width / 2, height / 2);
        }
        Ok(())
    }

    /// Whether the compositor draws other pixels than those that are shown by the protocol.
    ///
    /// wlroots 0.15 with pixman draws a viewport's source from the buffer's first pixel, wherever the source begins.
    /// What it repaints then depends on how many commits it takes for one frame, for damage is where it should be.
    fn drawn_elsewhere(self) -> bool {
        self.viewport.is_some_and(|(x, y, _, _)| (x, y) != (0, 0))
    }

    /// The surface's size.
    fn surface(self) -> (i32, i32) {
        use Transform::{Flipped90, Flipped270};
        let (width, height) = (SIZE.0 / self.scale, SIZE.1 / self.scale);
        match (self.viewport, self.transform) {
            (Some((_, _, width, height)), _) => (width / 2, height / 2),
            (None, Transform::_90 | Transform::_270 | Flipped90 | Flipped270) => (height, width),
            (None, _) => (width, height),
        }
    }

    /// Posts damage of somewhere; returns it in the buffer's pixels.
    fn post(self, surface: &WlSurface, dice: &mut Dice) -> Rect {
        let mut roll = |limit: i32| dice.roll(limit as u32);
        let (width, height) = if self.by_surface { self.surface() } else { SIZE };
        // Partly outside, too.
        let (x, y) = (roll(width) - 9, roll(height) - 9);
        let rect = Rect { x, y, width: 1 + roll(width / 3), height: 1 + roll(height / 3) };
        if !self.by_surface {
            surface.damage_buffer(rect.x, rect.y, rect.width, rect.height);
            return rect;
        }
        surface.damage(rect.x, rect.y, rect.width, rect.height);
        let mut rect = rect;
        if let Some((x, y, _, _)) = self.viewport {
            let Rect { width, height, .. } = rect;
            rect =
                Rect { x: rect.x * 2 + x, y: rect.y * 2 + y, width: width * 2, height: height * 2 };
        }
        let times = |n: i32| n * self.scale;
        let (x, y, width, height) =
            (times(rect.x), times(rect.y), times(rect.width), times(rect.height));
        to_buffer(self.transform, SIZE, Rect { x, y, width, height })
    }
}

/// A client that posts random damage over `count` buffers in random order. In a VM, what is copied is compared with
/// the model at each commit.
fn sequence(
    desk: &Desk,
    display: &Display,
    vm: Option<&Vm>,
    posting: Posting,
    count: usize,
    seed: u64,
) -> Result<Vec<Image>> {
    let mut dice = Dice::new(seed);
    let mut model = Model::new(count, SIZE.0, SIZE.1);
    let copied = || vm.map(|vm| vm.stats("copied_bytes"));
    let mut before = copied();
    let mut check = |expected: u64, what: &str| {
        let now = copied();
        if let (Some(before), Some(now)) = (before, now) {
            assert_eq!(now - before, expected, "bytes copied at {what}, {posting:?}, seed {seed}");
        }
        before = now;
    };

    let mut buffers: Vec<Buffer> = Vec::new();
    let first = |client: &mut Client, window: &Toplevel| {
        buffers.extend((0..count).map(|_| client.buffer(SIZE.0, SIZE.1)));
        buffers[0].draw(pattern);
        posting.apply(client, &window.surface)?;
        window.show(&buffers[0]);
        Ok(())
    };
    let mut placed = place(desk, display, "sequence", first, PLACE)?;
    check(model.commit(0, &[]), "the first commit");

    let mut canvas: Vec<Rect> = Vec::new();
    let mut images = Vec::new();
    for step in 0..24 {
        // wlroots may hold on to the buffer before one that was shown without damage, and release that one.
        placed.client.until("a free buffer", |_| buffers.iter().any(|buffer| !buffer.busy()))?;
        let free: Vec<usize> = (0..count).filter(|&i| !buffers[i].busy()).collect();
        let current = free[dice.roll(free.len() as u32) as usize];
        let buffer = &buffers[current];
        let surface = &placed.window.surface;
        let damage: Vec<Rect> =
            (0..dice.roll(4)).map(|_| posting.post(surface, &mut dice)).collect();
        canvas.extend(&damage);
        paint(buffer, &canvas);
        buffer.commit(surface);
        placed.settle()?;
        check(model.commit(current, &damage), &format!("step {step}"));
        if step % 6 == 5 {
            if posting.drawn_elsewhere() {
                repaint(desk, placed.id);
            }
            images.push(desk.screenshot());
            // The same buffer again, and nothing has changed.
            buffers[current].commit(&placed.window.surface);
            placed.settle()?;
            check(0, &format!("the second commit of step {step}"));
        }
    }
    drop(placed);
    desk.sway().empty();
    Ok(images)
}

/// Has the compositor repaint a whole window at its next frame.
fn repaint(desk: &Desk, window: u64) {
    let (x, y) = PLACE;
    let mut sway = desk.sway();
    sway.place(window, x + 1, y);
    sway.place(window, x, y);
}

/// All that was drawn until now, in order.
fn paint(buffer: &Buffer, canvas: &[Rect]) {
    buffer.draw(|x, y| {
        let inside =
            |r: &Rect| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
        match canvas.iter().rposition(inside) {
            Some(i) => pattern(x + 37 * i as i32, y + 91 * i as i32),
            None => pattern(x, y),
        }
    });
}

/// The same sequence directly and in the client VM.
fn compare((posting, count, seed): Sequence) {
    let desk = Desk::new(Way::Through);
    let expected = sequence(&desk, &desk.direct(), None, posting, count, seed).unwrap();
    let images =
        sequence(&desk, &desk.through("work"), Some(desk.vm("work")), posting, count, seed)
            .unwrap();
    for (i, (image, expected)) in images.iter().zip(&expected).enumerate() {
        image.assert_equals(expected, &format!("sequence-{seed}-{i}"));
    }
}

/// Without the path: what the client does is right, and reproducible.
#[test]
fn sequences_are_reproducible() {
    let desk = Desk::new(Way::Direct);
    for (posting, count, seed) in [THREE, VIEWPORT, CROPPED, BEHIND] {
        let run = || sequence(&desk, &desk.direct(), None, posting, count, seed).unwrap();
        let first = run();
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "nothing changes");
        for (image, expected) in run().iter().zip(&first) {
            image.assert_equals(expected, "sequence");
        }
    }
}

/// How damage is posted, over how many buffers, and the seed.
type Sequence = (Posting, usize, u64);

const THREE: Sequence = (PLAIN, 3, 3);
const VIEWPORT: Sequence = {
    let viewport = Some((0, 0, 160, 120));
    (Posting { viewport, by_surface: true, ..PLAIN }, 2, 7)
};
const CROPPED: Sequence = {
    let viewport = Some((20, 8, 160, 120));
    (Posting { viewport, by_surface: true, ..PLAIN }, 2, 7)
};
const BEHIND: Sequence = {
    let viewport = Some((8, 20, 60, 80));
    let transform = Transform::_270;
    (Posting { scale: 2, transform, viewport, by_surface: false }, 3, 8)
};

#[test]
fn two_buffers() {
    compare((PLAIN, 2, 2));
}

#[test]
fn three_buffers() {
    compare(THREE);
}

#[test]
fn damage_of_a_scaled_surface() {
    compare((Posting { scale: 2, by_surface: true, ..PLAIN }, 2, 4));
}

#[test]
fn damage_of_a_turned_surface() {
    compare((Posting { transform: Transform::_90, by_surface: true, ..PLAIN }, 2, 5));
}

#[test]
fn damage_of_a_flipped_and_scaled_surface() {
    let transform = Transform::Flipped270;
    compare((Posting { scale: 2, transform, by_surface: true, ..PLAIN }, 3, 6));
}

#[test]
fn damage_of_a_surface_with_a_viewport() {
    compare(VIEWPORT);
}

#[test]
fn damage_of_a_cropped_surface() {
    compare(CROPPED);
}

#[test]
fn damage_of_buffers_behind_all_of_it() {
    compare(BEHIND);
}
