//! What an event's data is worth: whether it is what was hashed.
//!
//! A log may carry beside a digest whatever its writer likes. For some types the digest is the hash of that data
//! (TCG PC Client Platform Firmware Profile, section 10.4.1); for others, programs or tables above all, the data only names
//! what was hashed, and nothing in the log can show that the name is right.

use super::{Event, EventType, bytes::Reader};
use predict::rtmr3::DstackForm;
use registers::Digest48;

/// How an event's data stands to its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It hashes to the digest: where the registers match, this is what was measured.
    Data,
    /// A part of it does, without the name: a variable's contents, a GRUB command without the word before it.
    Value,
    /// It is of a type whose data is not hashed: a name that somebody gave to the digest.
    Label,
    /// It is of a type whose data is hashed, and it hashes to something else: a mistake or a lie.
    Differs,
    /// The log leaves it out.
    Absent,
}

impl Event {
    /// Compares the data with the digest.
    pub fn claim(&self) -> Claim {
        let Some(data) = self.data.as_deref() else {
            return match self.name {
                Some(_) => Claim::Label,
                None => Claim::Absent,
            };
        };
        let is_digest_of = |bytes: &[u8]| Digest48::of(bytes) == self.digest;
        let kind = self.kind.unwrap_or(EventType::NO_ACTION);
        if kind == EventType::DSTACK_RUNTIME {
            return self.dstack_claim(data);
        }
        if kind == EventType::NO_ACTION {
            return Claim::Label;
        }
        if is_digest_of(data) {
            return Claim::Data;
        }
        match kind {
            // After an error, the digest is that of the number 1 and the data says which error (section 10.4.1).
            EventType::SEPARATOR if is_digest_of(&[1, 0, 0, 0]) => Claim::Label,
            EventType::SEPARATOR
            | EventType::ACTION
            | EventType::EFI_ACTION
            | EventType::CRTM_VERSION
            | EventType::OMIT_BOOT_DEVICE_EVENTS
            | EventType::VARIABLE_DRIVER_CONFIG
            | EventType::VARIABLE_AUTHORITY
            | EventType::VARIABLE_BOOT2
            | EventType::GPT
            | EventType::GPT2 => Claim::Differs,
            // Firmware may hash the contents alone, and edk2 does.
            EventType::VARIABLE_BOOT => match variable_contents(data) {
                Some(contents) if is_digest_of(contents) => Claim::Value,
                _ => Claim::Differs,
            },
            EventType::IPL if is_digest_of(without_zero(data)) => Claim::Data,
            EventType::IPL if after_grubs_word(data).is_some_and(is_digest_of) => Claim::Value,
            // The rest names what was hashed: programs, tables, files; Linux's tags too, whatever the profile says.
            _ => Claim::Label,
        }
    }

    /// dstack, `cc-eventlog`, the two ways to hash a runtime event. Where the event does not say which, either will do: both
    /// cover name and payload.
    fn dstack_claim(&self, payload: &[u8]) -> Claim {
        let name = self.name.as_deref().unwrap_or_default();
        let holds = |form: DstackForm| form.digest(name, payload) == self.digest;
        match self.dstack_version {
            None | Some(2) if holds(DstackForm::Second) => Claim::Data,
            // The first way puts nothing but a colon between name and payload. With another in the name, the same digest
            // is that of a shorter name and a longer payload.
            None | Some(1) if holds(DstackForm::First) => match name.contains(':') {
                true => Claim::Label,
                false => Claim::Data,
            },
            None | Some(1 | 2) => Claim::Differs,
            Some(_) => Claim::Label,
        }
    }
}

/// The contents in a UEFI_VARIABLE_DATA (section 10.2.6): GUID, length of the name in characters, length of the contents,
/// name, contents.
fn variable_contents(data: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(data);
    reader.take(16)?;
    let (characters, bytes) = (reader.u64()?, reader.u64()?);
    reader.take_u64(characters.checked_mul(2)?)?;
    let contents = reader.take_u64(bytes)?;
    reader.end()?;
    Some(contents)
}

/// GRUB logs texts with a final zero that it does not hash.
fn without_zero(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\0").unwrap_or(data)
}

/// What GRUB hashes of a text that it logs (GRUB, `grub_tpm_verify_string`): not the word that it puts before.
fn after_grubs_word(data: &[u8]) -> Option<&[u8]> {
    let words: [&[u8]; 3] = [b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: "];
    words
        .iter()
        .find_map(|word| without_zero(data).strip_prefix(*word))
}
