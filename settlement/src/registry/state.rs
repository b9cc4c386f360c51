//! What a node says a registry is, read from the stacks of its get methods, and whether a client may rely on a worker by it.
//!
//! A node answers in numbers, so nothing here parses cells that a peer sent.

use super::{Ceilings, Change, Entry, RegistryKey, RegistryTerms, Revocable, ValueRefused};
use crate::{
    ChainId, Nano, StateError,
    limits::REGISTRY_ENDPOINT_BYTES_MAX,
    state::{Item, address},
    toncenter::StackItem,
};

/// A registry's state, as one node told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryState {
    /// Grows by one with each change.
    pub version: u64,
    /// The network's fee, in basis points.
    pub fee_bps: u16,
    /// The terms, with admin and guardian as they are now.
    pub terms: RegistryTerms,
    /// How many images, models and proxies are allowed.
    pub entries: u16,
    /// How many images, platforms and GPUs are revoked.
    pub revocations: u16,
    /// How many proposals there are.
    pub proposals: u16,
}

/// What a registry says of one image, platform, GPU and model, as one node told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryView {
    /// The network that it is for.
    pub chain: ChainId,
    /// Of which version this is.
    pub version: u64,
    /// The image's last moment, in Unix seconds, if it is allowed.
    pub image_not_after: Option<u32>,
    /// When the image was revoked.
    pub image_revoked_at: Option<u32>,
    /// When the platform was revoked.
    pub platform_revoked_at: Option<u32>,
    /// When the GPU was revoked.
    pub gpu_revoked_at: Option<u32>,
    /// What the model may cost, if it is allowed.
    pub ceilings: Option<Ceilings>,
}

/// Why no job goes to a worker, or none on a model. The provider is at fault, or the node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum RegistryRefused {
    #[error("it is for chain {got}, {want} is demanded")]
    Chain { got: ChainId, want: ChainId },
    #[error("the node shows version {got}; version {least} is configured or was seen before")]
    Old { got: u64, least: u64 },
    #[error("the worker's image was revoked at {0} (Unix seconds)")]
    ImageRevoked(u32),
    #[error("the worker's platform was revoked at {0} (Unix seconds)")]
    PlatformRevoked(u32),
    #[error("a GPU of the worker was revoked at {0} (Unix seconds)")]
    GpuRevoked(u32),
    #[error("the worker's image is not allowed")]
    ImageNotAllowed,
    #[error("the worker's image was allowed until {0} (Unix seconds)")]
    ImageEnded(u32),
    #[error("the worker's platform has a PPID of {0} bytes; 16 are expected")]
    Ppid(usize),
    #[error("the model is not allowed")]
    ModelNotAllowed,
    #[error(
        "a million {what} tokens cost {got} nanoTON; at most {most} are allowed for this model"
    )]
    Price {
        what: &'static str,
        got: Nano,
        most: Nano,
    },
}

/// What a registry lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Something that is allowed.
    Entry(Entry),
    /// Something that is revoked.
    Revocation {
        /// What.
        what: Revocable,
        /// When, in Unix seconds.
        at: u32,
        /// Why, as people number it.
        reason: u8,
    },
    /// Something that is proposed.
    Proposal {
        /// What.
        change: Change,
        /// When it can take effect, in Unix seconds.
        executable_at: u32,
    },
    /// What no reader takes for an entry: its value is out of form.
    Unreadable(ValueRefused),
}

/// One step of a walk through a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryItem {
    /// Of which version this is.
    pub version: u64,
    /// What comes next, and its key, from which the walk goes on; `None` at the end.
    pub next: Option<(RegistryKey, Listed)>,
}

impl RegistryState {
    /// The get method that answers the stack.
    pub const GET_METHOD: &'static str = "registry_state";

