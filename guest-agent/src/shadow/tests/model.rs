//! Lists of requests of a correct client, against a model that counts pixels one by one.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// The arguments of create_buffer, and bytes per pixel. The first two can follow each other on a surface.
const BUFFERS: [([i32; 4], u32, usize); 3] = [
    ([0, 24, 16, 104], XRGB, 4),
    ([4096, 24, 16, 96], XRGB, 4),
    ([8192, 16, 20, 48], wl_shm::Format::Rgb565 as u32, 2),
];

/// Most rectangles that the client posts; then it posts their bounding box. Low enough that no region ever holds more
/// than it can keep apart.
const MAX_POSTED: usize = 10;

/// The pool's size in bytes.
const SIZE: usize = 16_384;

#[derive(Debug, Clone)]
enum Op {
    /// Draw, then damage and commit.
    Frame {
        surface: usize,
        buffer: usize,
        draws: Vec<(Rect, u8)>,
        attach: bool,
        in_pixels: bool,
        moved: bool,
    },
    /// Draw and commit nothing.
    Draw {
        buffer: usize,
        draw: (Rect, u8),
    },
    View {
        surface: usize,
        scale: i32,
        transform: u32,
    },
    Recreate {
        buffer: usize,
    },
    Refresh {
        buffer: usize,
    },
    Detach {
        surface: usize,
    },
    DestroySurface {
        surface: usize,
    },
    /// The client draws into a file of its own from now on, if it didn't before.
    Demote,
}

fn draw() -> impl Strategy<Value = (Rect, u8)> {
    // Few values, so that pixels also change back.
    (0..24, 0..20, 1..12, 1..8, 0..3u8)
        .prop_map(|(x, y, width, height, value)| (Rect::new(x, y, width, height), value))
}

fn op() -> impl Strategy<Value = Op> {
    let (surface, buffer) = (|| 0..2usize, || prop_oneof![4 => 0..2usize, 1 => Just(2)]);
    let draws = prop::collection::vec(draw(), 0..3);
    let frame =
        (surface(), buffer(), draws, any::<bool>(), any::<bool>(), prop::bool::weighted(0.05));
    prop_oneof![
        12 => frame.prop_map(|(surface, buffer, draws, attach, in_pixels, moved)| {
            Op::Frame { surface, buffer, draws, attach, in_pixels, moved }
        }),
        2 => (buffer(), draw()).prop_map(|(buffer, draw)| Op::Draw { buffer, draw }),
        1 => (surface(), 1..4i32, 0..8u32).prop_map(|(surface, scale, transform)| Op::View { surface, scale, transform }),
        1 => buffer().prop_map(|buffer| Op::Recreate { buffer }),
        1 => buffer().prop_map(|buffer| Op::Refresh { buffer }),
        1 => surface().prop_map(|surface| Op::Detach { surface }),
        1 => surface().prop_map(|surface| Op::DestroySurface { surface }),
        1 => Just(Op::Demote),
    ]
}

type Pixels = Vec<Vec<u8>>;
type Bitmap = Vec<bool>;

#[derive(Default)]
struct ModelSurface {
    id: u32,
    content: Option<usize>,
    view: (i32, u32),
    shown: ((i32, u32), Option<(i32, i32)>),
    /// Everything that can be on the screen here: what was committed here last, and what its wl_buffer was when
    /// another surface made the compositor read it.
    pictures: Vec<Pixels>,
}

struct Model {
    client: Client,
    placements: [Placement; 3],
    ids: [u32; 3],
    next_id: u32,
    surfaces: [ModelSurface; 2],
    /// By wl_buffer and surface; all is stale where there is nothing.
    stale: HashMap<(usize, usize), Bitmap>,
    /// What the client draws into, if that is an allocation.
    lent: Option<Rc<Lent>>,
}

fn size(buffer: usize) -> (i32, i32) {
    (BUFFERS[buffer].0[1], BUFFERS[buffer].0[2])
}

/// Where each pixel of a wl_buffer is seen: the unit of the surface, by the protocol's words: flip the picture, turn it
/// counter-clockwise.
fn units((width, height): (i32, i32), (scale, transform): (i32, u32)) -> Vec<(i32, i32)> {
    let mut units = vec![(0, 0); (width * height) as usize];
    let upright = if transform % 2 == 1 { (height, width) } else { (width, height) };
    for (sx, sy) in (0..upright.1).flat_map(|sy| (0..upright.0).map(move |sx| (sx, sy))) {
        let ((mut x, mut y), (mut w, mut h)) = ((sx, sy), upright);
        if transform >= 4 {
            x = w - 1 - x;
        }
        for _ in 0..transform % 4 {
            (x, y, w, h) = (y, w - 1 - x, h, w);
        }
        units[(y * width + x) as usize] = (sx / scale, sy / scale);
    }
    units
}

