//! The written rule for changes of clocks, in every time zone that there is, against an oracle that knows nothing of rules or gaps: it
//! walks the minutes that pass and writes down what the wall clocks show.

use std::collections::{BTreeMap, BTreeSet};

use gusher::schedule::Rule;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const MINUTE: i64 = 60_000;
/// The oracle looks at so many minutes before and behind a change.
const BEFORE: i64 = 5 * 60;
const BEHIND: i64 = 5 * 60;

/// A rule as the oracle knows it: minutes and hours that are named, or every hour.
struct Named {
    minutes: BTreeSet<i8>,
    hours: Option<BTreeSet<i8>>,
}

impl Named {
    fn text(&self) -> String {
        let list = |numbers: &BTreeSet<i8>| numbers.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
        let hours = self.hours.as_ref().map_or("*".to_owned(), list);
        format!("{} {hours} * * *", list(&self.minutes))
    }

    fn names(&self, wall: DateTime) -> bool {
        let hour = self.hours.as_ref().is_none_or(|hours| hours.contains(&wall.hour()));
        hour && self.minutes.contains(&wall.minute())
    }
}

/// What the clocks of a zone show in the minutes around a change, and the minutes at which they show it.
struct Walk {
    from: i64,
    to: i64,
    shown: BTreeMap<DateTime, Vec<i64>>,
}

impl Walk {
    fn around(zone: &TimeZone, change: i64) -> Self {
        let (from, to) = (change - BEFORE * MINUTE, change + BEHIND * MINUTE);
        let mut shown: BTreeMap<DateTime, Vec<i64>> = BTreeMap::new();
        for minute in (from..=to).step_by(MINUTE as usize) {
            let wall = zone.to_datetime(Timestamp::from_millisecond(minute).unwrap());
            shown.entry(wall).or_default().push(minute);
        }
        Self { from, to, shown }
    }

    /// The instants that a rule means, by the letter of what is written.
    fn instants(&self, named: &Named) -> Vec<i64> {
        let mut instants = BTreeSet::new();
        let (mut wall, last) = (*self.shown.keys().next().unwrap(), *self.shown.keys().next_back().unwrap());
        while wall <= last {
            if named.names(wall) {
                match (self.shown.get(&wall), &named.hours) {
                    // A rule that names no hour: whenever the clocks show it.
                    (Some(minutes), None) => instants.extend(minutes.iter().copied()),
                    // It exists twice: once.
                    (Some(minutes), Some(_)) => drop(instants.insert(minutes[0])),
                    (None, None) => {}
                    // It does not exist: the first minute whose wall clock has gone past it.
                    (None, Some(_)) => {
                        let later = self.shown.range(wall..).flat_map(|(_, minutes)| minutes).min();
                        instants.extend(later.copied());
                    }
                }
            }
            wall = wall.checked_add(jiff::SignedDuration::from_mins(1)).unwrap();
        }
        instants.into_iter().collect()
    }
}

/// Numbers by chance, the same ones in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// A rule that names times near a wall clock's.
    fn rule_near(&mut self, wall: DateTime) -> Named {
        let minutes = match self.below(4) {
            0 => [self.below(60) as i8].into(),
            1 => [0, 30].into(),
            2 => (0..60).step_by(15).collect(),
            _ => (0..60).collect(),
        };
        let near = |dice: &mut Self| (wall.hour() + 22 + dice.below(5) as i8).rem_euclid(24);
        let hours = match self.below(4) {
            0 => None,
            1 => Some([near(self), near(self), near(self)].into()),
            _ => Some([near(self)].into()),
        };
        Named { minutes, hours }
    }
}

#[test]
fn every_zone_follows_the_written_rule_around_each_change_of_its_clocks() {
    let (start, end): (Timestamp, Timestamp) =
        ("2020-01-01T00:00:00Z".parse().unwrap(), "2038-01-01T00:00:00Z".parse().unwrap());
    let (mut zones, mut changes, mut instants) = (0, 0, 0);
    let mut dice = Dice(7);
    for name in jiff::tz::db().available() {
        let name = name.as_str();
        let zone = TimeZone::get(name).unwrap();
        zones += 1;
        for change in zone.following(start).take_while(|change| change.timestamp() < end) {
            changes += 1;
            let at = change.timestamp().as_millisecond();
            let walk = Walk::around(&zone, at);
            for _ in 0..3 {
                let named = dice.rule_near(zone.to_datetime(change.timestamp()));
                let rule = Rule::cron(&named.text(), name).unwrap();
                // Near the ends of the walk the oracle does not see what a wall clock showed before or shows later.
                let (from, to) = (walk.from + 200 * MINUTE, walk.to - 200 * MINUTE);
                let seen = |instant: &i64| (from..to).contains(instant);
                let wanted: Vec<i64> = walk.instants(&named).into_iter().filter(|at| seen(at)).collect();
                let found: Vec<i64> = rule.instants_from(from).take_while(seen).collect();
                assert_eq!(found, wanted, "`{}` in {name} around {}", named.text(), change.timestamp());
                // Whoever asks between two instants is told the later one.
                for pair in found.windows(2) {
                    assert_eq!(rule.next_after(pair[0] + (pair[1] - pair[0]) / 2), Some(pair[1]), "{}", named.text());
                }
                instants += found.len();
            }
        }
    }
    println!("{zones} zones, {changes} changes, {instants} instants");
    assert!(
        zones > 400 && changes > 5_000 && instants > changes,
        "{zones} zones, {changes} changes, {instants} instants"
    );
}