    /// Reads the stack of [`GET_METHOD`](Self::GET_METHOD).
    pub fn parse(stack: &[StackItem]) -> Result<RegistryState, StateError> {
        let stack = Stack::<13>::of(stack)?;
        Ok(RegistryState {
            version: stack.field(1, "version").u64()?,
            fee_bps: stack.u16(2, "fee")?,
            terms: RegistryTerms {
                chain: ChainId(stack.field(0, "chain").i32()?),
                admin: address(stack.field(3, "admin"), stack.field(4, "admin"))?,
                guardian: address(stack.field(5, "guardian"), stack.field(6, "guardian"))?,
                delay_s: stack.field(7, "delay").u32()?,
                open_until: stack.field(8, "end of opening").u32()?,
                salt: stack.field(9, "salt").u64()?,
            },
            entries: stack.u16(10, "number of entries")?,
            revocations: stack.u16(11, "number of revocations")?,
            proposals: stack.u16(12, "number of proposals")?,
        })
    }
}

impl RegistryView {
    /// The get method that answers the stack.
    pub const GET_METHOD: &'static str = "registry_check";

    /// What the get method is asked about; zeros where a GPU or a model is not in question.
    pub fn question(
        image: &[u8; 32],
        platform: &Revocable,
        gpu: &[u8; 32],
        model: &[u8; 32],
    ) -> [StackItem; 4] {
        [*image, platform.id(), *gpu, *model].map(StackItem::from_uint256)
    }

    /// Reads the stack of [`GET_METHOD`](Self::GET_METHOD).
    pub fn parse(stack: &[StackItem]) -> Result<RegistryView, StateError> {
        let stack = Stack::<11>::of(stack)?;
        let moment = |index, name| {
            stack
                .field(index, name)
                .u32()
                .map(|at| (at != 0).then_some(at))
        };
        let nano = |index, name| stack.field(index, name).u64().map(Nano);
        let ceilings = Ceilings {
            prompt: nano(7, "prompt ceiling")?,
            cached: nano(8, "cached ceiling")?,
            completion: nano(9, "completion ceiling")?,
            reasoning: nano(10, "reasoning ceiling")?,
        };
        Ok(RegistryView {
            chain: ChainId(stack.field(0, "chain").i32()?),
            version: stack.field(1, "version").u64()?,
            image_not_after: moment(2, "image's end")?,
            image_revoked_at: moment(3, "image's revocation")?,
            platform_revoked_at: moment(4, "platform's revocation")?,
            gpu_revoked_at: moment(5, "GPU's revocation")?,
            ceilings: stack.flag(6, "mark of a model")?.then_some(ceilings),
        })
    }

    /// Whether a worker is relied on, by a view of `chain` that is no older than `version_min`.
    pub fn admits(
        &self,
        chain: ChainId,
        version_min: u64,
        now_unix_s: u64,
    ) -> Result<(), RegistryRefused> {
        if self.chain != chain {
            let (got, want) = (self.chain, chain);
            return Err(RegistryRefused::Chain { got, want });
        }
        // A registry that has not opened has version 0, and no say.
        let least = version_min.max(1);
        if self.version < least {
            let got = self.version;
            return Err(RegistryRefused::Old { got, least });
        }
        let image = self.image_revoked_at.map(RegistryRefused::ImageRevoked);
        let platform = self
            .platform_revoked_at
            .map(RegistryRefused::PlatformRevoked);
        let gpu = self.gpu_revoked_at.map(RegistryRefused::GpuRevoked);
        if let Some(refused) = image.or(platform).or(gpu) {
            return Err(refused);
        }
        match self.image_not_after {
            None => Err(RegistryRefused::ImageNotAllowed),
            Some(last) if now_unix_s > last.into() => Err(RegistryRefused::ImageEnded(last)),
            Some(_) => Ok(()),
        }
    }

    /// Whether the model is allowed at these prices, in nanoTON for a million tokens. What a model thinks is charged as its completion
    /// is, so both ceilings hold for that price.
    pub fn admits_prices(
        &self,
        prompt: Nano,
        cached: Nano,
        completion: Nano,
    ) -> Result<(), RegistryRefused> {
        let ceilings = self.ceilings.ok_or(RegistryRefused::ModelNotAllowed)?;
        for (what, got, most) in [
            ("prompt", prompt, ceilings.prompt),
            ("cached", cached, ceilings.cached),
            ("completion", completion, ceilings.completion),
            ("reasoning", completion, ceilings.reasoning),
        ] {
            if got > most {
                return Err(RegistryRefused::Price { what, got, most });
            }
        }
        Ok(())
    }
}