/// Rectangles that cover these points.
fn rects(points: &[(i32, i32)]) -> Vec<Rect> {
    let mut points = points.to_vec();
    points.sort_by_key(|&(x, y)| (y, x));
    points.dedup();
    let mut rects: Vec<Rect> = Vec::new();
    for (x, y) in points.iter().copied() {
        match rects.last_mut() {
            Some(last) if last.y == y && last.x + last.width == x => last.width += 1,
            _ => rects.push(Rect::new(x, y, 1, 1)),
        }
    }
    if rects.len() > MAX_POSTED {
        let (left, right) =
            (points.iter().map(|p| p.0).min().unwrap(), points.iter().map(|p| p.0).max().unwrap());
        let (top, bottom) = (points[0].1, points[points.len() - 1].1);
        rects = vec![Rect::new(left, top, right - left + 1, bottom - top + 1)];
    }
    rects
}

impl Model {
    fn new(is_lent: bool) -> Self {
        let mut client = Client::new(SIZE);
        let lent = is_lent.then(|| client.draw_in_lent(POOL, SIZE as u64));
        let ids = [20, 21, 22];
        let placements = [0, 1, 2].map(|i| Self::buffer(&mut client, ids[i], i, lent.as_deref()));
        let surfaces =
            [X, Y].map(|id| ModelSurface { id, view: (1, 0), ..ModelSurface::default() });
        Self { client, placements, ids, next_id: 100, surfaces, stale: HashMap::new(), lent }
    }

    /// Makes a wl_buffer. In an allocation that the compositor sees, it is where the client says.
    fn buffer(client: &mut Client, id: u32, index: usize, lent: Option<&Lent>) -> Placement {
        let (numbers, format, _) = BUFFERS[index];
        match (client.made(POOL, id, numbers, format).unwrap(), lent) {
            (Some(placement), None) => placement,
            (None, Some(lent)) => {
                Placement { vfd: lent.vfd(), pool_size: SIZE as i32, offset: numbers[0] }
            }
            (placement, _) => panic!("{placement:?} for {lent:?}"),
        }
    }

    fn draw(&self, buffer: usize, (rect, value): (Rect, u8)) {
        let ([offset, _, _, stride], _, pixel) = BUFFERS[buffer];
        let Some(rect) = rect.intersection(&Rect::of_size(size(buffer))) else { return };
        for y in rect.y..rect.y + rect.height {
            let start = (offset + y * stride) as usize + rect.x as usize * pixel;
            self.client.draw(start, rect.width as usize * pixel, value);
        }
    }

    /// The pixels that `read` finds, which takes offset and length.
    fn pixels(buffer: usize, read: impl Fn(usize, usize) -> Vec<u8>) -> Pixels {
        let ([_, width, height, stride], _, pixel) = BUFFERS[buffer];
        let row = |y| read((y * stride) as usize, width as usize * pixel);
        (0..height)
            .flat_map(|y| row(y).chunks(pixel).map(<[u8]>::to_vec).collect::<Vec<_>>())
            .collect()
    }

    fn drawn(&self, buffer: usize) -> Pixels {
        Self::pixels(buffer, |offset, len| {
            let mut bytes = vec![0; len];
            self.client
                .file
                .read_exact_at(&mut bytes, BUFFERS[buffer].0[0] as u64 + offset as u64)
                .unwrap();
            bytes
        })
    }

    /// The compositor can read a wl_buffer from now on: the shadow is as the client's, and surfaces show it.
    fn check(&mut self, buffer: usize, committed: Option<usize>) {
        let (drawn, host) = (self.drawn(buffer), &self.client.host);
        let shadow =
            Self::pixels(buffer, |offset, len| host.read(self.placements[buffer], offset, len));
        assert_eq!(shadow, drawn);
        for (i, surface) in self.surfaces.iter_mut().enumerate() {
            let shows = surface.content == Some(buffer);
            if shows {
                surface.pictures.push(drawn.clone());
            }
            if Some(i) == committed || (shows && self.stale.contains_key(&(buffer, i))) {
                self.stale.insert((buffer, i), vec![false; drawn.len()]);
            } else {
                self.stale.remove(&(buffer, i));
            }
        }
    }

