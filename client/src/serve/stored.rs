//! Responses that an application may ask for again, continue or delete. They are in this program's memory and nowhere
//! else: no worker keeps a conversation, and none is written to disk. Whoever shows another key finds none of them.

use crate::ask::Turn;
use crate::budget::Spender;
use crate::limits::{RESPONSES_BYTES_MAX, RESPONSES_MAX, RESPONSES_TIME};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The responses of all applications.
#[derive(Default)]
pub(crate) struct Stored(Mutex<HashMap<String, Entry>>);

struct Entry {
    spender: Spender,
    at: Instant,
    bytes: usize,
    object: Value,
    turns: Vec<Turn>,
}

/// Where an answer will be kept, with the conversation that it answers.
pub(crate) struct Place {
    stored: Arc<Stored>,
    spender: Spender,
    turns: Vec<Turn>,
}

impl Stored {
    /// A place for the answer to this conversation.
    pub(crate) fn place(self: &Arc<Self>, spender: &Spender, turns: Vec<Turn>) -> Place {
        Place {
            stored: Arc::clone(self),
            spender: spender.clone(),
            turns,
        }
    }

    /// The object as it was given.
    pub(crate) fn object(&self, id: &str, spender: &Spender) -> Option<Value> {
        let kept = self.lock();
        let entry = kept.get(id).filter(|entry| entry.is_for(spender));
        entry.map(|entry| entry.object.clone())
    }

    /// An item of a response's output. Its id names the job, as its response's does, and its place.
    pub(crate) fn item(&self, id: &str, spender: &Spender) -> Option<Value> {
        let (job, _) = id.split_once('_')?.1.rsplit_once('_')?;
        let object = self.object(&format!("resp_{job}"), spender)?;
        let items = object["output"].as_array()?;
        items.iter().find(|item| item["id"] == id).cloned()
    }

    /// The conversation up to and with this answer.
    pub(crate) fn turns(&self, id: &str, spender: &Spender) -> Option<Vec<Turn>> {
        let kept = self.lock();
        let entry = kept.get(id).filter(|entry| entry.is_for(spender));
        entry.map(|entry| entry.turns.clone())
    }

    /// Forgets a response. False where there is none.
    pub(crate) fn delete(&self, id: &str, spender: &Spender) -> bool {
        let mut kept = self.lock();
        let there = kept.get(id).is_some_and(|entry| entry.is_for(spender));
        there && kept.remove(id).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Each change is one call: the map is whole, whoever panicked.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, entry| entry.at.elapsed() < RESPONSES_TIME);
        kept
    }
}

impl Entry {
    fn is_for(&self, spender: &Spender) -> bool {
        self.spender == *spender
    }
}

impl Place {
    /// Keeps an answer by the id that its object has.
    pub(crate) fn keep(self, object: &Value, answer: Turn) {
        let Some(id) = object["id"].as_str() else {
            return;
        };
        let mut turns = self.turns;
        turns.push(answer);
        let bytes = object.to_string().len() + turns.iter().map(bytes).sum::<usize>();
        let mut kept = self.stored.lock();
        make_space(&mut kept, bytes);
        let entry = Entry {
            spender: self.spender,
            at: Instant::now(),
            bytes,
            object: object.clone(),
            turns,
        };
        kept.insert(id.to_owned(), entry);
    }
}

/// Drops the oldest until one more of so many bytes fits.
fn make_space(kept: &mut HashMap<String, Entry>, bytes: usize) {
    loop {
        let held: usize = kept.values().map(|entry| entry.bytes).sum();
        if kept.len() < RESPONSES_MAX && held.saturating_add(bytes) <= RESPONSES_BYTES_MAX {
            return;
        }
        let oldest = kept.iter().min_by_key(|(_, entry)| entry.at);
        let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
            return;
        };
        kept.remove(&oldest);
    }
}

fn bytes(turn: &Turn) -> usize {
    let texts = [&turn.reasoning, &turn.answers, &turn.name];
    let texts = texts.into_iter().flatten().map(String::len);
    let calls = turn.calls.iter().map(|call| {
        let arguments = serde_json::to_string(&call.arguments);
        call.id.len() + call.name.len() + arguments.map_or(0, |text| text.len())
    });
    size_of::<Turn>() + turn.content.len() + texts.chain(calls).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Role;
    use serde_json::json;

    fn keep(stored: &Arc<Stored>, id: &str, spender: &str, content: &str) {
        let question = vec![Turn::says(Role::User, content)];
        let place = stored.place(&Spender::named(spender), question);
        place.keep(&json!({"id": id}), Turn::says(Role::Assistant, "yes"));
    }

    #[test]
    fn a_response_is_for_the_key_that_asked_for_it() {
        let stored = Arc::new(Stored::default());
        keep(&stored, "a", "one", "why");
        let (one, two) = (Spender::named("one"), Spender::named("two"));
        assert_eq!(stored.object("a", &one), Some(json!({"id": "a"})));
        let turns = stored.turns("a", &one).unwrap();
        assert_eq!((turns.len(), turns[1].content.as_str()), (2, "yes"));
        assert!(stored.object("a", &two).is_none() && stored.turns("a", &two).is_none());
        assert!(!stored.delete("a", &two) && stored.delete("a", &one));
        assert!(stored.object("a", &one).is_none());
    }

    #[test]
    fn number_and_bytes_are_bounded_and_the_oldest_go_first() {
        let stored = Arc::new(Stored::default());
        for n in 0..=RESPONSES_MAX {
            keep(&stored, &n.to_string(), "one", "why");
        }
        let one = Spender::named("one");
        assert!(stored.object("0", &one).is_none());
        assert_eq!(stored.lock().len(), RESPONSES_MAX);
        let large = "x".repeat(RESPONSES_BYTES_MAX / 2);
        keep(&stored, "large", "one", &large);
        assert!(stored.object("1", &one).is_none(), "for the number");
        assert!(stored.object("2", &one).is_some());
        keep(&stored, "larger", "one", &large);
        assert!(stored.object("2", &one).is_none(), "for the bytes");
        assert!(stored.object("larger", &one).is_some());
        let held: usize = stored.lock().values().map(|entry| entry.bytes).sum();
        assert!(held <= RESPONSES_BYTES_MAX);
    }
}
