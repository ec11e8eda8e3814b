//! The messages of pprof's `profile.proto`, as far as they are written here.
//!
//! Field numbers and meanings follow `proto/profile.proto` of github.com/google/pprof. Strings are
//! indices into [`Profile::string_table`], whose first entry is empty.

/// A profile, the outermost message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Profile {
    /// What [`Sample::value`] holds.
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    /// Stacks with their values.
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    /// Object files. The first is taken for the main program.
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    /// Addresses.
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    /// All strings.
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    /// Nanoseconds since 1970 at which the recording began.
    #[prost(int64, tag = "9")]
    pub(super) time_nanos: i64,
    /// Length of the recording in nanoseconds.
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
    /// What is between two samples.
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    /// How much of it.
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
    /// Text for people.
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    /// The [`ValueType::kind`] to be shown at first.
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

/// A quantity and its unit.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct ValueType {
    /// The quantity, such as `cpu`.
    #[prost(int64, tag = "1")]
    pub(super) kind: i64,
    /// The unit, such as `nanoseconds`.
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

/// A stack and what it weighs.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sample {
    /// The stack, leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    /// One value for each [`Profile::sample_type`].
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    /// What else is known.
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
}

/// A name with a text or a number.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Label {
    /// The name.
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    /// The text, or 0.
    #[prost(int64, tag = "2")]
    pub(super) text: i64,
    /// The number.
    #[prost(int64, tag = "3")]
    pub(super) number: i64,
    /// The number's unit. Without one, readers take it for a quantity of their own choosing.
    #[prost(int64, tag = "4")]
    pub(super) number_unit: i64,
}

/// An object file.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Mapping {
    /// Its number, not 0.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// The lowest address.
    #[prost(uint64, tag = "2")]
    pub(super) memory_start: u64,
    /// The address after the highest.
    #[prost(uint64, tag = "3")]
    pub(super) memory_limit: u64,
    /// Path, or a name in brackets.
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    /// Build ID in hexadecimal digits.
    #[prost(int64, tag = "6")]
    pub(super) build_id: i64,
    /// Whether names have been looked up: readers then do not do it again.
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
    /// The same of file names.
    #[prost(bool, tag = "8")]
    pub(super) has_filenames: bool,
    /// The same of lines.
    #[prost(bool, tag = "9")]
    pub(super) has_line_numbers: bool,
    /// The same of inlined functions.
    #[prost(bool, tag = "10")]
    pub(super) has_inline_frames: bool,
}

/// An address.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Location {
    /// Its number, not 0.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// [`Mapping::id`], or 0.
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    /// The address, in the mapping's range.
    #[prost(uint64, tag = "3")]
    pub(super) address: u64,
    /// The functions there: the innermost first, the last is not inlined.
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

/// A place in a function.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Line {
    /// [`Function::id`].
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    /// The line, or 0.
    #[prost(int64, tag = "2")]
    pub(super) line: i64,
}

/// A function. The name that the linker has for it (field 3) is left out: where it is the same as
/// the name, pprof takes the name for a mangled one and cuts its parameters off.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Function {
    /// Its number, not 0.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// Its name.
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    /// Its source file.
    #[prost(int64, tag = "4")]
    pub(super) filename: i64,
}