    /// Posts what a correct client must, and returns the pixels that it covers.
    fn post(&mut self, surface: usize, buffer: usize, remapped: bool, in_pixels: bool) -> Bitmap {
        let (surface, drawn, size) = (&self.surfaces[surface], self.drawn(buffer), size(buffer));
        let view = if in_pixels { (1, 0) } else { surface.view };
        let units = units(size, view);
        let changed: Vec<_> = (0..drawn.len())
            .filter(|&i| !remapped && surface.pictures.iter().any(|picture| picture[i] != drawn[i]))
            .map(|i| units[i])
            .collect();
        let rects = rects(&changed);
        for &rect in &rects {
            match in_pixels {
                true => self.client.shadows.damage_buffer(surface.id, rect),
                false => self.client.shadows.damage(surface.id, rect),
            }
        }
        let covers = |(x, y)| {
            rects
                .iter()
                .any(|r| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y))
        };
        units.into_iter().map(covers).collect()
    }

    fn frame(&mut self, index: usize, wanted: usize, attach: bool, in_pixels: bool, moved: bool) {
        let surface = &self.surfaces[index];
        let attach = attach || surface.content != Some(wanted);
        let shows = (surface.view, Some(size(wanted)));
        let remapped = moved || surface.shown != shows;
        let damage = self.post(index, wanted, remapped, in_pixels);
        let (id, host) = (self.surfaces[index].id, &mut self.client.host);
        if attach {
            self.client.shadows.attach(id, Some(self.ids[wanted]), 0, 0, host);
        }
        if moved {
            self.client.shadows.offset(id, 1, 0);
        }
        let result = self.client.shadows.commit(id, host).unwrap();
        for (&(_, of), stale) in &mut self.stale {
            if of == index && !remapped {
                stale.iter_mut().zip(&damage).for_each(|(stale, &damaged)| *stale |= damaged);
            }
        }
        if remapped {
            self.stale.retain(|&(_, of), _| of != index);
        }
        let pixel = BUFFERS[wanted].2 as u64;
        let count = |bitmap: &Bitmap| bitmap.iter().filter(|&&set| set).count() as u64 * pixel;
        let stale = self.stale.get(&(wanted, index)).map_or(damage.len() as u64 * pixel, count);
        let seen = self.lent.is_some();
        let copied = if seen { 0 } else { stale };
        assert_eq!(result, Copied { copied, damaged: count(&damage), seen });
        let surface = &mut self.surfaces[index];
        (surface.content, surface.shown) = (Some(wanted), shows);
        surface.pictures.clear();
        self.check(wanted, Some(index));
    }

    fn forget(&mut self, index: usize) {
        self.stale.retain(|&(_, of), _| of != index);
        self.surfaces[index].content = None;
        self.surfaces[index].pictures.clear();
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Frame { surface, buffer, draws, attach, in_pixels, moved } => {
                draws.into_iter().for_each(|draw| self.draw(buffer, draw));
                self.frame(surface, buffer, attach, in_pixels, moved);
            }
            Op::Draw { buffer, draw } => self.draw(buffer, draw),
            Op::View { surface, scale, transform } => {
                let surface = &mut self.surfaces[surface];
                surface.view = (scale, transform);
                self.client.shadows.set_scale(surface.id, scale);
                self.client.shadows.set_transform(surface.id, transform);
            }
            Op::Recreate { buffer } => {
                self.client.destroy_buffer(self.ids[buffer]);
                self.ids[buffer] = self.next_id;
                self.next_id += 1;
                let (id, lent) = (self.ids[buffer], self.lent.as_deref());
                let placement = Self::buffer(&mut self.client, id, buffer, lent);
                assert_eq!(placement, self.placements[buffer]);
            }
            Op::Refresh { buffer } => {
                let copied = self.client.refresh(self.ids[buffer]).copied;
                let all = self.drawn(buffer).len() as u64 * BUFFERS[buffer].2 as u64;
                assert_eq!(copied, if self.lent.is_some() { 0 } else { all });
                self.check(buffer, None);
            }
            Op::Detach { surface } => {
                let (id, host) = (self.surfaces[surface].id, &mut self.client.host);
                self.client.shadows.attach(id, None, 0, 0, host);
                assert_eq!(self.client.shadows.commit(id, host), Ok(Copied::default()));
                self.forget(surface);
                self.surfaces[surface].shown = (self.surfaces[surface].view, None);
            }
            Op::DestroySurface { surface } => {
                self.client
                    .shadows
                    .destroy_surface(self.surfaces[surface].id, &mut self.client.host);
                self.forget(surface);
                self.surfaces[surface].view = (1, 0);
                self.surfaces[surface].shown = ((1, 0), None);
            }
            Op::Demote => {
                if let Some(lent) = self.lent.take() {
                    self.client.demote(&lent);
                    self.stale.clear();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// After each commit the shadow is as the client's wl_buffer, and exactly what was stale was copied for it.
    #[test]
    fn never_less_and_never_more(is_lent: bool, ops in prop::collection::vec(op(), 1..60)) {
        let mut model = Model::new(is_lent);
        ops.into_iter().for_each(|op| model.apply(op));
        model.client.end();
    }
}
