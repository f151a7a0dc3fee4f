//! What is on the screen, as a picture and in words.

use crate::canvas::title_bar;
use crate::windows::{BORDER, Shown, TITLE_BAR, Windows, toplevel};
use anyhow::{Context, Result, anyhow};
use smithay::backend::allocator::Fourcc;
use smithay::backend::renderer::damage::OutputDamageTracker;
use smithay::backend::renderer::element::memory::MemoryRenderBufferRenderElement;
use smithay::backend::renderer::element::solid::SolidColorRenderElement;
use smithay::backend::renderer::element::surface::{
    WaylandSurfaceRenderElement, render_elements_from_surface_tree,
};
use smithay::backend::renderer::element::utils::CropRenderElement;
use smithay::backend::renderer::element::{Id, Kind};
use smithay::backend::renderer::pixman::PixmanRenderer;
use smithay::backend::renderer::{Bind, Color32F, ExportMem, Offscreen};
use smithay::desktop::PopupManager;
use smithay::desktop::utils::bbox_from_surface_tree;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::render_elements;
use smithay::utils::{Logical, Physical, Point, Rectangle, Size, Transform};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// What is where no window is, as 0xRRGGBB.
const BACKGROUND: u32 = 0x20_2428;

/// What is behind a window that is translucent.
const BEHIND: u32 = 0;

/// Whose window it is, where it is of no VM.
const NO_VM: &str = "-";

render_elements! {
    /// What the screen is composed of.
    Element<=PixmanRenderer>;
    Surface=CropRenderElement<WaylandSurfaceRenderElement<PixmanRenderer>>,
    Bar=MemoryRenderBufferRenderElement<PixmanRenderer>,
    Plain=SolidColorRenderElement,
}

/// Composes the screen.
pub(crate) struct Painter {
    renderer: PixmanRenderer,
    size: Size<i32, Physical>,
}

impl Painter {
    pub(crate) fn new(size: Size<i32, Logical>) -> Result<Self> {
        let renderer = PixmanRenderer::new().context("pixman can't be used")?;
        Ok(Self { renderer, size: size.to_physical(1) })
    }

    /// Writes a PNG of the screen, and then tells on standard output of each window, bottom to top.
    ///
    /// Whoever has read the last line may read the file.
    pub(crate) fn picture(&mut self, windows: &Windows, file: &Path) -> Result<()> {
        let pixels = self.compose(windows)?;
        // Never half a file: it gets its name when it is whole.
        let mut beside = OsString::from(file);
        beside.push(".part");
        write_png(Path::new(&beside), &pixels, self.size)
            .and_then(|()| Ok(fs::rename(&beside, file)?))
            .with_context(|| format!("can't write {}", file.display()))?;
        let mut out = io::stdout().lock();
        for shown in windows.shown() {
            let Rectangle { loc, size } = shown.place;
            let (vm, title) = (shown.owner.vm().unwrap_or(NO_VM), shown.title());
            writeln!(out, "window {} {} {} {} {vm} {title}", loc.x, loc.y, size.w, size.h)?;
        }
        writeln!(out, "picture {}", file.display())?;
        Ok(out.flush()?)
    }

    /// The screen's pixels, of four bytes: blue, green, red, and one that doesn't matter.
    fn compose(&mut self, windows: &Windows) -> Result<Vec<u8>> {
        // smithay wants them from front to back, and so does every part below.
        let mut elements = Vec::new();
        for shown in windows.shown().rev() {
            self.popups(&shown, &mut elements);
            self.window(&shown, &mut elements)?;
        }
        let size = self.size.to_logical(1).to_buffer(1, Transform::Normal);
        let mut image = self.renderer.create_buffer(Fourcc::Xrgb8888, size)?;
        let mut target = self.renderer.bind(&mut image)?;
        // All of it is drawn, each time: nobody looks at the screen in between.
        OutputDamageTracker::new(self.size, 1.0, Transform::Normal)
            .render_output(&mut self.renderer, &mut target, 0, &elements, colour(BACKGROUND))
            .map_err(|error| anyhow!("the screen can't be drawn: {error}"))?;
        let region = Rectangle::from_size(size);
        let copy = self.renderer.copy_framebuffer(&target, region, Fourcc::Xrgb8888)?;
        Ok(self.renderer.map_texture(&copy)?.to_vec())
    }

