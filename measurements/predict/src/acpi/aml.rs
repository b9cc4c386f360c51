//! A writer of ACPI machine language: each function makes the bytes of one term, and a term's parts are its arguments.
//!
//! ACPI 6.5, section 20.2, is the grammar. Where it leaves a choice (the width of an integer, the length of a package
//! length) this takes the shortest, as QEMU does. Nothing here comes from outside, so nothing here fails.

/// The bytes of one or more terms.
pub type Aml = Vec<u8>;

/// Terms, one after another.
pub fn terms(parts: impl IntoIterator<Item = Aml>) -> Aml {
    parts.into_iter().flatten().collect()
}

/// A constant, as short as it can be.
pub fn int(value: u64) -> Aml {
    let bytes = value.to_le_bytes();
    let (prefix, width) = match value {
        0 | 1 => return vec![bytes[0]],
        0..=0xff => (0x0a, 1),
        0x100..=0xffff => (0x0b, 2),
        0x1_0000..=0xffff_ffff => (0x0c, 4),
        _ => (0x0e, 8),
    };
    [&[prefix], &bytes[..width]].concat()
}

/// The missing target of an operation.
pub fn none() -> Aml {
    vec![0]
}

/// Text, with its final zero.
pub fn string(text: &str) -> Aml {
    [b"\x0d", text.as_bytes(), b"\0"].concat()
}

/// Bytes.
pub fn buffer(bytes: &[u8]) -> Aml {
    package_of(&[0x11], [int(bytes.len() as u64), bytes.to_vec()])
}

/// Elements.
pub fn package(elements: impl IntoIterator<Item = Aml>) -> Aml {
    let elements: Vec<Aml> = elements.into_iter().collect();
    package_with_room(elements.len() as u8, elements)
}

/// Elements, and room for as many.
pub fn package_with_room(room: u8, elements: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0x12], [vec![room], terms(elements)])
}

/// A 128-bit name, in the mixed order of ACPI 6.5, table 19.36.
pub fn uuid(text: &str) -> Aml {
    let digits = text.bytes().filter_map(|digit| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    buffer(&order.map(|at| bytes[at]))
}

/// A name of three letters and four hexadecimal digits, in the 32 bits of ACPI 6.5, section 19.3.4.
pub fn eisa(name: &str) -> Aml {
    let (letters, product) = name.split_at(3);
    let vendor = letters
        .bytes()
        .fold(0, |sum: u32, letter| sum << 5 | u32::from(letter - 0x40));
    let product = u32::from_str_radix(product, 16).unwrap_or_default();
    int((vendor << 16 | product).swap_bytes().into())
}

/// A reference to an object; also a call without arguments.
pub fn path(name: &str) -> Aml {
    let segments = name.trim_start_matches(['\\', '^']);
    let mut bytes = name.as_bytes()[..name.len() - segments.len()].to_vec();
    let segments: Vec<&str> = segments
        .split('.')
        .filter(|segment| !segment.is_empty())
        .collect();
    match segments.len() {
        0 => bytes.push(0),
        1 => {}
        2 => bytes.push(0x2e),
        count => bytes.extend([0x2f, count as u8]),
    }
    for segment in segments {
        bytes.extend(segment.bytes().chain(*b"____").take(4));
    }
    bytes
}

/// A call.
pub fn call(method: &str, arguments: impl IntoIterator<Item = Aml>) -> Aml {
    [path(method), terms(arguments)].concat()
}

/// An argument of the method.
pub fn arg(index: u8) -> Aml {
    vec![0x68 + index]
}

/// A variable of the method.
pub fn local(index: u8) -> Aml {
    vec![0x60 + index]
}

/// Where messages for a debugger go.
pub fn debug() -> Aml {
    vec![0x5b, 0x31]
}

/// Gives a value a name.
pub fn name(of: &str, value: Aml) -> Aml {
    [vec![0x08], path(of), value].concat()
}

/// What lies below an object.
pub fn scope(of: &str, body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0x10], [path(of), terms(body)])
}

