//! What a schedule that is due fires, and what it passes over. Pure.

use std::collections::VecDeque;

use super::cron::Rule;
use super::definition::Missed;
use crate::clock::Millis;
use crate::store::{MAX_FIRED, PassedOver};

/// How many instants of a rule are looked at, at most: more are dealt with by the next look.
const LOOKED_AT: u64 = 10_000;

/// What becomes of the instants up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Those that are fired now, in order.
    pub instants: Vec<Millis>,
    /// Those that are passed over: they lie before all that are fired.
    pub passed_over: Option<PassedOver>,
    /// The first that has not been dealt with; `None` if the rule has come to its end.
    pub next: Option<Millis>,
}

/// What is to be done at `now` about a rule whose `next` instant has come. An instant is late once it lies more than `grace` back. What is
/// not late is fired. Of what is late, `missed` says what is: with `Last`, nothing if something is due that is on time.
pub fn due(rule: &Rule, missed: Missed, grace: Millis, next: Millis, now: Millis) -> Due {
    let on_time = now.saturating_sub(grace);
    let keep = match missed {
        Missed::None => 0,
        Missed::Last => 1,
        Missed::All(most) => most as usize,
    };
    let (mut late, mut over) = (VecDeque::new(), None);
    let (mut at, mut looked_at) = (Some(next), 0);
    if let Some((instants, last, first)) = rule.skipped(next, on_time, keep as u64 + 1) {
        pass_over(&mut over, PassedOver { from: next, to: last, count: instants });
        at = Some(first);
    }
    while let Some(instant) = at.filter(|at| *at < on_time) {
        if looked_at == LOOKED_AT {
            // There is more to be looked at before it is known what of this is fired.
            return Due { instants: Vec::new(), next: late.front().copied().or(at), passed_over: over };
        }
        looked_at += 1;
        late.push_back(instant);
        if late.len() > keep {
            late.pop_front().into_iter().for_each(|instant| pass_over(&mut over, one(instant)));
        }
        at = rule.next_after(instant);
    }
    // The last one that was missed is made up for by one that is on time.
    if missed == Missed::Last && at.is_some_and(|at| at <= now) {
        late.drain(..).for_each(|instant| pass_over(&mut over, one(instant)));
    }
    let mut instants: Vec<Millis> = late.into();
    while let Some(instant) = at.filter(|at| *at <= now) {
        if instants.len() >= MAX_FIRED {
            break;
        }
        instants.push(instant);
        at = rule.next_after(instant);
    }
    if instants.len() > MAX_FIRED {
        at = Some(instants[MAX_FIRED]);
        instants.truncate(MAX_FIRED);
    }
    Due { instants, passed_over: over, next: at }
}

fn one(instant: Millis) -> PassedOver {
    PassedOver { from: instant, to: instant, count: 1 }
}

/// Adds what follows behind those that are passed over already.
fn pass_over(over: &mut Option<PassedOver>, more: PassedOver) {
    *over = Some(match *over {
        None => more,
        Some(range) => PassedOver { to: more.to, count: range.count + more.count, ..range },
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Millis = 3_600_000;

    fn hourly() -> Rule {
        Rule::every(Duration::from_secs(3_600)).unwrap()
    }

    fn over(from: Millis, to: Millis, count: u64) -> Option<PassedOver> {
        Some(PassedOver { from: from * HOUR, to: to * HOUR, count })
    }

    #[test]
    fn what_is_on_time_is_fired_each_instant_by_itself() {
        let rule = Rule::every(Duration::from_millis(20)).unwrap();
        let due = due(&rule, Missed::Last, 60_000, 1_000, 1_050);
        assert_eq!(due, Due { instants: vec![1_000, 1_020, 1_040], passed_over: None, next: Some(1_060) });
    }

    #[test]
    fn of_what_was_missed_the_last_one_is_fired_unless_told_otherwise() {
        let missed = |missed| due(&hourly(), missed, 60_000, 10 * HOUR, 14 * HOUR + 600_000);
        let last = missed(Missed::Last);
        assert_eq!((last.instants, last.passed_over, last.next), (vec![14 * HOUR], over(10, 13, 4), Some(15 * HOUR)));
        let all = missed(Missed::All(3));
        assert_eq!(all.instants, [12 * HOUR, 13 * HOUR, 14 * HOUR]);
        assert_eq!(all.passed_over, over(10, 11, 2));
        let none = missed(Missed::None);
        assert_eq!((none.instants, none.passed_over, none.next), (vec![], over(10, 14, 5), Some(15 * HOUR)));
    }

    #[test]
    fn what_is_on_time_makes_up_for_the_last_that_was_missed() {
        let due = |missed| due(&hourly(), missed, 60_000, 10 * HOUR, 12 * HOUR + 1_000);
        assert_eq!((due(Missed::Last).instants, due(Missed::Last).passed_over), (vec![12 * HOUR], over(10, 11, 2)));
        assert_eq!(due(Missed::All(10)).instants, [10 * HOUR, 11 * HOUR, 12 * HOUR]);
    }

    #[test]
    fn a_year_of_short_intervals_is_passed_over_at_once() {
        let rule = Rule::every(Duration::from_millis(20)).unwrap();
        let now = 365 * 24 * HOUR;
        let due = due(&rule, Missed::All(2), 60_000, 20, now);
        let (first, over) = (due.instants[0], due.passed_over.unwrap());
        assert_eq!(first, now - 60_000 - 40);
        assert_eq!((over.from, over.to, over.count), (20, first - 20, (first / 20 - 1) as u64));
        assert_eq!(due.instants.len(), MAX_FIRED);
        assert_eq!(due.next, Some(first + 20 * MAX_FIRED as Millis));
    }

    #[test]
    fn a_rule_without_an_interval_is_worked_off_part_by_part_and_nothing_is_lost_in_between() {
        let rule = Rule::cron("* * * * *", "UTC").unwrap();
        let (mut next, now) = (0, 25_000 * 60_000 + 30_000);
        let (mut fired, mut count, mut expected) = (Vec::new(), 0, 0);
        while let Some(instant) = Some(next).filter(|next| *next <= now) {
            let due = due(&rule, Missed::All(3), 10_000, instant, now);
            if let Some(over) = due.passed_over {
                assert_eq!(over.from, expected);
                assert_eq!(over.to - over.from, (over.count as Millis - 1) * 60_000);
                (count, expected) = (count + over.count, over.to + 60_000);
            }
            fired.extend(due.instants);
            next = due.next.unwrap();
        }
        assert_eq!(fired, [24_998 * 60_000, 24_999 * 60_000, 25_000 * 60_000]);
        assert_eq!(count, 24_998);
    }
}
