//! Which file, and which address in it, an instruction pointer of a process belongs to.
//!
//! [`processes::Processes`] keeps the address spaces, driven by side-band records in the order of
//! time and by `/proc` for what was there before; [`objects::Objects`] keeps the files that are
//! mapped there. Both are bounded, and say why they have no answer where they have none. Nothing
//! is unwound or named here, and what ELF files hold is known to `elf`.

pub mod address_space;
pub mod mapped_file;
pub mod names;
pub mod object;
pub mod objects;
mod open;
pub mod proc_maps;
pub mod processes;
pub mod roots;
mod table;
mod vdso;

pub use open::Unavailable;
pub use vdso::read as vdso_bytes;