/// A device.
pub fn device(of: &str, body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0x5b, 0x82], [path(of), terms(body)])
}

/// A processor without registers of its own.
pub fn processor(of: &str, id: u8, body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(
        &[0x5b, 0x83],
        [path(of), vec![id, 0, 0, 0, 0, 0], terms(body)],
    )
}

/// A method.
pub fn method(of: &str, arguments: u8, body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0x14], [path(of), vec![arguments], terms(body)])
}

/// A method that runs once at a time.
pub fn serialized(of: &str, arguments: u8, body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0x14], [path(of), vec![arguments | 8], terms(body)])
}

/// A lock.
pub fn mutex(of: &str) -> Aml {
    [vec![0x5b, 0x01], path(of), vec![0]].concat()
}

/// Waits for a lock, for as long as it takes.
pub fn acquire(of: &str) -> Aml {
    [vec![0x5b, 0x23], path(of), vec![0xff, 0xff]].concat()
}

/// Gives a lock back.
pub fn release(of: &str) -> Aml {
    [vec![0x5b, 0x27], path(of)].concat()
}

/// What an address is an address of.
#[derive(Clone, Copy, Debug)]
pub enum Space {
    /// Memory.
    Memory = 0,
    /// Ports.
    Io = 1,
    /// The configuration of the PCI device around it.
    PciConfig = 2,
}

/// Registers.
pub fn region(of: &str, space: Space, start: Aml, bytes: u64) -> Aml {
    [
        vec![0x5b, 0x80],
        path(of),
        vec![space as u8],
        start,
        int(bytes),
    ]
    .concat()
}

/// How a field is read: as wide as the interpreter likes.
pub const ANY: u8 = 0;
/// How a field is read: in bytes.
pub const BYTES: u8 = 1;
/// How a field is read: in double words.
pub const DWORDS: u8 = 3;
/// A field that is read and written under the global lock.
pub const LOCK: u8 = 0x10;
/// A field whose neighbours are written as zeros. Otherwise they keep what they hold.
pub const ZEROS: u8 = 0x40;

/// Names for the bits of a region; an empty name skips bits.
pub fn field(of: &str, flags: u8, units: &[(&str, u8)]) -> Aml {
    let units = units.iter().flat_map(|(name, bits)| {
        let name = if name.is_empty() { vec![0] } else { path(name) };
        // All have fewer than 63 bits, so a length of one byte holds them.
        [name, vec![*bits]].concat()
    });
    package_of(&[0x5b, 0x81], [path(of), vec![flags], units.collect()])
}

/// A name for four bytes of a buffer.
pub fn create_dword_field(of: Aml, offset: u64, name: &str) -> Aml {
    [vec![0x8a], of, int(offset), path(name)].concat()
}

/// Runs the body if the condition holds.
pub fn when(condition: Aml, body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0xa0], [condition, terms(body)])
}

/// Runs the body if the condition before it did not hold.
pub fn otherwise(body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0xa1], [terms(body)])
}

/// Runs the body while the condition holds.
pub fn repeat(condition: Aml, body: impl IntoIterator<Item = Aml>) -> Aml {
    package_of(&[0xa2], [condition, terms(body)])
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($($part:ident),*) = $code:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name($($part: Aml),*) -> Aml {
            terms([vec![$code] $(, $part)*])
        }
    )*};
}

