//! What is measured in `frame`: one combination of size, damage, content and pace.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Size of a buffer, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// 1280x720.
    pub const HD: Self = Self { width: 1280, height: 720 };
    /// 1920x1080.
    pub const FULL_HD: Self = Self { width: 1920, height: 1080 };
    /// 3840x2160.
    pub const UHD: Self = Self { width: 3840, height: 2160 };
    /// The three of them, from small to large.
    pub const ALL: [Self; 3] = [Self::HD, Self::FULL_HD, Self::UHD];

    /// Bytes of so many pixels.
    pub fn bytes(self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * crate::pixels::PIXEL as u64
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// What changes from one frame to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// Every pixel.
    Full,
    /// 64x64 pixels, each time others.
    Small,
    /// Nothing: a commit, and that is all.
    None,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Small => "64x64",
            Self::None => "none",
        })
    }
}

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// One grey, another in each frame: compresses to nothing.
    Flat,
    /// Random bytes, others in each frame: doesn't compress.
    Noise,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Noise => "noise",
        })
    }
}

/// What is between two measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// A pause of 1 to 3 ms: everybody on the path has gone to sleep.
    Paced,
    /// Nothing but what the client has to do: drawing.
    Unpaced,
}

impl Pace {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Paced, Self::Unpaced];
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paced => "paced",
            Self::Unpaced => "unpaced",
        })
    }
}

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// Size of the buffers.
    pub size: Size,
    /// What changes.
    pub damage: Damage,
    /// What is drawn.
    pub content: Content,
    /// What is between two frames.
    pub pace: Pace,
}

impl Cell {
    /// All of a size changes, and is flat.
    pub const fn full(size: Size, pace: Pace) -> Self {
        Self { size, damage: Damage::Full, content: Content::Flat, pace }
    }

    /// Those that are measured: all sizes, flat and with full damage; 1920x1080 with less damage; noise, which only matters
    /// to who compresses, at the two larger sizes.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for pace in Pace::ALL {
            cells.extend(Size::ALL.map(|size| Self::full(size, pace)));
            let full_hd = Self::full(Size::FULL_HD, pace);
            cells.extend([Damage::Small, Damage::None].map(|damage| Self { damage, ..full_hd }));
            let noise = |size| Self { content: Content::Noise, ..Self::full(size, pace) };
            cells.extend([Size::FULL_HD, Size::UHD].map(noise));
        }
        cells
    }
}

impl Cell {
    /// Whether compositors of `examples/` are measured with it, too: enough to see what the way to them costs.
    pub fn is_of_examples(&self) -> bool {
        let sizes = match self.damage {
            Damage::Full => &[Size::FULL_HD, Size::UHD][..],
            Damage::Small => &[Size::FULL_HD],
            Damage::None => &[],
        };
        self.content == Content::Flat && sizes.contains(&self.size)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.size, self.damage, self.content, self.pace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_measured_twice() {
        let cells = Cell::all();
        let names: std::collections::HashSet<_> = cells.iter().map(Cell::to_string).collect();
        assert_eq!(names.len(), cells.len());
        assert!(names.contains("1920x1080 64x64 flat unpaced"), "{names:?}");
    }

    #[test]
    fn examples_have_some_of_the_cells() {
        let cells = Cell::all().into_iter().filter(Cell::is_of_examples);
        let names: Vec<String> = cells.map(|cell| cell.to_string()).collect();
        let expected = ["1920x1080 full flat", "3840x2160 full flat", "1920x1080 64x64 flat"];
        let expected =
            ["paced", "unpaced"].map(|pace| expected.map(|cell| format!("{cell} {pace}")));
        assert_eq!(names, expected.concat());
    }
}