impl RegistryItem {
    /// The get method that answers the stack.
    pub const GET_METHOD: &'static str = "registry_next";

    /// What the get method is asked: what comes after `key`, or first, among entries and revocations, or among proposals.
    pub fn question(proposals: bool, key: Option<&RegistryKey>) -> [StackItem; 3] {
        let (kind, id) = key.map_or((0, [0; 32]), |key| (key.kind, key.id));
        [
            StackItem::from_i64(proposals.into()),
            StackItem::from_i64(kind.into()),
            StackItem::from_uint256(id),
        ]
    }

    /// Reads the stack of [`GET_METHOD`](Self::GET_METHOD).
    pub fn parse(stack: &[StackItem]) -> Result<RegistryItem, StateError> {
        let stack = Stack::<9>::of(stack)?;
        let version = stack.field(0, "version").u64()?;
        if !stack.flag(1, "mark of an entry")? {
            let next = None;
            return Ok(RegistryItem { version, next });
        }
        let kind = stack.field(2, "kind").u64()?;
        let key = RegistryKey {
            kind: u8::try_from(kind).map_err(|_| StateError::Field("kind"))?,
            id: stack.field(3, "id").bytes()?,
        };
        let executable_at = stack.field(4, "time of execution").u32()?;
        let value = stack.value()?;
        let listed = Listed::of(key, executable_at, &value);
        let next = Some((key, listed.unwrap_or_else(Listed::Unreadable)));
        Ok(RegistryItem { version, next })
    }

    /// Refuses what does not come after `last`: a walk goes forward, so it ends.
    pub fn after(self, last: Option<&RegistryKey>) -> Result<RegistryItem, StateError> {
        match (&self.next, last) {
            (Some((key, _)), Some(last)) if key <= last => {
                Err(StateError::Field("order of entries"))
            }
            _ => Ok(self),
        }
    }
}

impl Listed {
    /// An entry is never executable: its moment is 0.
    fn of(key: RegistryKey, executable_at: u32, value: &[u8]) -> Result<Listed, ValueRefused> {
        if executable_at != 0 {
            let change = Change::parse(key, value)?;
            return Ok(Listed::Proposal {
                change,
                executable_at,
            });
        }
        let Some(what) = Revocable::of(key) else {
            return Ok(Listed::Entry(Entry::parse(key, value)?));
        };
        let [a, b, c, d, reason] = value else {
            let (kind, got) = (key.kind, value.len());
            return Err(ValueRefused::Bytes { kind, got });
        };
        Ok(Listed::Revocation {
            what,
            at: u32::from_be_bytes([*a, *b, *c, *d]),
            reason: *reason,
        })
    }
}

/// A stack of so many items.
struct Stack<'a, const N: usize>(&'a [StackItem; N]);

impl<'a, const N: usize> Stack<'a, N> {
    fn of(stack: &'a [StackItem]) -> Result<Self, StateError> {
        let wrong_count = StateError::Items {
            got: stack.len(),
            expected: N,
        };
        Ok(Stack(stack.try_into().map_err(|_| wrong_count)?))
    }

    fn field(&self, index: usize, name: &'static str) -> Item<'a> {
        let item = &self.0[index];
        Item { item, name }
    }

    fn u16(&self, index: usize, name: &'static str) -> Result<u16, StateError> {
        let number = self.field(index, name).u64()?;
        number.try_into().map_err(|_| StateError::Field(name))
    }

    fn flag(&self, index: usize, name: &'static str) -> Result<bool, StateError> {
        match self.field(index, name).u64()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(StateError::Field(name)),
        }
    }