    /// A window: what its client draws, inside a border that it can't draw on.
    fn window(&mut self, shown: &Shown<'_>, elements: &mut Vec<Element>) -> Result<()> {
        let Some(toplevel) = toplevel(shown.window) else { return Ok(()) };
        let place = shown.place.to_physical(1);
        let origin = shown.place.loc - shown.window.geometry().loc;
        self.framed(toplevel.wl_surface(), origin, place, shown.owner.colour(), elements);

        let at = place.loc - Point::from((BORDER, BORDER + TITLE_BAR));
        // No wider than the screen, as the place isn't, so it is small.
        let bar = title_bar(shown.owner, (place.size.w + 2 * BORDER) as u32, TITLE_BAR as u32);
        let bar = MemoryRenderBufferRenderElement::from_buffer(
            &mut self.renderer,
            at.to_f64(),
            &bar,
            None,
            None,
            None,
            Kind::Unspecified,
        )?;
        elements.push(bar.into());
        Ok(())
    }

    /// A window's popups. They may lie over other windows, so they have the border, too.
    fn popups(&mut self, shown: &Shown<'_>, elements: &mut Vec<Element>) {
        let Some(toplevel) = toplevel(shown.window) else { return };
        for (popup, offset) in PopupManager::popups_for_surface(toplevel.wl_surface()) {
            // What its client takes for the popup, or all of it if the client doesn't say.
            let said = Some(popup.geometry()).filter(|geometry| !geometry.is_empty());
            let all = || bbox_from_surface_tree(popup.wl_surface(), (0, 0));
            let geometry = said.unwrap_or_else(all);
            if geometry.is_empty() {
                // It shows nothing yet.
                continue;
            }
            let place = Rectangle::new(shown.place.loc + offset, geometry.size);
            let origin = place.loc - geometry.loc;
            let colour = shown.owner.colour();
            self.framed(popup.wl_surface(), origin, place.to_physical(1), colour, elements);
        }
    }

    /// A surface and its subsurfaces as far as they are at `place`, and a border around that.
    fn framed(
        &mut self,
        surface: &WlSurface,
        origin: Point<i32, Logical>,
        place: Rectangle<i32, Physical>,
        frame: u32,
        elements: &mut Vec<Element>,
    ) {
        let tree: Vec<WaylandSurfaceRenderElement<_>> = render_elements_from_surface_tree(
            &mut self.renderer,
            surface,
            origin.to_physical(1),
            1.0,
            1.0,
            Kind::Unspecified,
        );
        let cropped = |element| CropRenderElement::from_element(element, 1.0, place);
        elements.extend(tree.into_iter().filter_map(cropped).map(Element::from));
        elements.push(plain(place, BEHIND));
        let border = Point::from((BORDER, BORDER));
        let around = Size::from((2 * BORDER, 2 * BORDER));
        elements.push(plain(Rectangle::new(place.loc - border, place.size + around), frame));
    }
}

fn plain(place: Rectangle<i32, Physical>, rgb: u32) -> Element {
    let (id, commit) = (Id::new(), 0_usize);
    SolidColorRenderElement::new(id, place, commit, colour(rgb), Kind::Unspecified).into()
}

/// 0xRRGGBB as the renderer has it.
fn colour(rgb: u32) -> Color32F {
    let [_, red, green, blue] = rgb.to_be_bytes().map(|part| f32::from(part) / 255.0);
    Color32F::new(red, green, blue, 1.0)
}

fn write_png(file: &Path, pixels: &[u8], size: Size<i32, Physical>) -> Result<()> {
    let file = BufWriter::new(File::create(file)?);
    let mut encoder = png::Encoder::new(file, size.w as u32, size.h as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let rgb: Vec<u8> =
        pixels.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    Ok(writer.finish()?)
}
