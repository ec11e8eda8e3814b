//! Telling whether an address can be a return address, by the bytes before it.

use super::walk::UserCode;

/// Bytes of the longest call instruction, without the prefixes that may come before it.
pub const CALL_BYTES: usize = 7;

/// Whether the bytes before an address end in a near call of x86-64: relative (`E8`), or through a
/// register or memory (`FF /2`), with whatever prefixes. Bytes that are no instruction at all can
/// look like one, so a yes is no proof; a no is one, given at least [`CALL_BYTES`] bytes.
#[must_use]
pub fn can_be_call(bytes_before: &[u8]) -> bool {
    is_relative(bytes_before) || (2..=CALL_BYTES).any(|len| is_indirect(bytes_before, len))
}

/// Whether the bytes before `address` can be a call instruction, so that it can be a return
/// address; `None` if they are not known.
pub(super) fn follows_call(code: &mut impl UserCode, address: u64) -> Option<bool> {
    let mut buffer = [0; CALL_BYTES];
    let before = address.checked_sub(CALL_BYTES as u64)?;
    if code.code_bytes(before, &mut buffer) == CALL_BYTES {
        return Some(can_be_call(&buffer));
    }
    // At the start of a mapping there are less, and then a no is no proof.
    (2..CALL_BYTES).rev().find_map(|len| {
        let bytes = buffer.get_mut(..len)?;
        let known = code.code_bytes(address.checked_sub(len as u64)?, bytes) == len;
        (known && can_be_call(bytes)).then_some(true)
    })
}

fn is_relative(bytes: &[u8]) -> bool {
    matches!(bytes, [.., 0xe8, _, _, _, _])
}

/// Whether the last `len` bytes are an indirect call of exactly that length.
fn is_indirect(bytes: &[u8], len: usize) -> bool {
    let Some([0xff, mod_rm, operand @ ..]) =
        bytes.len().checked_sub(len).and_then(|at| bytes.get(at..))
    else {
        return false;
    };
    const CALL: u8 = 2;
    if (mod_rm >> 3) & 7 != CALL {
        return false;
    }
    let (mode, register) = (mod_rm >> 6, mod_rm & 7);
    let has_sib = mode != 3 && register == 4;
    // Without a displacement in the mode, a base of 5 stands for one of 32 bits.
    let base = match operand {
        [sib, ..] if has_sib => sib & 7,
        _ => register,
    };
    let displacement = match mode {
        0 if base == 5 => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    operand.len() == usize::from(has_sib) + displacement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_recognised() {
        // As GNU as 2.40 encodes them.
        let calls: [(&str, &[u8]); 14] = [
            ("call .+0x12345678", &[0xe8, 0x73, 0x56, 0x34, 0x12]),
            (
                "data16 data16 rex.W call __tls_get_addr",
                &[0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0],
            ),
            ("call *%rax", &[0xff, 0xd0]),
            ("call *%r11", &[0x41, 0xff, 0xd3]),
            ("notrack call *%rax", &[0x3e, 0xff, 0xd0]),
            ("call *(%rax)", &[0xff, 0x10]),
            ("call *(%rsp)", &[0xff, 0x14, 0x24]),
            ("call *8(%rax)", &[0xff, 0x50, 8]),
            ("call *8(%rsp)", &[0xff, 0x54, 0x24, 8]),
            ("call *0x200(%rax)", &[0xff, 0x90, 0, 2, 0, 0]),
            ("call *0x200(%rsp)", &[0xff, 0x94, 0x24, 0, 2, 0, 0]),
            ("call *0x2fe2(%rip)", &[0xff, 0x15, 0xe2, 0x2f, 0, 0]),
            (
                "call *table(,%rax,8)",
                &[0xff, 0x14, 0xc5, 0, 0x40, 0x40, 0],
            ),
            (
                "call *%gs:8(,%r12,8)",
                &[0x65, 0x42, 0xff, 0x14, 0xe5, 8, 0, 0, 0],
            ),
        ];
        for (text, bytes) in calls {
            assert!(can_be_call(bytes), "{text}");
            let mut behind_other_code = vec![0x90; 8];
            behind_other_code.extend(bytes);
            assert!(can_be_call(&behind_other_code), "{text}");
            // One byte further the call no longer ends at the address.
            let mut further = bytes.to_vec();
            further.push(0x90);
            assert!(!can_be_call(&further), "{text}, nop");
        }
    }

    #[test]
    fn other_instructions_are_not() {
        let others: [(&str, &[u8]); 8] = [
            ("jmp .+5", &[0xe9, 0, 0, 0, 0]),
            ("jmp *%rax", &[0xff, 0xe0]),
            ("push (%rax)", &[0xff, 0x30]),
            ("lcall *(%rax)", &[0xff, 0x18]),
            ("inc %eax", &[0xff, 0xc0]),
            ("call *8(%rax) cut short", &[0xff, 0x50]),
            ("ret", &[0xc3]),
            ("nothing", &[]),
        ];
        for (text, bytes) in others {
            assert!(!can_be_call(bytes), "{text}");
        }
    }
}