    /// A value in three numbers, from the sixth item on: how many bytes, and they, 32 to a number.
    fn value(&self) -> Result<Vec<u8>, StateError> {
        const WRONG: StateError = StateError::Field("value");
        // The longest: a region and an endpoint.
        const BYTES_MAX: usize = 2 + REGISTRY_ENDPOINT_BYTES_MAX;
        let bytes = usize::from(self.u16(5, "value")?);
        if bytes > BYTES_MAX {
            return Err(WRONG);
        }
        let mut value = Vec::with_capacity(bytes);
        for index in 6..9 {
            let part = self.field(index, "value").bytes()?;
            let (zeros, digits) = part.split_at(32 - (bytes - value.len()).min(32));
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(WRONG);
            }
            value.extend_from_slice(digits);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn numbers(numbers: &[i64]) -> Vec<StackItem> {
        numbers.iter().map(|n| StackItem::from_i64(*n)).collect()
    }

    fn view() -> RegistryView {
        let end = NOW as i64;
        RegistryView::parse(&numbers(&[20241, 7, end, 0, 0, 0, 1, 10, 5, 20, 30])).expect("a view")
    }

    #[test]
    fn a_worker_is_admitted_by_a_view_that_allows_its_image_and_revokes_nothing() {
        let check = |change: &dyn Fn(&mut RegistryView), expected: Result<(), RegistryRefused>| {
            let mut view = view();
            change(&mut view);
            assert_eq!(view.admits(ChainId::EMBEDDED, 7, NOW), expected);
        };
        use RegistryRefused::*;
        check(&|_| (), Ok(()));
        check(&|v| v.version = 8, Ok(()));
        check(&|v| v.version = 6, Err(Old { got: 6, least: 7 }));
        check(&|v| v.image_not_after = None, Err(ImageNotAllowed));
        let ended = NOW as u32 - 1;
        check(&|v| v.image_not_after = Some(ended), Err(ImageEnded(ended)));
        check(&|v| v.image_revoked_at = Some(5), Err(ImageRevoked(5)));
        check(
            &|v| v.platform_revoked_at = Some(5),
            Err(PlatformRevoked(5)),
        );
        check(&|v| v.gpu_revoked_at = Some(5), Err(GpuRevoked(5)));
        let (got, want) = (ChainId::TESTNET, ChainId::EMBEDDED);
        check(&|v| v.chain = got, Err(Chain { got, want }));
        let unopened = RegistryView {
            version: 0,
            ..view()
        };
        let refused = unopened.admits(ChainId::EMBEDDED, 0, NOW);
        assert_eq!(refused, Err(Old { got: 0, least: 1 }));
    }

    #[test]
    fn each_price_has_its_ceiling_and_a_model_without_any_is_refused() {
        let check = |prices: [u64; 3], expected: Result<(), RegistryRefused>| {
            let [prompt, cached, completion] = prices.map(Nano);
            assert_eq!(view().admits_prices(prompt, cached, completion), expected);
        };
        let above = |what, got, most| {
            let (got, most) = (Nano(got), Nano(most));
            Err(RegistryRefused::Price { what, got, most })
        };
        check([10, 5, 20], Ok(()));
        check([11, 5, 20], above("prompt", 11, 10));
        check([10, 6, 20], above("cached", 6, 5));
        check([10, 5, 21], above("completion", 21, 20));
        let thinks = numbers(&[20241, 7, 9, 0, 0, 0, 1, 10, 5, 20, 19]);
        let thinks = RegistryView::parse(&thinks).expect("a view");
        let refused = thinks.admits_prices(Nano(10), Nano(5), Nano(20));
        assert_eq!(refused, above("reasoning", 20, 19));
        let unlisted = numbers(&[20241, 7, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        let unlisted = RegistryView::parse(&unlisted).expect("a view");
        let refused = unlisted.admits_prices(Nano(0), Nano(0), Nano(0));
        assert_eq!(refused, Err(RegistryRefused::ModelNotAllowed));
    }

    fn item(kind: i64, executable_at: i64, value: &[u8]) -> Vec<StackItem> {
        let head = numbers(&[7, 1, kind, 5, executable_at, value.len() as i64]);
        let parts = (0..3).map(|n| {
            let part = value.get(32 * n..).unwrap_or_default();
            let part = &part[..part.len().min(32)];
            let mut number = [0; 32];
            number[32 - part.len()..].copy_from_slice(part);
            StackItem::from_uint256(number)
        });
        head.into_iter().chain(parts).collect()
    }

    fn listed(kind: i64, executable_at: i64, value: &[u8]) -> Listed {
        let stack = item(kind, executable_at, value);
        let item = RegistryItem::parse(&stack).expect("an item");
        item.next.expect("an entry").1
    }

    #[test]
    fn every_kind_of_entry_and_proposal_is_read_as_it_is_written() {
        let mut id = [0; 32];
        id[31] = 5;
        let ceilings = Ceilings {
            prompt: Nano(1),
            cached: Nano(0),
            completion: Nano(u64::MAX),
            reasoning: Nano(4),
        };
        let (image, model) = (
            Entry::Image {
                digest: id,
                not_after: 9,
            },
            Entry::Model { root: id, ceilings },
        );
        let endpoint = "h".repeat(crate::limits::REGISTRY_ENDPOINT_BYTES_MAX);
        let proxy = Entry::Proxy {
            key: id,
            region: *b"DE",
            endpoint,
        };
        for entry in [image, model, proxy] {
            let change = Change::Allow(entry.clone());
            let kind = change.key().kind.into();
            assert_eq!(listed(kind, 0, &change.value()), Listed::Entry(entry));
            let proposal = listed(kind, 8, &change.value());
            let executable_at = 8;
            assert_eq!(
                proposal,
                Listed::Proposal {
                    change,
                    executable_at
                }
            );
        }
        let what = Revocable::Platform(id);
        let (at, reason) = (1, 2);
        let revoked = Listed::Revocation { what, at, reason };
        assert_eq!(listed(5, 0, &[0, 0, 0, 1, 2]), revoked);
    }

    #[test]
    fn values_out_of_form_are_said_to_be_unreadable_and_end_no_walk() {
        let check = |kind, executable_at, value: &[u8], expected: ValueRefused| {
            let unreadable = Listed::Unreadable(expected);
            assert_eq!(listed(kind, executable_at, value), unreadable);
        };
        let bytes = |kind, got| ValueRefused::Bytes { kind, got };
        check(1, 0, &[0; 5], bytes(1, 5));
        check(2, 0, &[0; 31], bytes(2, 31));
        check(3, 0, b"D", bytes(3, 1));
        check(3, 0, b"DE", ValueRefused::Endpoint);
        check(3, 0, b"dehttp://a", ValueRefused::Region);
        check(3, 0, b"DEa\x1b[0m", ValueRefused::Endpoint);
        check(3, 0, b"DE\xff", ValueRefused::Endpoint);
        check(4, 0, &[0; 4], bytes(4, 4));
        check(4, 9, &[0], bytes(4, 1));
        check(11, 0, &[], ValueRefused::Kind(11));
        check(7, 9, &[0, 1], ValueRefused::Id);
    }

    #[test]
    fn a_walk_goes_forward_and_values_fill_their_bytes() {
        let stack = item(1, 0, &[0; 4]);
        let (key, _) = { RegistryItem::parse(&stack).expect("an item") }
            .next
            .expect("an entry");
        let again = { RegistryItem::parse(&stack).expect("an item") }.after(Some(&key));
        assert_eq!(again, Err(StateError::Field("order of entries")));
        let wrong = |index: usize, value: i64, name| {
            let mut stack = stack.clone();
            stack[index] = StackItem::from_i64(value);
            let read = RegistryItem::parse(&stack);
            assert_eq!(read, Err(StateError::Field(name)));
        };
        wrong(1, 2, "mark of an entry");
        wrong(2, 256, "kind");
        wrong(3, -1, "id");
        wrong(5, 77, "value");
        wrong(6, 1 << 32, "value");
        wrong(7, 1, "value");
        let end = numbers(&[7, 0, 0, 0, 0, 0, 0, 0, 0]);
        let end = RegistryItem::parse(&end).expect("an end");
        assert_eq!((end.version, end.next), (7, None));
    }

    #[test]
    fn a_state_is_read_and_nearby_stacks_are_refused() {
        let good = [20241, 3, 25, 0, 5, 0, 6, 86_400, 9, 1, 2, 3, 4];
        let state = RegistryState::parse(&numbers(&good)).expect("a state");
        assert_eq!((state.version, state.fee_bps, state.proposals), (3, 25, 4));
        for (index, value) in [(1, -1), (2, 65_536), (3, 1), (7, 1 << 32), (10, 1 << 16)] {
            let mut changed = good;
            changed[index] = value;
            assert!(RegistryState::parse(&numbers(&changed)).is_err(), "{index}");
        }
        assert!(RegistryState::parse(&numbers(&good[1..])).is_err());
    }
}
