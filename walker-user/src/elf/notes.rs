//! The build ID among a file's notes.

use object::elf;

use super::{
    BuildId,
    header::SegmentHeader,
    source::{Source, read},
};

/// The most bytes of notes that are looked at in a segment; real ones have less than a hundred.
const MAX_NOTES: u64 = 1 << 16;
/// The most note segments that are looked at.
const MAX_SEGMENTS: usize = 16;

/// The first build ID in the segments of notes. Notes that cannot be read hold none: a file works
/// without.
pub(super) fn build_id(
    source: &(impl Source + ?Sized),
    segments: &[SegmentHeader],
) -> Option<BuildId> {
    segments
        .iter()
        .filter(|segment| segment.kind.get() == elf::PT_NOTE.0)
        .take(MAX_SEGMENTS)
        .find_map(|segment| {
            let (offset, size) = (segment.offset.get(), segment.file_size.get());
            let notes = read(source, "the notes", offset, size.min(MAX_NOTES), MAX_NOTES).ok()?;
            find(&notes, segment.align.get())
        })
}

/// Looks through notes that are aligned to 8 bytes if the segment says so, and to 4 otherwise.
fn find(mut notes: &[u8], align: u64) -> Option<BuildId> {
    let align = if align == 8 { 8 } else { 4 };
    // Every round takes at least the 12 bytes of a note's header.
    loop {
        let (header, rest) = notes.split_first_chunk::<12>()?;
        let [name_len, id_len, kind] = words(header);
        let name = rest.get(..name_len)?;
        let id_begin = (12 + name_len).next_multiple_of(align);
        let id_end = id_begin.checked_add(id_len)?;
        let id = notes.get(id_begin..id_end)?;
        if kind == elf::NT_GNU_BUILD_ID.0 as usize
            && name == b"GNU\0"
            && let Ok(id) = BuildId::new(id)
        {
            return Some(id);
        }
        notes = notes.get(id_end.next_multiple_of(align)..)?;
    }
}

fn words(header: &[u8; 12]) -> [usize; 3] {
    let word = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(bytes) as usize
    };
    [word(0), word(4), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, id: &[u8], align: usize) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len() as u32, id.len() as u32, kind] {
            note.extend(word.to_le_bytes());
        }
        note.extend(name);
        note.resize(note.len().next_multiple_of(align), 0);
        note.extend(id);
        note.resize(note.len().next_multiple_of(align), 0);
        note
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        for align in [4, 8] {
            let mut notes = note(b"GNU\0", 1, &[9; 16], align);
            notes.extend(note(b"Go\0\0", 3, &[8; 5], align));
            notes.extend(note(b"GNU\0", 3, &[7; 19], align));
            let id = find(&notes, align as u64).unwrap();
            assert_eq!(id.as_bytes(), [7; 19]);
        }
    }

    #[test]
    fn the_kernel_and_this_program_pass_over_the_same_ids() {
        let mut notes = note(b"GNU\0", 3, &[7; 32], 4);
        assert_eq!(find(&notes, 4), None);
        notes.extend(note(b"GNU\0", 3, &[6; 8], 4));
        assert_eq!(find(&notes, 4).unwrap().as_bytes(), [6; 8]);
    }

    #[test]
    fn lying_lengths_find_nothing() {
        for word in 0..2 {
            let mut notes = note(b"GNU\0", 1, &[7; 20], 4);
            notes[word * 4..word * 4 + 4].fill(0xff);
            assert_eq!(find(&notes, 4), None);
        }
    }
}
