//! The colours of the flame graph: one hue per kind of stack, in a light and a dark theme.
//!
//! Warm colours are ordinary code, cold ones are code that interrupted it. Colours are chosen in
//! OKLCH, where equal lightness looks equally light, so that a wide frame does not stand out only
//! because of its hue; they are written as sRGB because that is what every viewer understands.

use walker_common::StackKind;

use crate::profile::FrameClass;

/// Frames that share a hue and a line in the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Process,
    User,
    Task,
    Entry,
    Irq,
    SoftIrq,
    Nmi,
    /// The stacks of `#DB`, `#DF`, `#MC` and `#VC`.
    Exception,
    Unknown,
    Marker,
    /// What is said about an event, at its leaf.
    Note,
}

/// How many shades a group has, so that neighbours can be told apart.
pub(super) const SHADES: usize = 6;

impl Group {
    /// Every group, in the order of the legend.
    pub(super) const ALL: [Self; 11] = [
        Self::Process,
        Self::User,
        Self::Task,
        Self::Entry,
        Self::Irq,
        Self::SoftIrq,
        Self::Nmi,
        Self::Exception,
        Self::Unknown,
        Self::Marker,
        Self::Note,
    ];

    pub(super) const fn of(class: FrameClass) -> Self {
        match class {
            FrameClass::Process | FrameClass::Event => Self::Process,
            FrameClass::User => Self::User,
            FrameClass::Marker(_) => Self::Marker,
            FrameClass::Note => Self::Note,
            FrameClass::Kernel(kind) => match kind {
                StackKind::Unknown => Self::Unknown,
                StackKind::Task => Self::Task,
                StackKind::Irq => Self::Irq,
                StackKind::SoftIrq => Self::SoftIrq,
                StackKind::Entry => Self::Entry,
                StackKind::Nmi => Self::Nmi,
                StackKind::DoubleFault
                | StackKind::Debug
                | StackKind::MachineCheck
                | StackKind::Vc
                | StackKind::Vc2 => Self::Exception,
                StackKind::User => Self::User,
            },
        }
    }

    /// The letter that, with the number of the shade, makes the CSS class.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Process => 'p',
            Self::User => 'u',
            Self::Task => 't',
            Self::Entry => 'e',
            Self::Irq => 'i',
            Self::SoftIrq => 's',
            Self::Nmi => 'n',
            Self::Exception => 'x',
            Self::Unknown => 'q',
            Self::Marker => 'm',
            Self::Note => 'o',
        }
    }

    /// What the legend calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::User => "user",
            Self::Task => "task",
            Self::Entry => "entry",
            Self::Irq => "IRQ",
            Self::SoftIrq => "softirq",
            Self::Nmi => "NMI",
            Self::Exception => "#DB #DF #MC #VC",
            Self::Unknown => "unknown stack",
            Self::Marker => "change of stack",
            Self::Note => "about the event",
        }
    }

    /// Lightness, chroma and hue (in degrees) in OKLCH, before shading.
    const fn colour(self, dark: bool) -> [f64; 3] {
        match (self, dark) {
            (Self::Process, false) => [0.87, 0.01, 250.0],
            (Self::Process, true) => [0.66, 0.01, 250.0],
            (Self::User, false) => [0.88, 0.13, 95.0],
            (Self::User, true) => [0.77, 0.12, 92.0],
            (Self::Task, false) => [0.76, 0.14, 48.0],
            (Self::Task, true) => [0.69, 0.14, 45.0],
            (Self::Entry, false) => [0.83, 0.13, 140.0],
            (Self::Entry, true) => [0.72, 0.13, 140.0],
            (Self::Irq, false) => [0.78, 0.11, 250.0],
            (Self::Irq, true) => [0.70, 0.12, 250.0],
            (Self::SoftIrq, false) => [0.85, 0.09, 195.0],
            (Self::SoftIrq, true) => [0.76, 0.10, 195.0],
            (Self::Nmi, false) => [0.74, 0.14, 308.0],
            (Self::Nmi, true) => [0.68, 0.15, 308.0],
            (Self::Exception, false) => [0.76, 0.15, 355.0],
            (Self::Exception, true) => [0.69, 0.17, 355.0],
            (Self::Unknown, false) => [0.80, 0.03, 70.0],
            (Self::Unknown, true) => [0.68, 0.03, 70.0],
            (Self::Marker, false) => [0.37, 0.03, 265.0],
            (Self::Marker, true) => [0.93, 0.01, 265.0],
            (Self::Note, false) => [0.86, 0.07, 165.0],
            (Self::Note, true) => [0.74, 0.07, 165.0],
        }
    }

    /// The colour of a shade below [`SHADES`], as in CSS.
    pub(super) fn shade(self, dark: bool, shade: usize) -> String {
        let [red, green, blue] = self.rgb(dark, shade);
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    fn rgb(self, dark: bool, shade: usize) -> [u8; 3] {
        const VARIATION: [[f64; 2]; SHADES] = [
            [0.0, 0.0],
            [0.025, 4.0],
            [-0.02, -5.0],
            [0.015, -4.0],
            [-0.01, 5.0],
            [0.035, -1.0],
        ];
        let [lightness, chroma, hue] = self.colour(dark);
        // Markers are to look alike wherever they are.
        let [lighter, turned] = match self {
            Self::Marker => [0.0, 0.0],
            _ => VARIATION[shade],
        };
        srgb(lightness + lighter, chroma, hue + turned)
    }
}

