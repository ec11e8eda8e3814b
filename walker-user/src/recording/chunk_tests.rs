use std::{io::Cursor, time::Instant};

use super::*;

/// The file with these chunks.
fn file(chunks: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut packer = Packer::new().unwrap();
    let mut bytes = file_header().to_vec();
    for (kind, raw) in chunks {
        bytes.extend(packer.pack(*kind, 0, raw).unwrap());
    }
    bytes
}

fn all(bytes: Vec<u8>) -> Vec<Next> {
    let mut reader = ChunkReader::open(Cursor::new(bytes)).unwrap();
    let mut all = Vec::new();
    loop {
        match reader.next().unwrap() {
            Next::End => return all,
            next => all.push(next),
        }
    }
}

/// Why these bytes are no recording.
fn refusal(bytes: &[u8]) -> String {
    ChunkReader::open(Cursor::new(bytes))
        .unwrap_err()
        .to_string()
}

#[test]
fn other_files_are_named() {
    for (begin, what) in [
        (&b""[..], "empty"),
        (b"PERFILE2\x68\0\0\0\0\0\0\0", "perf.data"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"\x28\xb5\x2f\xfd\0\0\0\0", "zstd"),
        (b"\x7fELF\x02\x01\x01\0", "ELF"),
        (b"<svg version=\"1.1\">", "picture"),
        (b"<?xml version=\"1.0\"", "<?xml"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"{\"a\": 1}", "JSON"),
        (b"swapper;main 12\n", "`swapper;`"),
        (b"\x1b[31mred", "`\\x1b[31mred`"),
        (&MAGIC[..5], "damaged"),
        (&file_header()[..15], "damaged"),
    ] {
        let text = refusal(begin);
        assert!(text.contains(what), "{begin:?}: {text}");
    }
}

#[test]
fn a_newer_format_is_refused_with_what_to_do() {
    let mut header = file_header();
    header[8..10].copy_from_slice(&(MAJOR + 1).to_le_bytes());
    let sum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&sum.to_le_bytes());
    let text = refusal(&header);
    assert!(
        text.contains("version 2") && text.contains("use the newer"),
        "{text}"
    );

    // A newer version of the same format only has more in it.
    let mut header = file_header();
    header[10] = 9;
    let sum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(all(header.to_vec()), []);
}

#[test]
fn chunks_are_found_again_behind_damage() {
    let mut bytes = file(&[
        (Kind::Head, vec![1; 100]),
        (Kind::Nodes, vec![2; 100]),
        (Kind::End, vec![3; 100]),
    ]);
    let whole = all(bytes.clone());
    let [Next::Chunk(_), Next::Chunk(second), third] = &whole[..] else {
        panic!("{whole:?}");
    };
    let begin = second.at - CHUNK_HEADER_BYTES as u64;
    bytes[begin as usize + 9] ^= 1;
    let damaged = all(bytes);
    let expected = Damage {
        at: begin,
        bytes: second.end() - begin,
        what: "this is no chunk".to_owned(),
    };
    assert_eq!(
        damaged[1..],
        [Next::Damage(expected), Next::Missing(1), third.clone()]
    );
}

#[test]
fn a_header_is_found_wherever_it_lies() {
    // Across the end of a window, for one.
    for distance in [1, 35, 36, WINDOW - 36, WINDOW - 17, WINDOW, WINDOW + 1] {
        let mut bytes = file_header().to_vec();
        bytes.resize(FILE_HEADER_BYTES + distance, b'S');
        let begin = bytes.len() as u64;
        bytes.extend(Packer::new().unwrap().pack(Kind::End, 0, b"x").unwrap());
        let found = all(bytes);
        assert!(
            matches!(found[1], Next::Chunk(header) if header.at == begin + CHUNK_HEADER_BYTES as u64),
            "{distance}: {found:?}"
        );
    }
}

#[test]
fn what_looks_like_chunks_everywhere_takes_no_longer() {
    let mut bytes = file_header().to_vec();
    for _ in 0..1 << 20 {
        bytes.extend(CHUNK_MAGIC);
    }
    let begin = Instant::now();
    assert_eq!(all(bytes).len(), 1);
    // A second look at the file for each of them would take hours.
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

#[test]
fn a_payload_that_does_not_unpack_to_its_size_is_damage() {
    for claimed in [2000u32, 5000, MAX_CHUNK as u32] {
        let mut bytes = file(&[(Kind::Nodes, vec![7; 4000])]);
        let header = &mut bytes[FILE_HEADER_BYTES..][..CHUNK_HEADER_BYTES];
        header[16..20].copy_from_slice(&claimed.to_le_bytes());
        let sum = crc32fast::hash(&header[..SUMMED]);
        header[SUMMED..].copy_from_slice(&sum.to_le_bytes());
        let mut reader = ChunkReader::open(Cursor::new(bytes)).unwrap();
        let Next::Chunk(header) = reader.next().unwrap() else {
            panic!("no chunk");
        };
        let damage = reader.payload(&header).unwrap().unwrap_err();
        assert!(
            damage.what.contains("frames: it does not unpack"),
            "{damage:?}"
        );
    }
}

#[test]
fn chunks_larger_than_the_limit_are_neither_written_nor_read() {
    assert!(
        Packer::new()
            .unwrap()
            .pack(Kind::Nodes, 0, &vec![0; MAX_CHUNK + 1])
            .is_err()
    );
    let mut bytes = file(&[(Kind::Nodes, vec![0; 4000])]);
    let header = &mut bytes[FILE_HEADER_BYTES..][..CHUNK_HEADER_BYTES];
    header[16..20].copy_from_slice(&(MAX_CHUNK as u32 + 1).to_le_bytes());
    let sum = crc32fast::hash(&header[..SUMMED]);
    header[SUMMED..].copy_from_slice(&sum.to_le_bytes());
    assert!(matches!(all(bytes)[..], [Next::Damage(_)]));
}