operations! {
    /// Copies a value.
    store(value, target) = 0x70;
    /// Sum.
    add(left, right, target) = 0x72;
    /// Difference.
    subtract(left, right, target) = 0x74;
    /// Adds one.
    increment(target) = 0x75;
    /// Moves bits up.
    shift_left(value, by, target) = 0x79;
    /// Moves bits down.
    shift_right(value, by, target) = 0x7a;
    /// Common bits.
    and(left, right, target) = 0x7b;
    /// All bits.
    or(left, right, target) = 0x7d;
    /// The object that a reference or an index names.
    deref(of) = 0x83;
    /// Tells the system that something happened to an object.
    notify(object, value) = 0x86;
    /// Elements or bytes.
    size_of(object) = 0x87;
    /// An element.
    index(of, at, target) = 0x88;
    /// Both are true.
    both(left, right) = 0x90;
    /// One is true.
    either(left, right) = 0x91;
    /// It is false.
    not(value) = 0x92;
    /// They are the same.
    equal(left, right) = 0x93;
    /// The first is more.
    greater(left, right) = 0x94;
    /// The first is less.
    less(left, right) = 0x95;
    /// As bytes.
    to_buffer(value, target) = 0x96;
    /// As text.
    to_hex_string(value, target) = 0x98;
    /// Ends the method with a value.
    ret(value) = 0xa4;
    /// Ends the loop.
    leave() = 0xa5;
}

/// A term whose length stands after its code: ACPI 6.5, section 20.2.4.
fn package_of<const PARTS: usize>(code: &[u8], parts: [Aml; PARTS]) -> Aml {
    let content = parts.concat();
    let length = match content.len() {
        // The length counts its own bytes; the first of several holds the low four bits.
        ..0x3f => vec![content.len() as u8 + 1],
        0x3f..0xffe => long_length(content.len() + 2, 1),
        0xffe..0xf_fffd => long_length(content.len() + 3, 2),
        _ => long_length(content.len() + 4, 3),
    };
    [code, &length, &content].concat()
}

fn long_length(length: usize, more_bytes: u8) -> Vec<u8> {
    let first = more_bytes << 6 | (length & 0xf) as u8;
    let more = (0..more_bytes).map(|index| (length >> (4 + 8 * u32::from(index))) as u8);
    std::iter::once(first).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(term: Aml, expected: &[u8]) {
        assert_eq!(term, expected);
    }

    #[test]
    fn integers_are_as_short_as_they_can_be() {
        check(int(0), &[0x00]);
        check(int(1), &[0x01]);
        check(int(2), &[0x0a, 2]);
        check(int(0xff), &[0x0a, 0xff]);
        check(int(0x100), &[0x0b, 0, 1]);
        check(int(0x1_0000), &[0x0c, 0, 0, 1, 0]);
        check(int(1 << 32), &[0x0e, 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn names_are_filled_up_and_counted() {
        check(path("\\"), b"\\\0");
        check(path("DBG"), b"DBG_");
        check(path("_SB.PCI0"), b"\x2e_SB_PCI0");
        check(path("^S18.PCNT"), b"^\x2eS18_PCNT");
        check(path("\\_SB.PCI0.PRES"), b"\\\x2f\x03_SB_PCI0PRES");
    }

    #[test]
    fn a_length_counts_itself_and_grows_by_bytes() {
        let length = |content: usize| {
            let term = package_of(&[0x10], [vec![0xee; content]]);
            term[1..term.len() - content].to_vec()
        };
        check(length(0), &[1]);
        check(length(62), &[63]);
        check(length(63), &[0x41, 4]);
        check(length(4093), &[0x4f, 0xff]);
        check(length(4094), &[0x81, 0, 1]);
        check(length(0xf_fffc), &[0x8f, 0xff, 0xff]);
        check(length(0xf_fffd), &[0xc1, 0, 0, 1]);
    }

    /// A PCI bus, and the bytes of a UUID numbered by their places.
    #[test]
    fn names_of_vendors_and_functions_are_in_their_mixed_orders() {
        check(eisa("PNP0A03"), &[0x0c, 0x41, 0xd0, 0x0a, 0x03]);
        let bytes = "33221100554477668899aabbccddeeff";
        let expected = buffer(&hex::decode(bytes).unwrap());
        check(uuid("00112233-4455-6677-8899-aabbccddeeff"), &expected);
    }
}