/// The shade of a name: always the same for the same name.
pub(super) fn shade_of(name: &str) -> usize {
    // FNV-1a: short, and even enough for a handful of shades.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as usize % SHADES
}

/// How many colours there are for changes: the middle one is for none, those before it for what
/// shrank, those after it for what grew. Red and blue are told apart by the colour-blind too.
pub(super) const CHANGES: usize = 9;

/// The colour of a change below [`CHANGES`], as in CSS.
pub(super) fn change_fill(dark: bool, level: usize) -> String {
    let [red, green, blue] = change_rgb(dark, level);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn change_rgb(dark: bool, level: usize) -> [u8; 3] {
    const MIDDLE: usize = CHANGES / 2;
    let strength = level.abs_diff(MIDDLE) as f64 / MIDDLE as f64;
    let hue = if level < MIDDLE { 250.0 } else { 28.0 };
    // In the dark theme, a strong colour stands out by being lighter than the grey of no change.
    let [lightness, further] = if dark { [0.64, 0.08] } else { [0.93, -0.24] };
    let chroma = 0.17 * strength;
    srgb(lightness + further * strength, chroma, hue)
}

/// OKLCH to sRGB, after <https://www.w3.org/TR/css-color-4/>; what does not fit is clamped.
fn srgb(lightness: f64, chroma: f64, hue: f64) -> [u8; 3] {
    let (sin, cos) = hue.to_radians().sin_cos();
    let (a, b) = (chroma * cos, chroma * sin);
    let long = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let medium = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let short = (lightness - 0.089_484_177_5 * a - 1.291_485_548 * b).powi(3);
    let linear = [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701 * short,
    ];
    linear.map(|linear| {
        let encoded = if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        };
        (encoded * 255.0).round().clamp(0.0, 255.0) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::{CHANGES, Group, SHADES, change_rgb, shade_of, srgb};

    /// Relative luminance after WCAG 2.
    fn luminance(rgb: [u8; 3]) -> f64 {
        let [red, green, blue] = rgb.map(|byte| {
            let encoded = f64::from(byte) / 255.0;
            match encoded <= 0.04045 {
                true => encoded / 12.92,
                false => ((encoded + 0.055) / 1.055).powf(2.4),
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn known_colours_convert() {
        assert_eq!(srgb(1.0, 0.0, 0.0), [255, 255, 255]);
        assert_eq!(srgb(0.0, 0.0, 0.0), [0, 0, 0]);
        assert_eq!(srgb(0.627_955, 0.257_683, 29.233_88), [255, 0, 0]);
    }

    /// The text colours are those of `svg.css`.
    #[test]
    fn text_is_readable_on_every_colour() {
        let (ink, white) = ([0x16, 0x18, 0x1d], [0xff, 0xff, 0xff]);
        for group in Group::ALL {
            for dark in [false, true] {
                for shade in 0..SHADES {
                    let text = match (group, dark) {
                        (Group::Marker, false) => white,
                        _ => ink,
                    };
                    let contrast = contrast(group.rgb(dark, shade), text);
                    assert!(contrast > 5.0, "{group:?} {dark} {shade}: {contrast:.2}");
                }
            }
        }
    }

    #[test]
    fn changes_are_readable_and_told_apart() {
        for dark in [false, true] {
            let colours: Vec<_> = (0..CHANGES).map(|level| change_rgb(dark, level)).collect();
            for (level, colour) in colours.iter().enumerate() {
                let contrast = contrast(*colour, [0x16, 0x18, 0x1d]);
                assert!(contrast > 5.0, "{dark} {level}: {contrast:.2}");
                let [red, _, blue] = *colour;
                assert_eq!(level.cmp(&(CHANGES / 2)), red.cmp(&blue), "{dark} {level}");
            }
            let mut distinct = colours.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), CHANGES);
        }
    }

    #[test]
    fn shades_of_names_are_stable_and_all_used() {
        assert_eq!(shade_of("do_syscall_64"), shade_of("do_syscall_64"));
        let mut used = [false; SHADES];
        for number in 0..100 {
            used[shade_of(&format!("function_{number}"))] = true;
        }
        assert_eq!(used, [true; SHADES]);
    }
}
