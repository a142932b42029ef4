//! What happens to workers of a game: time goes by, clocks jump, workers die or leave.

use super::game::{Game, LEASE, Verdict, ensure, sure};
use crate::clock::Millis;
use crate::store::{LeaseReport, Renew, Tick};

/// Time goes by in such steps while somebody looks.
const STEP: Millis = 100;

impl Game {
    pub async fn renew_all(&mut self) -> Verdict {
        for hand in 0..self.hands.len() {
            self.renew(hand).await?;
        }
        Ok(())
    }

    pub async fn renew(&mut self, hand: usize) -> Verdict {
        let leases: Vec<u64> = self.hands[hand].held.keys().copied().collect();
        let session = self.hands[hand].session;
        let renew = Renew { session, leases, drafts: Vec::new(), progress: Vec::new(), lease: LEASE };
        let renewed = sure(self.store.renew(renew).await)?;
        ensure(renewed.lost.is_empty(), || format!("worker {hand} has lost {:?}", renewed.lost))
    }

    /// A little time, which everybody lives through.
    pub async fn time_goes_by(&mut self) -> Verdict {
        self.renew_all().await?;
        let time = [10, 90, 400][self.dice.below(3)];
        self.say(|| format!("{time} ms go by"));
        self.clock.advance(time);
        self.renew_all().await
    }

    /// The clock is set, or nobody looked for long: that costs nobody a lease.
    pub async fn clock_jumps(&mut self) -> Verdict {
        self.renew_all().await?;
        let by = [3_600_000, -200, 20_000][self.dice.below(3)];
        self.say(|| format!("the clock jumps by {by} ms"));
        self.clock.advance(by);
        self.renew_all().await
    }

    /// A worker is killed; the others live on until the store has noticed.
    pub async fn worker_dies(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let new = self.new_hand().await?;
        let dead = std::mem::replace(&mut self.hands[hand], new);
        self.say(|| format!("worker {hand} dies with {:?}", dead.held.keys().collect::<Vec<_>>()));
        for _ in 0..LEASE * 3 / 2 / STEP {
            self.clock.advance(STEP);
            self.renew_all().await?;
            sure(self.store.tick(Tick { lease: LEASE }).await)?;
        }
        for (lease, held) in dead.held {
            let jobs: Vec<usize> = held.jobs.iter().map(|at| held.first + at).collect();
            self.models[held.workflow].died(held.step, &jobs);
            let late = LeaseReport { lease, number: held.reports + 1, succeeded: held.jobs, ..LeaseReport::default() };
            self.late.push((dead.session, late));
        }
        Ok(())
    }

    /// A worker stops as it should: what it holds goes back as it was.
    pub async fn worker_leaves(&mut self) -> Verdict {
        let hand = self.dice.below(self.hands.len());
        let new = self.new_hand().await?;
        let gone = std::mem::replace(&mut self.hands[hand], new);
        self.say(|| format!("worker {hand} leaves"));
        while sure(self.store.leave(gone.session).await)?.more {}
        for held in gone.held.values() {
            for at in held.jobs.iter() {
                self.models[held.workflow].reported(held.step, held.first + at, None);
            }
        }
        Ok(())
    }
}
