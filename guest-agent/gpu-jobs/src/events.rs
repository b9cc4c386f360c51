//! What a job is told, as a message and back.

use engine::sampling::Logprobs;
use engine::scheduler::{Event, Finish, Refused};
use wire::{WorkerAnswer, WorkerEnd, WorkerToken};

/// What the process that computes says of a job.
pub fn message(job: u64, event: Event) -> WorkerAnswer {
    let end = match event {
        Event::Started { cached } => return WorkerAnswer::Started { job, cached },
        Event::Token { token, logprobs } => {
            let list = logprobs.as_ref().map(|of| (of.chosen, &of.top[..]));
            return WorkerAnswer::Tokens(vec![WorkerToken::new(job, token, list)]);
        }
        Event::Ended(Finish::Stop) => WorkerEnd::Stop,
        Event::Ended(Finish::Length) => WorkerEnd::Length,
        Event::Ended(Finish::Deadline) | Event::Refused(Refused::Late) => WorkerEnd::Deadline,
        Event::Ended(Finish::Cancelled) | Event::Refused(Refused::Cancelled) => {
            WorkerEnd::Cancelled
        }
        Event::Refused(Refused::Busy { .. } | Refused::Stopped) => WorkerEnd::Busy,
        Event::Refused(
            Refused::Request(_)
            | Refused::TooLarge { .. }
            | Refused::PrefixDiffers
            | Refused::Unfit,
        ) => WorkerEnd::Request,
        Event::Failed => WorkerEnd::Failed,
    };
    WorkerAnswer::Ended { job, end }
}

/// How a job ended that had `started` or had not; none if it cannot end so.
pub fn event(end: WorkerEnd, started: bool) -> Option<Event> {
    Some(match (end, started) {
        (WorkerEnd::Stop, true) => Event::Ended(Finish::Stop),
        (WorkerEnd::Length, true) => Event::Ended(Finish::Length),
        (WorkerEnd::Deadline, true) => Event::Ended(Finish::Deadline),
        (WorkerEnd::Deadline, false) => Event::Refused(Refused::Late),
        (WorkerEnd::Cancelled, true) => Event::Ended(Finish::Cancelled),
        (WorkerEnd::Cancelled, false) => Event::Refused(Refused::Cancelled),
        (WorkerEnd::Request, false) => Event::Refused(Refused::Unfit),
        (WorkerEnd::Busy, false) => Event::Refused(Refused::Stopped),
        (WorkerEnd::Failed, _) => Event::Failed,
        (WorkerEnd::Stop | WorkerEnd::Length, false)
        | (WorkerEnd::Request | WorkerEnd::Busy, true) => return None,
    })
}

/// A token as it came.
pub fn token(token: &WorkerToken) -> Event {
    let list = token.logprobs();
    Event::Token {
        token: token.id(),
        logprobs: list.map(|(chosen, top)| Logprobs { chosen, top }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::RequestError;

    #[test]
    fn what_becomes_of_a_job_comes_out_at_the_other_end() {
        let ended = |finish| (true, Event::Ended(finish));
        for (started, said) in [
            ended(Finish::Stop),
            ended(Finish::Length),
            ended(Finish::Deadline),
            ended(Finish::Cancelled),
            (false, Event::Refused(Refused::Late)),
            (false, Event::Refused(Refused::Cancelled)),
            (false, Event::Refused(Refused::Unfit)),
            (false, Event::Refused(Refused::Stopped)),
            (true, Event::Failed),
            (false, Event::Failed),
        ] {
            let WorkerAnswer::Ended { job: 7, end } = message(7, said.clone()) else {
                panic!("{said:?} is no end");
            };
            assert_eq!(event(end, started), Some(said));
        }
        for (end, started) in [
            (WorkerEnd::Stop, false),
            (WorkerEnd::Length, false),
            (WorkerEnd::Request, true),
            (WorkerEnd::Busy, true),
        ] {
            assert_eq!(event(end, started), None);
        }
        let unfit = Event::Refused(RequestError::PromptEmpty.into());
        let end = WorkerEnd::Request;
        assert_eq!(message(1, unfit), WorkerAnswer::Ended { job: 1, end });
    }

    #[test]
    fn a_token_comes_with_its_log_probabilities() {
        let top = vec![(3, -0.5), (9, -2.25)];
        for logprobs in [None, Some(Logprobs { chosen: -0.5, top })] {
            let said = Event::Token { token: 3, logprobs };
            let WorkerAnswer::Tokens(tokens) = message(1, said.clone()) else {
                panic!("no tokens");
            };
            assert_eq!((tokens[0].job, token(&tokens[0])), (1, said));
        }
    }
}
