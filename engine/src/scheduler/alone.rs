//! One job and nothing beside it.

use std::ops::ControlFlow;

use super::{Event, Job, Limits, Refused, Scheduler, Tokens};
use crate::forward::Forward;

/// Runs a job to its end, on this thread. What it is told is what it would be told among others; `Break` cancels it. Its prompt is
/// computed in as large pieces as `forward` takes, and nobody looks at the time.
///
/// # Errors
/// The job is out of bounds, or larger than the memory.
pub fn complete(
    forward: &mut dyn Forward,
    tokens: &Tokens,
    job: Job,
    tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(), Refused> {
    let rows_max = forward.shape().rows_max;
    let limits = Limits {
        sequences_max: 1,
        rows_max,
        chunk: rows_max,
        ..Limits::default()
    };
    let mut scheduler = Scheduler::new(*forward.shape(), tokens.clone(), limits);
    let id = scheduler.submit(job)?;
    while !scheduler.is_idle() {
        let mut goes_on = true;
        scheduler.step(forward, 0, &mut |_, event| {
            goes_on &= tell(event).is_continue();
        });
        if !goes_on {
            scheduler.cancel(id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Finish;
    use super::super::tests::{Fake, Plain, alone, job, tokens};
    use super::*;

    #[test]
    fn a_job_ends_as_it_does_among_others() {
        for seed in 0..6 {
            let wanted = job(seed, 3 + seed as usize, 9);
            let (mut made, mut last) = (Vec::new(), None);
            let mut fake = Fake::new(16, 8, 40);
            let done = complete(&mut fake, &tokens(), wanted.job(), &mut |event| {
                match event {
                    Event::Token { token, .. } => made.push(token),
                    other => last = Some(other),
                }
                ControlFlow::Continue(())
            });
            assert_eq!(done, Ok(()));
            assert_eq!(made, alone(&wanted).0);
            assert!(matches!(last, Some(Event::Ended(_))), "{last:?}");
        }
    }

    #[test]
    fn who_hears_may_break_off_and_what_does_not_fit_is_refused() {
        let endless = Plain {
            stops: Vec::new(),
            ..job(1, 3, 30)
        };
        let (mut events, mut fake) = (Vec::new(), Fake::new(16, 8, 40));
        let done = complete(&mut fake, &tokens(), endless.job(), &mut |event| {
            let stop = matches!(event, Event::Token { .. });
            events.push(event);
            if stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(done, Ok(()));
        assert_eq!(events.len(), 3, "{events:?}");
        assert_eq!(events[2], Event::Ended(Finish::Cancelled));
        let large = job(1, 4_000, 1);
        let refused = complete(&mut fake, &tokens(), large.job(), &mut |event| {
            panic!("{event:?}")
        });
        assert!(matches!(refused, Err(Refused::Request(_))), "{refused:?}");
    }
}
